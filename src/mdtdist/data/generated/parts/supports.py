"""What furniture stands on: legs of many kinds, frames, pedestals; all between the floor and a height."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish
from mdtdist.data.generated.solids import Solid, around, box, corners_of, pair, rounded_box
from mdtdist.data.generated.sweeps import arc, cylinder, narrowed, revolve, rod, rounded_path, spline, tube


@dataclass(frozen=True, kw_only=True)
class Span:
    """The space below a seat or a top, object units: it stands on the origin.

    Attributes:
        thickness: of a square leg; other members follow from it.
    """

    width: float
    depth: float
    height: float
    thickness: float


def straight_legs(rng: Rng, span: Span) -> list[Solid]:
    """Four square or round posts in the corners, often tapered, sometimes with stretchers."""
    taper, size = pick(rng, (1.0, between(rng, 0.5, 0.8)), (2, 1)), span.thickness
    if chance(rng, 0.4):
        leg = cylinder(size / 2 * taper, span.height, top=size / 2, sides=12)
    else:
        post = rounded_box(size, size, span.height, radius=0.12 * size)
        leg = narrowed(post, lambda z: taper + (1 - taper) * z / span.height)
    legs = [leg.moved(x, y) for x, y in _corners(span)]
    return legs + (stretchers(rng, span) if chance(rng, 0.35) else [])


def turned_legs(rng: Rng, span: Span) -> list[Solid]:
    """Four legs from a lathe: rings, bulges and waists."""
    number = count(rng, 4, 7)
    heights = np.linspace(0, 0.8 * span.height, number)
    radii = 0.5 * span.thickness * rng.uniform(0.45, 1.15, number)
    line = spline(np.stack([radii, heights], axis=1), steps=2)
    line[:, 0] = line[:, 0].clip(0.15 * span.thickness)
    top = 0.62 * span.thickness
    leg = revolve([(0, 0), *line, (top, 0.82 * span.height), (top, span.height), (0, span.height)], sides=10)
    return [leg.moved(x, y) for x, y in _corners(span)]


def splayed_legs(rng: Rng, span: Span) -> list[Solid]:
    """Four slender legs that lean outward, thinner towards the floor."""
    lean, radius = between(rng, 0.05, 0.22) * span.height, 0.5 * span.thickness
    inset = 0.16 * min(span.width, span.depth)
    legs = []
    for x, y in _corners(span, inset=inset):
        foot = (x + float(np.sign(x)) * lean, y + float(np.sign(y)) * lean, 0.0)
        legs.append(rod(foot, (x, y, span.height), 0.5 * radius, tip=radius, sides=10))
    return legs + (stretchers(rng, span, inset=inset - 0.6 * lean) if chance(rng, 0.3) else [])


def curved_legs(rng: Rng, span: Span) -> list[Solid]:
    """Four cabriole legs: a knee outward, a slim ankle, a foot outward."""
    knee, foot = between(rng, 0.03, 0.08), between(rng, 0.02, 0.1)
    heights = np.array([0.0, 0.15, 0.45, 0.8, 1.0]) * span.height
    shifts = np.array([foot, 0.3 * foot, 0.2 * knee, knee, 0.0]) * span.height
    thick = spline(np.array([[0.42], [0.3], [0.34], [0.62], [0.6]]) * span.thickness, steps=3)[:, 0]
    legs = []
    for x, y in _corners(span):
        line = np.stack([x + shifts * np.sign(x), y + shifts * np.sign(y), heights], axis=1)
        legs.append(tube(spline(line, steps=3), thick, sides=8))
    return legs


def hairpin_legs(rng: Rng, span: Span) -> list[Solid]:
    """In each corner a bent wire that comes down and goes up again."""
    radius, reach = 0.16 * span.thickness + 0.004, between(rng, 0.12, 0.22) * min(span.width, span.depth)
    legs = []
    for x, y in _corners(span):
        ends = [(x, y - float(np.sign(y)) * reach, span.height), (x - float(np.sign(x)) * reach, y, span.height)]
        line = rounded_path([ends[0], (x, y, 0.0), ends[1]], 0.15 * span.height)
        low = line[:, 2].min()  # rounding lifts the corner off the floor
        line[:, 2] = radius + (line[:, 2] - low) * (span.height - radius) / (span.height - low)
        legs.append(tube(line, radius))
    return legs


def sled(rng: Rng, span: Span) -> list[Solid]:
    """Two frames of one bent bar, left and right, and rods between them."""
    bar, is_round = 0.3 * span.thickness, chance(rng, 0.6)
    half, top, x = 0.47 * span.depth, span.height - bar, 0.47 * span.width - bar
    line = [(x, -half, top), (x, -half, bar), (x, half, bar), (x, half, top)]
    frame = tube(rounded_path(line, 0.3 * half if is_round else 0.02), bar, sides=8 if is_round else 4)
    return pair(frame) + [rod((-x, y, top - bar), (x, y, top - bar), 0.8 * bar, sides=6) for y in (-half, half)]


def cantilever(rng: Rng, span: Span) -> list[Solid]:
    """One bent pipe: along the floor, up at the front, back under the seat (Stam, Breuer)."""
    radius, half, depth = 0.32 * span.thickness, 0.46 * span.width, 0.48 * span.depth
    line = [(-half, depth, span.height), (-half, -depth, span.height), (-half, -depth, radius), (-half, depth, radius)]
    line += [(-x, y, z) for x, y, z in reversed(line)]
    return [tube(rounded_path(line, between(rng, 0.06, 0.12)), radius)]


def trestle(rng: Rng, span: Span) -> list[Solid]:
    """Crossed or leaning beams left and right, and a beam between them."""
    x, half, size = 0.4 * span.width, 0.44 * span.depth, 0.5 * span.thickness
    top = -half * pick(rng, (0.2, 1.0))
    legs = [rod((x, sign * half, 0.0), (x, sign * top, span.height), size, sides=4) for sign in (-1, 1)]
    return [*pair(*legs), rod((-x, 0, 0.5 * span.height), (x, 0, 0.5 * span.height), size, sides=4)]


def slab_sides(rng: Rng, span: Span) -> list[Solid]:
    """Two boards as legs, with a rail or a back board between them."""
    thickness, height = 0.6 * span.thickness, span.height * pick(rng, (0.2, 0.7))
    side = rounded_box(thickness, 0.94 * span.depth, span.height, radius=0.1 * thickness)
    back = box(0.92 * span.width, thickness, height).moved(0, 0.2 * span.depth, span.height - height)
    return [*pair(side.moved(x=span.width / 2 - between(rng, 0.6, 1.5) * thickness)), back]


def pedestal(rng: Rng, span: Span) -> list[Solid]:
    """A column in the middle on a disc, or on spread feet."""
    radius, reach = between(rng, 0.5, 1.2) * span.thickness, 0.36 * min(span.width, span.depth)
    foot, top = min(0.06, 0.12 * span.height), span.height
    if chance(rng, 0.5):
        base = [(0, 0), (reach, 0), (reach, 0.4 * foot), (radius, foot)]
        return [revolve([*base, (radius, 0.9 * top), (1.6 * radius, top), (0, top)], sides=24)]
    column = cylinder(radius, top - foot, sides=14).moved(z=foot)
    return [column, *spread_feet(rng, reach * 1.15, foot, radius)]


def spread_feet(rng: Rng, reach: float, height: float, radius: float) -> list[Solid]:
    """Three to five arms on the floor, from the middle outward; the first points to the front."""
    size = 0.55 * radius
    line = spline(
        [(0, 0, height + size), (0, -0.6 * reach, 0.7 * height + 0.5 * size), (0, -reach, 0.45 * size)], steps=3
    )
    return around(count(rng, 3, 5), tube(line, np.linspace(size, 0.45 * size, len(line))))


def basket(rng: Rng, span: Span) -> list[Solid]:
    """Curved slats around a hollow drum, on a ring."""
    radius, bar = 0.4 * min(span.width, span.depth), 0.22 * span.thickness
    waist = between(rng, 0.5, 1.0) * radius
    line = spline([(radius, 0, bar), (waist, 0, 0.5 * span.height), (radius, 0, span.height)], steps=3)
    circle = np.column_stack([arc(radius, 0, 345, pieces=23), np.full(24, bar)])
    return [tube(circle, bar, sides=6, is_loop=True), *around(count(rng, 8, 16), tube(line, bar, sides=5))]


def stretchers(rng: Rng, span: Span, *, inset: float = 0.0) -> list[Solid]:
    """Bars between neighbouring legs: on all sides, or as an H."""
    height, radius, sides = between(rng, 0.12, 0.45) * span.height, 0.3 * span.thickness, pick(rng, (4, 8))
    x, y = _corners(span, inset=inset)[3]
    bars = pair(rod((x, -y, height), (x, y, height), radius, sides=sides))
    across = (0.0,) if chance(rng, 0.5) else (-y, y)
    return bars + [rod((-x, level, height), (x, level, height), radius, sides=sides) for level in across]


LEGS: dict[str, Callable[[Rng, Span], list[Solid]]] = {
    "straight": straight_legs,
    "turned": turned_legs,
    "splayed": splayed_legs,
    "curved": curved_legs,
    "hairpin": hairpin_legs,
    "sled": sled,
    "cantilever": cantilever,
    "trestle": trestle,
    "slab": slab_sides,
    "pedestal": pedestal,
    "basket": basket,
}


def stand(rng: Rng, span: Span, finish: Finish, weights: dict[str, float]) -> Parts:
    """Legs of one of the kinds in ``weights``, in one finish."""
    kind = pick(rng, list(weights), list(weights.values()))
    return coat(LEGS[kind](rng, span), finish)


def _corners(span: Span, *, inset: float = 0.0) -> list[tuple[float, float]]:
    """Where the middles of four legs stand."""
    margin = span.thickness + 2 * inset
    return corners_of(span.width - margin, span.depth - margin)
