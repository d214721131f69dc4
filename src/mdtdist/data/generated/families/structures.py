"""Fences, columns, ladders, steps, signs and street furniture, coat stands, umbrellas."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted, placed
from mdtdist.data.generated.colors import BLACK, GLOW, paint_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import fabric, hard, metal, patterned, plain, stone, wood
from mdtdist.data.generated.solids import Solid, around, box, in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import (
    arc,
    cylinder,
    extrude,
    fluted,
    narrowed,
    revolve,
    rod,
    rounded_path,
    spline,
    tube,
    upright,
)
from mdtdist.representations.triangles import TexturedTriangles


def fence(rng: Rng) -> TexturedTriangles:
    """Pickets, boards, iron bars or crossed beams between two or three posts."""
    width, height, number = between(rng, 1.0, 2.0), between(rng, 0.7, 1.2), count(rng, 2, 3)
    posts = in_row(number, width / (number - 1), rounded_box(0.09, 0.09, 1.05 * height, radius=0.01))
    kind = pick(rng, (boards, crossed, pickets, bars))
    finish = hard(rng)
    parts = coat([*posts, *kind(rng, width, height)], finish)
    if chance(rng, 0.4):
        cap = superquadric((0.06, 0.06, 0.06), rings=6, sides=10).moved(z=1.08 * height)
        parts += coat(in_row(number, width / (number - 1), cap), pick(rng, (finish, metal(rng))))
    return merge(parts)


def boards(rng: Rng, width: float, height: float) -> list[Solid]:
    """Level boards one above the other."""
    number = count(rng, 3, 6)
    board = rounded_box(width, 0.02, 0.6 * height / number, radius=0.004)
    return [board.moved(z=(index + 0.3) * 0.95 * height / number) for index in range(number)]


def crossed(rng: Rng, width: float, height: float) -> list[Solid]:
    """Two rails with a cross between them."""
    beam = rod((-0.5 * width, 0, 0.23 * height), (0.5 * width, 0, 0.82 * height), 0.025, sides=4)
    return [*_rails(width, height), *pair(beam)]


def pickets(rng: Rng, width: float, height: float) -> list[Solid]:
    """Pointed boards in a row."""
    number = int(width / between(rng, 0.09, 0.16))
    wide = width / number * between(rng, 0.45, 0.75) / 2
    outline = [(-wide, 0.06), (wide, 0.06), (wide, 0.9 * height), (0.0, height), (-wide, 0.9 * height)]
    return [*_rails(width, height), *in_row(number, width / number, upright(outline, 0.02).moved(y=-0.02))]


def bars(rng: Rng, width: float, height: float) -> list[Solid]:
    """Iron bars with tips, their tops in an arch or a dip."""
    number, arch = int(width / between(rng, 0.08, 0.14)), between(rng, -0.12, 0.12)
    line = [(0, 0.06), (0.012, 0.06), (0.012, 0.88 * height), (0.028, 0.92 * height), (0, height)]
    row = in_row(number, width / number, revolve(line, sides=8))
    turns = np.linspace(-np.pi, np.pi, number)
    tall = [bar.scaled(z=1 + arch * float(np.cos(turn))) for bar, turn in zip(row, turns, strict=True)]
    return [*_rails(width, height), *tall]


def column(rng: Rng) -> TexturedTriangles:
    """A column with base and capital, smooth or fluted, perhaps with a ball or an urn on top."""
    height, radius = between(rng, 0.8, 1.6), between(rng, 0.08, 0.16)
    waist = radius * between(rng, 0.75, 1.0)
    shaft = revolve([(0, 0.08), (radius, 0.08), (radius, 0.3 * height), (waist, height), (0, height)], sides=32)
    line = [(0, 0), (1.5 * radius, 0), (1.5 * radius, 0.03), (1.2 * radius, 0.05), (1.25 * radius, 0.08), (0, 0.08)]
    ring, plate = revolve(line, sides=24), box(3.2 * radius, 3.2 * radius, 0.06)
    solids = [plate, plate.moved(z=height + 0.08), ring.moved(z=0.05), ring.scaled(z=-1).moved(z=height + 0.09)]
    solids.append(fluted(shaft, 8, 0.05) if chance(rng, 0.5) else shaft)
    if chance(rng, 0.4):
        bowl = spline([(0.4 * radius, 0.08), (1.5 * radius, 0.22), (1.7 * radius, 0.3)])
        urn = revolve([(0, 0), (0.6 * radius, 0), (0.3 * radius, 0.04), *bowl, (0, 0.26)])
        sphere = superquadric((1.4 * radius, 1.4 * radius, 1.4 * radius)).moved(z=1.3 * radius)
        solids.append(pick(rng, (urn, sphere)).moved(z=height + 0.13))
    return merge(coat(solids, stone(rng)))


def ladder(rng: Rng) -> TexturedTriangles:
    """A ladder, a step ladder, or a flight of steps."""
    width, height = between(rng, 0.35, 0.55), between(rng, 1.0, 1.9)
    number, lean = int(height / between(rng, 0.22, 0.3)), between(rng, 0.12, 0.22) * height
    if chance(rng, 0.25):
        deep, tall = between(rng, 0.18, 0.28), height / number
        steps = [box(1.8 * width, deep, tall * (index + 1)).moved(y=deep * index) for index in range(number)]
        return merge(coat(steps, pick(rng, (wood, stone))(rng)))
    half = width / 2
    solids = pair(rod((half, -lean, 0), (0.85 * half, 0, height), 0.03, sides=4))
    is_round = chance(rng, 0.5)
    for share in (np.arange(number) + 0.7) / number:
        x, y, z = half * (1 - 0.15 * share), -lean * (1 - share), share * height
        tread = box(2 * x, 0.12, 0.025).moved(0, y, z)
        solids.append(rod((-x, y, z), (x, y, z), 0.016) if is_round else tread)
    if chance(rng, 0.7):
        solids += pair(rod((half, lean, 0), (0.85 * half, 0.02, 0.97 * height), 0.024, sides=4))
        solids.append(rod((-half, 0.7 * lean, 0.3 * height), (half, 0.7 * lean, 0.3 * height), 0.016, sides=6))
    return merge(coat(solids, hard(rng)))


def umbrella(rng: Rng) -> TexturedTriangles:
    """A parasol on a foot or an open umbrella: a canopy of six to ten segments on ribs."""
    number, radius, drop = count(rng, 6, 10), between(rng, 0.6, 1.0), between(rng, 0.2, 0.45)
    height = between(rng, 1.1, 1.9)
    line = spline([(0.0, height), (0.5 * radius, height - 0.25 * drop), (radius, height - drop)], steps=3)
    canopy = revolve([*line[::-1], *((r, z - 0.012) for r, z in line), line[-1]], sides=number)
    rib = rod((0, 0, height - 0.4 * drop - 0.1), (0.5 * radius, 0, height - 0.3 * drop), 0.008, sides=4)
    frame = [cylinder(0.02, height + 0.06, sides=10), *around(number, rib, start=90)]
    parts = [painted(canopy, fabric(rng)), *coat(frame, pick(rng, (wood, metal))(rng))]
    if chance(rng, 0.6):
        return merge([*parts, painted(cylinder(0.28, 0.08, top=0.2, sides=20), stone(rng))])
    crook = tube(spline([(0, 0, 0.05), (0, 0, -0.05), (0.08, 0, -0.1), (0.14, 0, -0.02)]), 0.025)
    return merge([*parts, painted(crook, wood(rng))])


def street_sign(rng: Rng) -> TexturedTriangles:
    """A traffic sign, a street lamp, a letter box on a post, a mast with a flag."""
    height, pole = between(rng, 1.2, 2.0), metal(rng)
    post, foot = cylinder(between(rng, 0.025, 0.045), height, sides=12), cylinder(0.16, 0.04, sides=20)
    top = pick(rng, (_traffic_sign, _street_lamp, _letter_box, _flag))(rng)
    return merge([*coat([post, foot], pole), *(placed(part, z=height) for part in top)])


def coat_stand(rng: Rng) -> TexturedTriangles:
    """A coat stand or a clothes rail, with garments or without."""
    frame, height = hard(rng), between(rng, 1.3, 1.8)
    if chance(rng, 0.5):
        foot = tube(spline([(0, 0, 0.12), (0.2, 0, 0.09), (0.3, 0, 0.0)]), 0.022)
        line = [(0, 0, height - 0.1), (0.1, 0, height - 0.12), (0.17, 0, height - 0.02), (0.19, 0, height + 0.05)]
        arms = around(4, foot, tube(spline(line), 0.014), start=20)
        solids = [cylinder(0.026, height), *arms, superquadric((0.045, 0.045, 0.045)).moved(z=height)]
        places = [(0.14, 20.0), (-0.14, 20.0)][: count(rng, 0, 2)]
    else:
        half, number = between(rng, 0.4, 0.7), count(rng, 2, 5)
        solids = pair(cylinder(0.02, height).moved(half), box(0.05, 0.4, 0.04).moved(half))
        solids.append(rod((-half, 0, height - 0.02), (half, 0, height - 0.02), 0.018))
        places = [((index - (number - 1) / 2) * 1.4 * half / number, 80.0) for index in range(number)]
    hung = [painted(garment(rng).turned("z", turn).moved(x, 0, height - 0.95), fabric(rng)) for x, turn in places]
    return merge(coat(solids, frame) + hung)


def garment(rng: Rng) -> Solid:
    """A coat or shirt on a hanger, its shoulders at z = 0.85."""
    low, wide = between(rng, 0.0, 0.3), between(rng, 0.42, 0.52)
    body = rounded_box(wide, 0.1, 0.85 - low, radius=0.045, divisions=(2, 1, 5)).moved(z=low)
    return narrowed(body, lambda z: 1 - 0.55 * ((z - 0.68) / 0.17).clip(0), "x")


def _rails(width: float, height: float) -> list[Solid]:
    return [rounded_box(width, 0.03, 0.07, radius=0.005).moved(z=share * height) for share in (0.2, 0.8)]


def _traffic_sign(rng: Rng) -> Parts:
    corners, turn = pick(rng, ((3, -90), (3, 90), (4, 45), (4, 0), (8, 22.5), (28, 0)))
    plate = extrude(arc(0.3, turn, turn + 360, pieces=corners)[:-1], 0.025).turned("x", 90).moved(y=-0.03)
    inner = plate.scaled(0.75, 1.0, 0.75).moved(y=-0.006)
    return [painted(plate, plain(paint_color(rng))), painted(inner, plain(paint_color(rng)))]


def _street_lamp(rng: Rng) -> Parts:
    arm = tube(rounded_path([(0, 0, -0.1), (0, 0, 0.2), (0, -0.4, 0.2), (0, -0.4, 0.05)], 0.18), 0.03)
    shade = cylinder(0.16, 0.12, top=0.05, sides=18).moved(0, -0.4, -0.04)
    bulb = superquadric((0.09, 0.09, 0.07)).moved(0, -0.4, -0.05)
    return [*coat([arm, shade], metal(rng)), painted(bulb, plain(GLOW))]


def _letter_box(rng: Rng) -> Parts:
    roof = cylinder(0.18, 0.24, sides=20).turned("x", 90).moved(0, 0.12, 0.4)
    slots = [box(0.24, 0.01, 0.03).moved(0, -0.122, 0.34), box(0.1, 0.01, 0.1).moved(0, -0.122, 0.1)]
    body = coat([rounded_box(0.36, 0.24, 0.4, radius=0.02), roof], plain(paint_color(rng)))
    return [*body, *coat(slots, plain(BLACK))]


def _flag(rng: Rng) -> Parts:
    cloth = rounded_box(0.6, 0.012, 0.4, radius=0.003, divisions=(8, 1, 1)).moved(0.33, 0, -0.45)
    wavy = cloth.mapped(lambda v: v + np.outer(0.04 * np.sin(9 * v[:, 0]), [0, 1, 0]))
    return [painted(wavy, patterned(rng)), painted(superquadric((0.05, 0.05, 0.05)), metal(rng))]
