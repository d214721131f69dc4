"""Cabinets, chests of drawers, wardrobes, shelves with things on them, boxes, picture frames."""

from mdtdist.data.generated.assembly import Parts, coat, fitted, merge, painted, placed
from mdtdist.data.generated.colors import MIRROR, accent_of, paint_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.families.vessels import bowl, jar, vase
from mdtdist.data.generated.finishes import Finish, glass, hard, metal, paint, plain, poster, wood
from mdtdist.data.generated.parts.fronts import (
    BOARD,
    Finishes,
    cabinet_finishes,
    carcass,
    with_door,
    with_drawers,
)
from mdtdist.data.generated.parts.panels import books, frame_bars, panel
from mdtdist.data.generated.parts.supports import Span, stand
from mdtdist.data.generated.solids import Solid, box, pair, rounded_box
from mdtdist.data.generated.sweeps import cylinder, rod, torus
from mdtdist.representations.triangles import TexturedTriangles

_CABINET_LEGS = {"straight": 4.0, "splayed": 2.0, "hairpin": 1.0, "turned": 1.0, "sled": 1.0}
# Lowest and highest width, depth and height of sideboards, chests, bedside tables, wardrobes, cupboards, metres.
_SIZES = (
    ((1.0, 1.8), (0.38, 0.5), (0.5, 0.85)),
    ((0.6, 1.1), (0.4, 0.5), (0.7, 1.2)),
    ((0.35, 0.55), (0.32, 0.45), (0.35, 0.6)),
    ((0.8, 1.8), (0.5, 0.62), (1.7, 2.1)),
    ((0.4, 0.6), (0.3, 0.45), (1.3, 1.9)),
)


def cabinet(rng: Rng) -> TexturedTriangles:
    """Sideboard, chest of drawers, bedside table, wardrobe, cupboard: a body with doors and drawers."""
    finishes = cabinet_finishes(rng)
    width, depth, height = (between(rng, low, high) for low, high in pick(rng, _SIZES))
    lift = between(rng, 0.08, 0.25) if height < 1.1 and chance(rng, 0.5) else 0.0
    columns = max(1, round(width / between(rng, 0.4, 0.65)))
    parts: Parts = []
    for index in range(columns):
        column = cabinet_column(rng, width / columns, depth, height - lift, finishes)
        parts += [placed(part, (index - (columns - 1) / 2) * width / columns, 0, lift) for part in column]
    if lift:
        span = Span(width=0.96 * width, depth=0.9 * depth, height=lift, thickness=0.045)
        parts += stand(rng, span, finishes[0], _CABINET_LEGS)
    plate = rounded_box(width + 0.03, depth + 0.03, 0.03, radius=0.008).moved(z=height)
    return merge([*parts, *([painted(plate, finishes[0])] if chance(rng, 0.6) else [])])


def cabinet_column(rng: Rng, width: float, depth: float, height: float, finishes: Finishes) -> Parts:
    """One column of a cabinet: drawers, a door, an open compartment, or drawers over a door."""
    kind = pick(rng, ("drawers", "door", "open", "both"), (4, 4, 1.5, 2))
    if kind == "drawers":
        return with_drawers(rng, width, depth, height, finishes)
    if kind == "door":
        return with_door(rng, width, depth, height, finishes)
    if kind == "open":
        levels = max(1, round(height / between(rng, 0.28, 0.45)))
        things = contents(rng, width, depth, height, levels, 0.5)
        return coat(carcass(width, depth, height, levels), finishes[0]) + things
    low = between(rng, 0.5, 0.75) * height
    above = with_drawers(rng, width, depth, height - low, finishes)
    return with_door(rng, width, depth, low, finishes) + [placed(part, z=low) for part in above]


def shelf(rng: Rng) -> TexturedTriangles:
    """A bookcase, a cube shelf, a ladder shelf or an open rack, empty or filled."""
    finish, columns, levels = hard(rng), count(rng, 1, 3), count(rng, 2, 5)
    width, depth = columns * between(rng, 0.35, 0.7), between(rng, 0.24, 0.36)
    height = levels * between(rng, 0.28, 0.4)
    if chance(rng, 0.25):
        return merge(rack(rng, width, depth, height, levels, finish))
    with_back, fill = chance(rng, 0.7), pick(rng, (0.0, 0.4, 0.8))
    parts: Parts = []
    for index in range(columns):
        x = (index - (columns - 1) / 2) * (width / columns - BOARD / 2)
        bay = coat(carcass(width / columns, depth, height, levels, with_back=with_back), finish)
        things = contents(rng, width / columns, depth, height, levels, fill)
        parts += [placed(part, x) for part in bay + things]
    return merge(parts)


def rack(rng: Rng, width: float, depth: float, height: float, levels: int, finish: Finish) -> Parts:
    """Boards between four thin posts, the front ones upright or leaning like a ladder."""
    lean, plate = pick(rng, (0.0, between(rng, 0.1, 0.25))), pick(rng, (finish, wood(rng), glass(rng)))
    x, y = width / 2, depth / 2
    posts = [rod((x, -y - lean, 0), (x, -y, height), 0.014), rod((x, y, 0), (x, y, height), 0.014, sides=4)]
    parts = coat(pair(*posts), finish)
    for index in range(levels):
        z = height * (index + 0.15) / levels
        deep = depth + lean * (height - z) / height
        board = rounded_box(width, deep, 0.022, radius=0.004).moved(0, (depth - deep) / 2, z)
        things = things_on(rng, width, depth, 0.7 * height / levels) if chance(rng, 0.5) else []
        parts += [painted(board, plate), *(placed(part, z=z + 0.022) for part in things)]
    return parts


