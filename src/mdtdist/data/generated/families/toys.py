"""Toys: robots, turned figures, balls and skittles, building blocks."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import skin_color, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import anything, metal, paint, patterned, plain, wood
from mdtdist.data.generated.parts.bodies import EYE, ball
from mdtdist.data.generated.solids import in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import arc, cylinder, revolve, spline, tube
from mdtdist.representations.triangles import TexturedTriangles


def robot(rng: Rng) -> TexturedTriangles:
    """A robot of boxes and cylinders."""
    wide, deep, tall = between(rng, 0.3, 0.5), between(rng, 0.2, 0.32), between(rng, 0.3, 0.5)
    low, size = between(rng, 0.2, 0.4), between(rng, 0.16, 0.3)
    top, out = low + tall + 0.05, 0.28 * wide
    skull = rounded_box(size, 0.8 * size, 0.8 * size, radius=0.02).moved(z=top)
    feet = pair(rounded_box(0.16, 0.24, 0.07, radius=0.02).moved(out, -0.03))
    body = rounded_box(wide, deep, tall, radius=0.03).moved(z=low)
    arm = rounded_box(0.09, 0.1, between(rng, 0.25, 0.4), radius=0.02).scaled(z=-1).turned("x", between(rng, -60, 20))
    joints = [cylinder(0.05, 0.08).moved(z=low + tall - 0.01), cylinder(0.01, 0.16, sides=6).moved(z=top + 0.8 * size)]
    joints += pair(arm.moved(wide / 2 + 0.05, 0, low + 0.85 * tall), cylinder(0.06, low + 0.02, sides=12).moved(out))
    eye = ball(0.1 * size + 0.01, (0.22 * size, -0.4 * size, top + 0.5 * size), rings=6, sides=10)
    dial = ball(0.025, (0, -deep / 2, low + 0.7 * tall), rings=6, sides=8)
    tip = ball(0.03, (0, 0, top + 0.8 * size + 0.16), rings=6, sides=8)
    parts = coat([body, skull, *feet], pick(rng, (metal, paint))(rng)) + coat(joints, paint(rng))
    parts += coat([*pair(eye), *in_row(3, 0.25 * wide, dial)], plain(EYE))
    return merge([*parts, painted(tip, plain(vivid_color(rng)))])


def turned_figure(rng: Rng) -> TexturedTriangles:
    """A skittle, doll, chess man or snowman: one body from a lathe with a head, rings and perhaps a hat."""
    finish, height, size = anything(rng), between(rng, 0.7, 1.0), between(rng, 0.12, 0.18)
    waist = between(rng, 0.12, 0.28)
    line = [(between(rng, 0.2, 0.3), 0.0), (waist, 0.35 * height), (between(rng, 0.06, 0.14), 0.7 * height)]
    body = revolve([(0, 0), *spline(line), (0, 0.72 * height)], sides=22)
    top = 0.7 * height + 0.8 * size
    parts = [painted(body, finish), painted(ball(size, (0, 0, top)), pick(rng, (finish, plain(skin_color(rng)))))]
    if chance(rng, 0.6):
        crown = between(rng, 0.02, 0.8) * size
        hat = revolve(
            [(0, 0), (1.3 * size, 0), (1.3 * size, 0.03), (0.8 * size, 0.04), (crown, 0.2), (0, 0.2)], sides=18
        )
        parts.append(painted(hat.moved(z=top + 0.7 * size), anything(rng)))
    ring = revolve([(0.1, -0.02), (waist + 0.03, 0), (0.1, 0.02), (0.1, -0.02)], sides=18).moved(z=0.35 * height)
    rings = [ring.moved(z=0.12 * index) for index in range(count(rng, 0, 2))]
    return merge(parts + coat(rings, plain(vivid_color(rng))))


def ball_game(rng: Rng) -> TexturedTriangles:
    """A ball, a dumb-bell, skittles with a ball, or a globe on a stand."""
    return merge(pick(rng, (_ball, _dumbbell, _skittles, _globe))(rng))


def blocks(rng: Rng) -> TexturedTriangles:
    """Building blocks piled up: columns of different heights on a board, some with roofs."""
    finishes = [anything(rng) for _ in range(count(rng, 2, 4))]
    columns, size = count(rng, 2, 3), 0.3
    base = rounded_box(columns * size, columns * size, 0.06, radius=0.01).moved(z=-0.06)
    parts = [painted(base, finishes[0])]
    block = rounded_box(0.97 * size, 0.97 * size, 0.97 * size, radius=0.02)
    roof = cylinder(0.66 * size, 0.6 * size, top=0.02, sides=4).turned("z", 45)
    for column in range(columns**2):
        height = count(rng, 0 if column else 1, 3)
        x, y = ((index - (columns - 1) / 2) * size for index in divmod(column, columns))
        parts += [painted(block.moved(x, y, level * size), pick(rng, finishes)) for level in range(height)]
        if height and chance(rng, 0.4):
            parts.append(painted(roof.moved(x, y, height * size), pick(rng, finishes)))
    return merge(parts)


def _ball(rng: Rng) -> Parts:
    return [painted(superquadric((0.5, 0.5, 0.5), rings=16, sides=28), patterned(rng))]


def _dumbbell(rng: Rng) -> Parts:
    disc = superquadric((0.09, 0.2, 0.2), roundness=(0.5, 0.6), sides=20)
    bar = cylinder(0.035, 1.1).turned("y", 90).moved(-0.55)
    return [*coat(pair(disc.moved(0.32), disc.moved(0.5)), paint(rng)), painted(bar, metal(rng))]


def _skittles(rng: Rng) -> Parts:
    line = spline([(0.04, 0), (0.075, 0.12), (0.03, 0.3), (0.045, 0.37), (0.02, 0.42)], steps=3)
    pin = revolve([(0, 0), *line, (0, 0.42)], sides=14)
    places = [(0.0, -0.12), (-0.1, 0.03), (0.1, 0.03), (-0.2, 0.18), (0.0, 0.18), (0.2, 0.18)]
    pins = coat([pin.moved(x, y) for x, y in places], pick(rng, (plain((0.93, 0.91, 0.85)), wood(rng))))
    return [*pins, painted(ball(0.1, (between(rng, -0.15, 0.15), -0.34, 0.1)), paint(rng))]


def _globe(rng: Rng) -> Parts:
    bow = tube(np.insert(arc(0.36, -80, 80, pieces=12), 1, 0.0, axis=1) + [0, 0, 0.55], 0.018)
    foot = revolve([(0, 0), (0.2, 0), (0.18, 0.03), (0.03, 0.08), (0.03, 0.22), (0, 0.22)])
    globe = superquadric((0.3, 0.3, 0.3), rings=14, sides=24).moved(z=0.55)
    return [painted(globe, patterned(rng)), *coat([bow, foot], pick(rng, (metal, wood))(rng))]
