"""Tables and desks."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted, placed
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, glass, hard, metal, stone, wood
from mdtdist.data.generated.parts.fronts import with_drawers
from mdtdist.data.generated.parts.supports import Span, stand
from mdtdist.data.generated.parts.upholstery import slats
from mdtdist.data.generated.solids import Solid, pair, rounded_box
from mdtdist.data.generated.sweeps import extrude
from mdtdist.representations.triangles import TexturedTriangles

_TABLE_LEGS = {
    "straight": 6.0,
    "splayed": 2.0,
    "turned": 1.5,
    "curved": 1.0,
    "hairpin": 1.0,
    "sled": 1.0,
    "trestle": 1.5,
    "slab": 1.0,
    "pedestal": 2.0,
    "basket": 0.5,
}
_DESK_LEGS = {"straight": 4.0, "splayed": 1.0, "hairpin": 1.0, "sled": 2.0, "trestle": 1.0, "slab": 3.0}
# Lowest and highest width, depth and height of dining, coffee, side and console tables, metres.
_SIZES = (
    ((1.1, 2.0), (0.7, 1.0), (0.68, 0.78)),
    ((0.7, 1.3), (0.45, 0.75), (0.3, 0.46)),
    ((0.35, 0.6), (0.35, 0.6), (0.4, 0.75)),
    ((0.8, 1.3), (0.3, 0.4), (0.7, 0.9)),
)
# Share of the top that the legs take up, where they would stand out at the corners otherwise.
_INSETS = {"round": (0.58, 0.68), "corners": (0.5, 0.6), "rounded": (0.76, 0.86)}


def table(rng: Rng) -> TexturedTriangles:
    """Dining, coffee, side and console tables of every outline."""
    width, depth, height = (between(rng, low, high) for low, high in pick(rng, _SIZES, (4, 3, 2, 1)))
    return merge(table_of(rng, width, depth, height))


def table_of(rng: Rng, width: float, depth: float, height: float) -> Parts:
    """A table of a given size: top, legs, and perhaps an apron or a shelf below."""
    frame, thickness = hard(rng), between(rng, 0.018, 0.06)
    plate = frame if chance(rng, 0.5) else pick(rng, (wood, stone, glass, hard), (4, 2, 2, 3))(rng)
    shape = pick(rng, ("box", "round", "slats", "rounded", "corners"), (6, 3, 1, 2, 1))
    inset = between(rng, *_INSETS.get(shape, (0.88, 0.99)))
    span = Span(
        width=inset * width,
        depth=inset * depth,
        height=height - thickness,
        thickness=between(rng, 0.03, 0.08) * height**0.5,
    )
    top = [solid.moved(z=span.height) for solid in table_top(rng, shape, width, depth, thickness)]
    parts = coat(top, plate) + stand(rng, span, frame, _TABLE_LEGS)
    if shape == "box" and chance(rng, 0.4):
        parts += coat(apron(rng, span), frame)
    if chance(rng, 0.15):
        shelf = rounded_box(0.9 * span.width, 0.9 * span.depth, 0.02, radius=0.004)
        parts.append(painted(shelf.moved(z=between(rng, 0.15, 0.4) * height), plate))
    return parts


def table_top(rng: Rng, shape: str, width: float, depth: float, thickness: float) -> list[Solid]:
    """A plate on z = 0: a board, an ellipse, slats, with round corners, or a polygon with a few corners."""
    if shape == "slats":
        return slats(width, depth, count(rng, 4, 9), thickness, gap=between(rng, 0.05, 0.3))
    if shape == "box":
        return [rounded_box(width, depth, thickness, radius=between(rng, 0.05, 0.4) * thickness)]
    sides = count(rng, 5, 8) if shape == "corners" else 36
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    wave = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    power = between(rng, 0.25, 0.5) if shape == "rounded" else 1.0
    return [extrude(np.sign(wave) * np.abs(wave) ** power * np.array([width, depth]) / 2, thickness)]


def apron(rng: Rng, span: Span) -> list[Solid]:
    """Boards under the top from leg to leg."""
    height, thickness = between(rng, 0.06, 0.14), 0.4 * span.thickness
    x, y = (size / 2 - 0.5 * span.thickness for size in (span.width, span.depth))
    front, side = (rounded_box(2 * length, thickness, height, radius=0.003) for length in (x, y))
    boards = [front.moved(y=-y), front.moved(y=y), *pair(side.turned("z", 90).moved(x))]
    return [board.moved(z=span.height - height) for board in boards]


def desk(rng: Rng) -> TexturedTriangles:
    """A desk with drawers at one or both sides, under the top, or with an open shelf on it."""
    frame = hard(rng)
    front = pick(rng, (frame, hard(rng)))
    width, depth, height = between(rng, 1.0, 1.7), between(rng, 0.5, 0.75), between(rng, 0.7, 0.76)
    plate = rounded_box(width, depth, 0.03, radius=0.005).moved(z=height - 0.03)
    span = Span(width=0.97 * width, depth=0.94 * depth, height=height - 0.03, thickness=between(rng, 0.035, 0.06))
    parts = [painted(plate, pick(rng, (frame, front))), *stand(rng, span, frame, _DESK_LEGS)]
    chest, low = between(rng, 0.3, 0.42), pick(rng, (0.06, 0.3, 0.52))
    for sign in pick(rng, ((-1,), (1,), (-1, 1), ()), (3, 3, 3, 2)):
        drawers = with_drawers(rng, chest, 0.85 * depth, height - 0.03 - low, (frame, front, metal(rng)))
        parts += [placed(part, sign * (0.46 * width - chest / 2), 0, low) for part in drawers]
    return merge(parts + (desk_shelf(rng, width, depth, height, frame) if chance(rng, 0.25) else []))


def desk_shelf(rng: Rng, width: float, depth: float, height: float, finish: Finish) -> Parts:
    """A low open shelf on the rear edge of a desk."""
    tall, deep = between(rng, 0.2, 0.5), 0.35 * depth
    wall = rounded_box(0.02, deep, tall, radius=0.003).moved(0, 0.5 * (depth - deep), height)
    board = rounded_box(0.96 * width, deep, 0.02, radius=0.003).moved(0, 0.5 * (depth - deep), height + tall)
    return coat([wall, *pair(wall.moved(0.47 * width)), board], finish)