def contents(rng: Rng, width: float, depth: float, height: float, levels: int, fill: float) -> Parts:
    """Things in the compartments of a carcass, each filled with probability ``fill``."""
    parts: Parts = []
    room = (height - BOARD) / levels
    for level in range(levels):
        if chance(rng, fill):
            here = things_on(rng, width - 3 * BOARD, 0.9 * depth, 0.85 * (room - BOARD))
            parts += [placed(part, z=room * level + BOARD) for part in here]
    return parts


def things_on(rng: Rng, width: float, depth: float, height: float) -> Parts:
    """Books, a vase or bowl, a box, or jars on a board at z = 0, within a space."""
    kind = pick(rng, ("books", "vessel", "box", "jars"), (4, 2, 2, 1))
    if kind == "books":
        return books(rng, width, 0.8 * depth, height)
    if kind == "box":
        block = rounded_box(between(rng, 0.4, 0.85) * width, 0.8 * depth, between(rng, 0.4, 0.9) * height, radius=0.01)
        return [painted(block, pick(rng, (paint, wood))(rng))]
    if kind == "vessel":
        vessel = fitted(pick(rng, (vase, bowl))(rng), 0.5 * width, 0.8 * depth, 0.9 * height)
        return [placed(vessel, between(rng, -0.2, 0.2) * width)]
    number = count(rng, 2, 3)
    vessel = fitted(jar(rng), 0.8 * width / number, 0.8 * depth, 0.7 * height)
    return [placed(vessel, (index - (number - 1) / 2) * width / number) for index in range(number)]


def chest(rng: Rng) -> TexturedTriangles:
    """A box on its own: trunk with a round lid, crate of slats, parcel with a bow."""
    width, depth, height = between(rng, 0.5, 1.0), between(rng, 0.35, 0.6), between(rng, 0.25, 0.5)
    return merge(pick(rng, (trunk, crate, parcel))(rng, width, depth, height))


def trunk(rng: Rng, width: float, depth: float, height: float) -> Parts:
    """A chest with a vaulted lid, straps and a lock."""
    finish, fitting = pick(rng, (wood, paint))(rng), metal(rng)
    vault = between(rng, 0.3, 0.8)
    lid = cylinder(0.5 * depth, width, sides=20).turned("y", 90).moved(x=-width / 2).scaled(z=vault)
    body = rounded_box(width, depth, height, radius=0.012)
    strap = rounded_box(0.08 * width, 1.03 * depth, height, radius=0.01).moved(0.3 * width)
    bow = lid.scaled(x=0.08, y=1.03, z=1.03).moved(0.3 * width, 0, height)
    lock = rounded_box(0.08, 0.02, 0.1, radius=0.005).moved(0, -depth / 2 - 0.01, height - 0.07)
    return coat([body, lid.moved(z=height)], finish) + coat([*pair(strap, bow), lock], fitting)


def crate(rng: Rng, width: float, depth: float, height: float) -> Parts:
    """An open box of level slats between corner posts."""
    number = count(rng, 2, 5)
    tall = height / number
    long = box(width, 0.015, 0.75 * tall).moved(0, depth / 2, 0.15 * tall)
    short = box(depth, 0.015, 0.75 * tall).turned("z", 90).moved(width / 2, 0, 0.15 * tall)
    post = box(0.04, 0.04, height).moved(width / 2 - 0.028, depth / 2 - 0.028)
    rows = [slat.moved(z=tall * index) for index in range(number) for slat in (long, long.scaled(y=-1), *pair(short))]
    return coat([box(width, depth, 0.015), *rows, *pair(post, post.scaled(y=-1))], pick(rng, (wood, paint))(rng))


def parcel(rng: Rng, width: float, depth: float, height: float) -> Parts:
    """A parcel with crossed ribbons and a bow."""
    color = paint_color(rng)
    bands = [rounded_box(across, along, height + 0.012, radius=0.003) for across, along in _ribbons(width, depth)]
    bow = torus(0.07, 0.018, sides=14, rings=6).scaled(y=0.5).turned("x", 90).moved(0.07, 0, height + 0.05)
    body = rounded_box(width, depth, height, radius=0.01).moved(z=0.006)
    return [painted(body, plain(color)), *coat([*bands, *pair(bow)], plain(accent_of(rng, color)))]


def picture_frame(rng: Rng) -> TexturedTriangles:
    """A framed picture or mirror that leans on a strut behind it."""
    width, height, bar = between(rng, 0.4, 1.0), between(rng, 0.4, 1.0), between(rng, 0.03, 0.1)
    inner = (width - bar, height - bar)
    rails = frame_bars(width, height, bar, between(rng, 0.03, 0.06))
    image = panel(*inner).moved(0, -0.006, bar / 2)
    back = box(inner[0], 0.01, inner[1]).moved(0, 0.002, bar / 2)
    strut: Solid = rod((0, 0.14 * height, 0.72 * height), (0, 0.34 * height, 0.0), 0.02, sides=4)
    shown = poster(rng, *inner) if chance(rng, 0.8) else plain(MIRROR)
    frame = [*(solid.turned("x", -8) for solid in (*rails, back)), strut]
    return merge([*coat(frame, hard(rng)), painted(image.turned("x", -8), shown)])


def _ribbons(width: float, depth: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Sizes of the two bands around a parcel."""
    return (0.09, depth + 0.012), (width + 0.012, 0.09)
