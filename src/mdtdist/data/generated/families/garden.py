"""Small houses, playground things, fountains."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import metal, paint, patterned, plain, stone, wood
from mdtdist.data.generated.solids import Solid, box, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, revolve, rod, spline, tube, upright
from mdtdist.representations.triangles import TexturedTriangles


def house(rng: Rng) -> TexturedTriangles:
    """A small house, bird house, kennel or tower: walls, roof, door, windows, chimney."""
    wall, roof = pick(rng, (stone, wood, paint))(rng), pick(rng, (paint, patterned, wood))(rng)
    width, depth, height = between(rng, 0.5, 1.0), between(rng, 0.5, 0.9), between(rng, 0.4, 1.1)
    rise = between(rng, 0.2, 0.55)
    parts = [painted(box(width, depth, height), wall)]
    if chance(rng, 0.25):
        cap = cylinder(0.8, rise, top=0.02, sides=4).turned("z", 45).scaled(width, depth).moved(z=height)
        parts.append(painted(cap, roof))
    else:
        gable = upright([(-width / 2, height), (width / 2, height), (0.0, height + rise)], 0.98 * depth)
        parts += [painted(gable, wall), *coat(gable_roof(rng, width, depth, rise, height), roof)]
    parts += coat(openings(rng, width, depth, height), paint(rng))
    if chance(rng, 0.5):
        chimney = box(0.12, 0.12, rise + 0.16).moved(0.25 * width, 0.15 * depth, height)
        parts.append(painted(chimney, stone(rng)))
    return merge(parts)


def gable_roof(rng: Rng, width: float, depth: float, rise: float, height: float) -> list[Solid]:
    """Two slabs that meet over the ridge and stand out at the eaves."""
    eave, slope = between(rng, 0.03, 0.1), float(np.hypot(rise, width / 2))
    slab = box(slope + eave, depth + 2 * eave, 0.04).moved((slope + eave) / 2)
    return pair(slab.turned("y", float(np.degrees(np.arctan2(rise, width / 2)))).moved(z=height + rise))


def openings(rng: Rng, width: float, depth: float, height: float) -> list[Solid]:
    """A door, and windows on the front and both sides, as raised panels."""
    floors, front = max(1, round(height / 0.45)), -depth / 2
    door = rounded_box(0.22 * width, 0.03, min(0.5 * height, 0.4), radius=0.004).moved(0, front)
    pane = rounded_box(0.16 * width, 0.025, 0.19 * width, radius=0.004)
    solids = [door]
    for floor in range(floors):
        z = (floor + 0.45) * height / floors
        solids += pair(pane.moved(0.3 * width, front, z))
        solids += [w for y in (-0.25, 0.25) for w in pair(pane.turned("z", 90).moved(width / 2, y * depth, z))]
    return solids


def playground(rng: Rng) -> TexturedTriangles:
    """A swing or a slide."""
    return merge(pick(rng, (swing, slide))(rng, between(rng, 1.2, 1.9)))


def swing(rng: Rng, height: float) -> Parts:
    """A frame with one or two seats on ropes."""
    half, spread = between(rng, 0.6, 1.0), between(rng, 0.35, 0.55)
    legs = pair(*(rod((1.1 * half, y, 0), (half, 0, height), 0.035) for y in (-spread, spread)))
    beam = rod((-half - 0.06, 0, height), (half + 0.06, 0, height), 0.04)
    rope, seat = rod((0.17, 0, 0.4), (0.17, 0, height), 0.01, sides=5), rounded_box(0.4, 0.18, 0.03, radius=0.01)
    hung = [*pair(rope), seat.moved(z=0.38)]
    places = pick(rng, ((0.0,), (-0.45, 0.45)))
    seats = [solid.moved(place * half) for place in places for solid in hung]
    return coat([*legs, beam], pick(rng, (metal, wood, paint))(rng)) + coat(seats, paint(rng))


def slide(rng: Rng, height: float) -> Parts:
    """A chute with raised sides and a ladder behind it."""
    top = height - 0.35
    line = spline([(0, -1.3, 0.18), (0, -1.0, 0.2), (0, 0.1, top), (0, 0.3, top)], steps=5)
    bed, side = tube(line, 0.03, sides=4).scaled(x=14.0), tube(line, 0.04, sides=4).moved(0.3, 0, 0.07)
    stile = rod((0.28, 0.75, 0), (0.28, 0.32, height), 0.03)
    prop = rod((0.28, -0.1, 0), (0.28, 0.1, top), 0.03)
    places = [(0.75 - 0.43 * share, share * height) for share in (0.15, 0.32, 0.49, 0.66)]
    rungs = [rod((-0.28, y, z), (0.28, y, z), 0.02) for y, z in places]
    frame = pick(rng, (metal, wood, paint))(rng)
    return coat([bed, *pair(side)], paint(rng)) + coat([*pair(stile, prop), *rungs], frame)


def fountain(rng: Rng) -> TexturedTriangles:
    """One to three basins above each other, with water: a fountain or a bird bath."""
    finish, water, sides = stone(rng), plain((0.45, 0.68, 0.8)), pick(rng, (6, 8, 28), (1, 1, 4))
    parts: Parts = []
    size, low = 0.5, 0.0
    for _ in range(count(rng, 1, 3)):
        deep, stem = between(rng, 0.1, 0.2), between(rng, 0.25, 0.45)
        line = np.array([(0, 0), (0.5, 0), (1, 0.7), (1, 1), (0.9, 1), (0.85, 0.8), (0, 0.6)]) * [size, deep]
        neck = spline([(0.22 * size, 0.6 * deep), (0.1 * size, deep + 0.5 * stem), (0.2 * size, deep + stem)])
        pillar = revolve([(0, neck[0, 1]), *neck, (0, neck[-1, 1])], sides=16)
        surface = cylinder(0.86 * size, 0.01, sides=sides).moved(z=low + 0.82 * deep)
        parts += coat([revolve(line, sides=sides).moved(z=low), pillar.moved(z=low)], finish)
        parts.append(painted(surface, water))
        size, low = size * between(rng, 0.5, 0.7), low + deep + stem
    tip = pick(rng, (superquadric((0.08, 0.08, 0.1)), cylinder(0.1, 0.2, top=0.01)))
    return merge([*parts, painted(tip.moved(z=low), finish)])
