"""Chairs, stools, benches, office chairs, deck chairs."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import BLACK
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, fabric, hard, metal, paint, plain, wood
from mdtdist.data.generated.parts.backs import any_back
from mdtdist.data.generated.parts.supports import Span, spread_feet, stand
from mdtdist.data.generated.parts.upholstery import curved, cushion, leaning, seat_board, slats
from mdtdist.data.generated.solids import Solid, around, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, rod, rounded_path, spline, torus, tube
from mdtdist.representations.triangles import TexturedTriangles

_CHAIR_LEGS = {
    "straight": 5.0,
    "splayed": 3.0,
    "turned": 1.5,
    "curved": 1.0,
    "sled": 1.0,
    "cantilever": 1.0,
    "pedestal": 0.7,
    "basket": 0.4,
}
_STOOL_LEGS = {"straight": 3.0, "splayed": 4.0, "hairpin": 1.0, "pedestal": 2.0, "basket": 1.0, "turned": 1.0}
_BENCH_LEGS = {"straight": 3.0, "trestle": 2.0, "slab": 2.0, "hairpin": 1.0, "sled": 1.0, "turned": 1.0}


def chair(rng: Rng) -> TexturedTriangles:
    """Seat, back and legs of every common kind, often with arms."""
    frame, cover = hard(rng), pick(rng, (fabric, wood, paint), (5, 2, 2))(rng)
    span = Span(
        width=between(rng, 0.4, 0.54),
        depth=between(rng, 0.38, 0.5),
        height=between(rng, 0.38, 0.47),
        thickness=between(rng, 0.025, 0.055),
    )
    parts, top = seat_on(rng, span, frame, cover)
    parts += back_behind(rng, span, top, frame, cover)
    if chance(rng, 0.3):
        parts += coat(armrests(rng, span, top), frame)
    return merge([*stand(rng, span, frame, _CHAIR_LEGS), *parts])


def stool(rng: Rng) -> TexturedTriangles:
    """From footstool to bar stool; round, square or saddle-shaped, some with a low back."""
    frame, cover = hard(rng), pick(rng, (fabric, wood, paint), (3, 3, 2))(rng)
    width, height = between(rng, 0.28, 0.45), between(rng, 0.28, 0.78)
    span = Span(width=width, depth=width, height=height, thickness=between(rng, 0.025, 0.05))
    legs = stand(rng, span, frame, _STOOL_LEGS)
    if chance(rng, 0.5):
        thickness = between(rng, 0.03, 0.1)
        disc = superquadric((0.55 * width, 0.55 * width, thickness / 2), roundness=(0.35, 1.0), sides=24)
        seat, top = [painted(disc.moved(z=height + 0.45 * thickness), cover)], height + thickness
    else:
        seat, top = seat_on(rng, span, frame, cover)
    back = back_behind(rng, span, top, frame, cover, height=0.3) if chance(rng, 0.2) else []
    return merge([*legs, *seat, *back])


def bench(rng: Rng) -> TexturedTriangles:
    """A long seat of one board or slats, with or without a back and arms."""
    frame, board = hard(rng), pick(rng, (wood, wood, paint, fabric))(rng)
    span = Span(
        width=between(rng, 0.9, 1.7),
        depth=between(rng, 0.34, 0.5),
        height=between(rng, 0.34, 0.44),
        thickness=between(rng, 0.04, 0.08),
    )
    parts = stand(rng, span, frame, _BENCH_LEGS)
    number, thickness = pick(rng, (1, count(rng, 3, 7))), between(rng, 0.025, 0.06)
    parts += coat([solid.moved(z=span.height) for solid in slats(span.width, span.depth, number, thickness)], board)
    if chance(rng, 0.55):
        parts += bench_back(rng, span, frame, board, number)
    return merge(parts)


def bench_back(rng: Rng, span: Span, frame: Finish, board: Finish, number: int) -> Parts:
    """Posts that lean back, boards across them, and sometimes arms at the ends."""
    tall, lean = between(rng, 0.36, 0.5), between(rng, 4, 14)
    boards = [solid.turned("x", 90).moved(z=0.6 * tall) for solid in slats(span.width, 0.75 * tall, number, 0.03)]
    post = rounded_box(0.045, 0.03, tall, radius=0.006)
    posts = [post.moved(x * span.width, 0.015) for x in (-0.44, 0.0, 0.44)]
    rear = span.depth / 2 - 0.02
    parts = coat([solid.moved(y=rear, z=span.height) for solid in leaning(boards, lean)], board)
    parts += coat([solid.moved(y=rear, z=span.height) for solid in leaning(posts, lean)], frame)
    return parts + (coat(armrests(rng, span, span.height), frame) if chance(rng, 0.5) else [])


def seat_on(rng: Rng, span: Span, frame: Finish, cover: Finish) -> tuple[Parts, float]:
    """A seat on top of legs, and the height of its surface: a board, a cushion, a cushion on a board."""
    kind, thickness = pick(rng, ("board", "cushion", "both"), (3, 2, 3)), between(rng, 0.018, 0.04)
    width, depth = span.width + 0.015, span.depth + 0.015
    if kind == "board":
        boards = seat_board(rng, width, depth, thickness)
        return coat([board.moved(z=span.height) for board in boards], cover), span.height + thickness
    height = between(rng, 0.05, 0.1)
    pad = cushion(width - 0.01, depth - 0.01, height, puff=between(rng, 0.1, 0.35)).moved(z=span.height)
    if kind == "cushion":
        return [painted(pad, cover)], span.height + height
    base = rounded_box(width, depth, thickness, radius=0.2 * thickness).moved(z=span.height)
    return [painted(base, frame), painted(pad.moved(z=thickness), cover)], span.height + thickness + height


def back_behind(
    rng: Rng, span: Span, top: float, frame: Finish, cover: Finish, *, height: float | None = None
) -> Parts:
    """A back at the rear edge of a seat whose surface lies at ``top``; it starts a little below."""
    tall, bar = between(rng, 0.35, 0.62) if height is None else height, max(span.thickness * 0.8, 0.02)
    bars, filling = any_back(rng, span.width, tall, bar)
    lean, rear, low = between(rng, 3, 16), span.depth / 2 - 0.5 * bar, top - 0.04
    parts = coat([solid.moved(y=rear, z=low) for solid in leaning(bars, lean)], frame)
    return parts + coat([solid.moved(y=rear, z=low) for solid in leaning(filling, lean)], cover)


def armrests(rng: Rng, span: Span, top: float) -> list[Solid]:
    """Left and right: a bent bar from seat to back, or a board on a post."""
    x, reach, rise, bar = span.width / 2, 0.42 * span.depth, between(rng, 0.18, 0.26), span.thickness
    if chance(rng, 0.5):
        line = [(x, -reach, top - 0.03), (x, -reach, top + rise), (x, span.depth / 2 + 0.03, top + rise)]
        return pair(tube(rounded_path(line, between(rng, 0.03, 0.12)), max(0.35 * bar, 0.012)))
    board = rounded_box(1.6 * bar, 1.06 * span.depth, 0.025, radius=0.008).moved(x, 0.02, top + rise)
    post = rounded_box(0.8 * bar, 0.8 * bar, rise + 0.06, radius=0.004).moved(x, -reach, top - 0.05)
    return pair(board, post)


def office_chair(rng: Rng) -> TexturedTriangles:
    """A swivel chair: star of feet with castors, column, padded seat, curved back, arms."""
    frame, cover, dark = metal(rng), fabric(rng), plain(BLACK)
    span = Span(width=0.48, depth=0.46, height=between(rng, 0.4, 0.5), thickness=0.04)
    feet = [arm.moved(z=0.06) for arm in spread_feet(rng, 0.3, 0.05, 0.045)]
    castor = cylinder(0.03, 0.03, sides=12).moved(z=-0.015).turned("y", 90).moved(0, -0.29, 0.03)
    column = [cylinder(0.045, 0.14).moved(z=0.08), cylinder(0.025, span.height - 0.1).moved(z=0.1)]
    seat = cushion(span.width, span.depth, 0.08).moved(z=span.height)
    tall, low = between(rng, 0.35, 0.7), span.height + 0.16
    pad = curved(cushion(0.44, tall, 0.06).turned("x", 90).moved(z=tall / 2), between(rng, 0.02, 0.08), span.width)
    back = leaning([pad], between(rng, 2, 12))[0].moved(0, span.depth / 2 + 0.03, low)
    line = [(0, 0, span.height), (0, span.depth / 2 + 0.06, span.height), (0, span.depth / 2 + 0.06, low + 0.2)]
    bar = tube(rounded_path(line, 0.08), 0.022)
    parts = coat([*feet, *column, bar], frame) + coat(around(len(feet), castor), dark) + coat([seat, back], cover)
    if chance(rng, 0.6):
        parts += coat(armrests(rng, span, span.height + 0.06), pick(rng, (frame, dark)))
    return merge(parts)


def deck_chair(rng: Rng) -> TexturedTriangles:
    """A reclining frame with cloth: deck chair, sun lounger, rocking chair."""
    frame, cover = hard(rng), fabric(rng)
    half, bar = between(rng, 0.22, 0.32), between(rng, 0.014, 0.022)
    line = [
        (0.0, -between(rng, 0.5, 0.9), 0.34),
        (0.0, 0.0, between(rng, 0.22, 0.3)),
        (0.0, between(rng, 0.35, 0.55), 0.85),
    ]
    cloth = tube(spline(line, steps=6), 0.014, sides=4).scaled(x=half / 0.014)
    side = tube(rounded_path(line, 0.15, steps=5), bar).moved(half)
    rods = [rod((-half, y, z), (half, y, z), bar) for y, z in ((line[0][1], 0.34), (line[2][1], 0.85), (0.0, 0.25))]
    parts = coat([*pair(side, *lounger_props(rng, half, bar, line)), *rods], frame)
    return merge([painted(cloth, cover), *parts])


def lounger_props(rng: Rng, x: float, bar: float, line: list[tuple[float, float, float]]) -> list[Solid]:
    """Crossed struts, or a rocker on two posts, on one side of a deck chair."""
    foot, head = line[0][1], line[2][1]
    if chance(rng, 0.3):
        curve = [(x, foot, 0.12), (x, -0.2, 0.02), (x, 0.2, 0.02), (x, head + 0.2, 0.14)]
        return [tube(spline(curve), bar), *(rod((x, y, 0.03), (x, y, 0.26), bar) for y in (-0.2, 0.1))]
    return [rod((x, -0.35, 0), (x, 0.25, 0.55), bar), rod((x, 0.4, 0), (x, 0.5 * foot, 0.32), bar)]


def papasan(rng: Rng) -> TexturedTriangles:
    """A bowl of hoops and ribs that holds a round cushion, tilted forward on a stand."""
    frame, cover = hard(rng), fabric(rng)
    hoops = [torus(0.42 * np.sqrt(level), 0.018, rings=6).moved(z=0.3 * level) for level in (0.2, 0.5, 1.0)]
    rib = tube([(0.1, 0, 0.01), (0.3, 0, 0.15), (0.42, 0, 0.3)], 0.012, sides=6)
    pad = superquadric((0.37, 0.37, 0.09), roundness=(0.7, 1.0), sides=20).moved(z=0.24)
    tilt, height = between(rng, 5, 28), between(rng, 0.22, 0.34)
    parts = coat([solid.turned("x", tilt).moved(z=height) for solid in (*hoops, *around(12, rib))], frame)
    posts = around(4, rod((0.26, 0, 0), (0.17, 0, height + 0.06), 0.018), start=45)
    return merge(
        [*parts, painted(pad.turned("x", tilt).moved(z=height), cover), *coat([torus(0.27, 0.02), *posts], frame)]
    )
