"""Plants in pots, and boxes of them."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted, placed
from mdtdist.data.generated.colors import bark_color, jittered, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, ceramic, foliage, plain, stone, wood
from mdtdist.data.generated.parts.leaves import GOLDEN_ANGLE, bumpy_ball, crown, frond, leaf
from mdtdist.data.generated.solids import Solid, around, box, in_row, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, fluted, hollow, revolve, rod, spline, tube
from mdtdist.representations.triangles import TexturedTriangles

_SOIL = (0.2, 0.13, 0.08)


def potted_plant(rng: Rng) -> TexturedTriangles:
    """A pot with one of several plants."""
    radius, height = between(rng, 0.1, 0.2), between(rng, 0.14, 0.32)
    grow = pick(rng, (rosette, bush, stalks, palm, cactus, flowers), (3, 3, 2, 2, 1.5, 2.5))
    return merge(planter(rng, radius, height) + [placed(part, z=0.88 * height) for part in grow(rng, radius)])


def planter(rng: Rng, radius: float, height: float) -> Parts:
    """A pot with soil: tapered, bellied or square."""
    finish = pick(rng, (ceramic, stone, wood), (4, 3, 1))(rng)
    if chance(rng, 0.2):
        wide = 1.3 * radius
        tub = revolve(hollow([(between(rng, 0.7, 1.0) * wide, 0), (wide, height)], 0.03), sides=4).turned("z", 45)
    else:
        belly = (between(rng, 0.8, 1.15) * radius, 0.6 * height)
        line = spline([(between(rng, 0.55, 0.9) * radius, 0), belly, (radius, height)])
        tub = revolve(hollow(line, 0.02), sides=20)
    return [painted(tub, finish), painted(cylinder(0.88 * radius, 0.02).moved(z=0.85 * height), plain(_SOIL))]


def rosette(rng: Rng, radius: float) -> Parts:
    """Long leaves from one point: yucca, agave, spider plant, snake plant."""
    number, length, droop = count(rng, 14, 34), between(rng, 0.3, 0.75), between(rng, 0.0, 0.9)
    width = length * between(rng, 0.07, 0.22)
    leaves = []
    for index in range(number):
        share = (index + 0.5) / number
        rise = 88 - 75 * share * between(rng, 0.6, 1.0) if droop > 0.15 else between(rng, 70, 88)
        blade = leaf(length * between(rng, 0.7, 1.1), width, droop=droop * share, rise=rise, pieces=5)
        leaves.append(blade.turned("z", GOLDEN_ANGLE * index + between(rng, -10, 10)))
    return coat(leaves, foliage(rng))


def bush(rng: Rng, radius: float) -> Parts:
    """A stem with a crown: a clipped ball, two of them, or loose leaves all over."""
    stem, wide = between(rng, 0.02, 0.5), between(rng, 0.16, 0.34)
    trunk = rod((0, 0, -0.02), (0, 0, stem + 0.5 * wide), 0.018)
    if chance(rng, 0.35):
        levels = ((1.0, 0.8), (0.65, 2.2))[: count(rng, 1, 2)]
        green = [bumpy_ball(rng, wide * size).moved(z=stem + wide * level) for size, level in levels]
    else:
        tall = wide * between(rng, 0.8, 1.5)
        size = wide * between(rng, 0.35, 0.6)
        green = [blade.moved(z=stem + wide) for blade in crown(rng, count(rng, 90, 180), (wide, wide, tall), size)]
    return [painted(trunk, plain(bark_color(rng))), *coat(green, foliage(rng))]


def stalks(rng: Rng, radius: float) -> Parts:
    """Bamboo or rubber plant: upright canes with leaves at their sides."""
    height, size, slender = between(rng, 0.5, 1.1), between(rng, 0.14, 0.3), between(rng, 0.2, 0.45)
    canes, leaves = [], []
    for _ in range(count(rng, 2, 6)):
        foot = np.array([*rng.uniform(-0.5, 0.5, 2) * radius, -0.02])
        top = foot + [*rng.uniform(-0.1, 0.1, 2) * height, height * between(rng, 0.6, 1.0)]
        canes.append(tube([foot, top], 0.012, sides=6))
        for step in range(count(rng, 4, 9)):
            blade = leaf(size, size * slender, droop=0.4, rise=between(rng, 0, 50), pieces=3)
            place = foot + between(rng, 0.3, 1.0) * (top - foot)
            leaves.append(blade.turned("z", 140 * step + between(rng, 0, 60)).moved(*map(float, place)))
    stem = jittered(rng, pick(rng, ((0.35, 0.45, 0.2), bark_color(rng))))
    return coat(canes, plain(stem)) + coat(leaves, foliage(rng))


def palm(rng: Rng, radius: float) -> Parts:
    """A palm or fern in a pot."""
    return palm_of(rng, pick(rng, (0.0, between(rng, 0.2, 0.6))))


def palm_of(rng: Rng, trunk: float) -> Parts:
    """Arched fronds on a ringed trunk of a height, or from the ground."""
    number, length = count(rng, 6, 10), between(rng, 0.4, 0.65)
    fronds = []
    for index in range(number):
        blade = frond(length * between(rng, 0.8, 1.1), between(rng, 0.3, 0.8)).turned("y", -between(rng, 25, 75))
        fronds.append(blade.turned("z", 360 * index / number + between(rng, -15, 15)).moved(z=trunk))
    green = coat(fronds, foliage(rng))
    if not trunk:
        return green
    rings = np.arange(9)
    girth = 0.03 + 0.004 * (rings % 2) + 0.02 * (1 - rings / 8)
    line = np.outer(np.linspace(-0.02, trunk, 9), [0, 0, 1])
    return [painted(tube(line, girth), plain(bark_color(rng))), *green]


def cactus(rng: Rng, radius: float) -> Parts:
    """A ribbed column or ball, sometimes with arms and a flower."""
    height, thick = between(rng, 0.2, 0.6), between(rng, 0.5, 0.75) * radius
    body = superquadric((thick, thick, height / 2), roundness=(0.5, 1.0), rings=12, sides=32).moved(z=height / 2 - 0.02)
    solids = [fluted(body, 8, 0.08)]
    for sign in (-1, 1) if height > 0.35 and chance(rng, 0.6) else ():
        low, reach = between(rng, 0.35, 0.55) * height, sign * 2.0 * thick
        line = [(0, 0, low), (0.95 * reach, 0, low + 0.02), (reach, 0, low + between(rng, 0.1, 0.25))]
        solids.append(tube(spline(line), 0.45 * thick, sides=10))
    bloom = superquadric((0.05, 0.05, 0.04), rings=6, sides=10).moved(z=height)
    return coat(solids, foliage(rng)) + (coat([bloom], plain(vivid_color(rng))) if chance(rng, 0.5) else [])


def flowers(rng: Rng, radius: float) -> Parts:
    """Stems with leaves and blossoms: daisies, tulips or balls."""
    petal, heart, green = plain(vivid_color(rng)), plain((0.95, 0.78, 0.2)), foliage(rng)
    kind, size = pick(rng, ("daisy", "tulip", "ball")), between(rng, 0.05, 0.1)
    parts: Parts = []
    for index in range(count(rng, 3, 8)):
        angle, out = GOLDEN_ANGLE * index, radius * between(rng, 0.1, 1.3)
        top = (out, 0.0, between(rng, 0.25, 0.55))
        stem = tube(spline([(0.2 * out, 0, -0.02), (0.5 * out, 0, 0.55 * top[2]), top], steps=2), 0.007, sides=5)
        blade = leaf(0.2, 0.05, droop=0.4, rise=65, pieces=3).turned("z", 30).moved(0.3 * out)
        parts += coat([stem.turned("z", angle), blade.turned("z", angle)], green)
        parts += [placed(part, turn=angle) for part in _moved(blossom(kind, size, petal, heart), top)]
    return parts


def blossom(kind: str, size: float, petal: Finish, heart: Finish) -> Parts:
    """One blossom around the origin."""
    if kind == "ball":
        return [painted(superquadric((0.8 * size, 0.8 * size, 0.8 * size), rings=6, sides=10), petal)]
    if kind == "tulip":
        line = [(0, -0.4), (0.55, 0), (0.6, 0.5), (0.4, 1.0), (0, 0.2)]
        return [painted(revolve(size * np.array(line), sides=10), petal)]
    disc = superquadric((0.3 * size, 0.3 * size, 0.15 * size), rings=4, sides=10).moved(z=0.08 * size)
    petals = around(8, leaf(size, 0.5 * size, droop=0.1, rise=25, pieces=2))
    return [*coat(petals, petal), painted(disc, heart)]


def flower_box(rng: Rng) -> TexturedTriangles:
    """A trough with a clipped hedge, flowers or tufts."""
    width, number = between(rng, 0.8, 1.6), count(rng, 3, 5)
    trough = painted(rounded_box(width, 0.3, 0.25, radius=0.01), pick(rng, (wood, stone))(rng))
    parts = [trough, painted(box(width - 0.04, 0.26, 0.01).moved(z=0.245), plain(_SOIL))]
    grow = pick(rng, (flowers, rosette, None))
    if grow is None:
        balls: list[Solid] = in_row(number, width / number, bumpy_ball(rng, between(rng, 0.16, 0.24)).moved(z=0.36))
        return merge(parts + coat(balls, foliage(rng)))
    for index in range(number):
        place = ((index - (number - 1) / 2) * width / number, 0.0, 0.24)
        parts += _moved(grow(rng, 0.09), place)
    return merge(parts)


def _moved(parts: Parts, place: tuple[float, float, float]) -> Parts:
    return [placed(part, *place) for part in parts]
