"""Compositions without a name: superquadrics, rings, bars and plates that touch each other."""

import numpy as np

from mdtdist.data.generated.assembly import merge, painted
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import anything
from mdtdist.data.generated.solids import Solid, around, rounded_box, superquadric
from mdtdist.data.generated.sweeps import arc, cylinder, extrude, revolve, spline, torus, tube, upright
from mdtdist.representations.triangles import TexturedTriangles


def composition(rng: Rng) -> TexturedTriangles:
    """Some random solids in up to four finishes: stacked, grown on each other, or in a ring."""
    finishes = [anything(rng) for _ in range(count(rng, 1, 4))]
    arrange = pick(rng, (stacked, clustered, ringed), (3, 4, 1))
    return merge([painted(solid, pick(rng, finishes)) for solid in arrange(rng)])


def any_solid(rng: Rng, size: float) -> Solid:
    """A random solid of about a size, around the origin, turned about z."""
    shape = pick(rng, (_quadric, _box, _cone, _ring, _lathe, _star), (5, 3, 3, 1.5, 2, 1))
    a, b, c = rng.uniform(0.4, 1.0, 3) * size
    return shape(rng, float(a), float(b), float(c)).turned("z", between(rng, 0, 360))


def stacked(rng: Rng) -> list[Solid]:
    """One on top of the other."""
    solids, top = [], 0.0
    for _ in range(count(rng, 2, 5)):
        solid = any_solid(rng, between(rng, 0.3, 0.8))
        low, high = solid.vertices.min(axis=0), solid.vertices.max(axis=0)
        x, y = -(low + high)[:2] / 2
        solids.append(solid.moved(float(x), float(y), top - float(low[2]) - 0.02))
        top += float(high[2] - low[2]) - 0.02
    return solids


def clustered(rng: Rng) -> list[Solid]:
    """Each touching one that was there before; most with mirror images, as living things and machines are."""
    solids, is_even = [any_solid(rng, 0.6)], chance(rng, 0.6)
    for _ in range(count(rng, 2, 5)):
        base = pick(rng, solids).vertices
        x, y, z = base[int(rng.integers(len(base)))]
        solid = any_solid(rng, between(rng, 0.2, 0.5)).moved(float(x), float(y), float(z))
        solids += [solid, solid.scaled(x=-1)] if is_even else [solid]
    return solids


def ringed(rng: Rng) -> list[Solid]:
    """The same solid several times around an axis, and one in the middle."""
    away = between(rng, 0.3, 0.5)
    circle = around(count(rng, 3, 6), any_solid(rng, between(rng, 0.2, 0.35)).moved(away))
    return [any_solid(rng, between(rng, 0.3, 0.6)), *circle, torus(away, 0.03)]


def sculpture(rng: Rng) -> TexturedTriangles:
    """A bent rod, knot or spiral on a plinth."""
    path = pick(rng, (_spiral, _knot, _arch, _wander))(rng, np.linspace(0, 1, 48))
    swell = 1 + between(rng, -0.6, 0.6) * np.sin(np.pi * np.linspace(0, 1, len(path)))
    rod = tube(path, between(rng, 0.03, 0.08) * swell, sides=12)
    low, high = rod.vertices.min(axis=0), rod.vertices.max(axis=0)
    feet = path[path[:, 2] < low[2] + 0.2]
    width = 2 * float(np.abs(feet[:, 0]).max()) + between(rng, 0.15, 0.3)
    depth = 2 * float(np.abs(feet[:, 1]).max()) + between(rng, 0.15, 0.3)
    base = rounded_box(width, depth, 0.12 * float(high[2] - low[2]) + 0.03, radius=0.01)
    standing = rod.moved(z=float(base.vertices[:, 2].max() - low[2]) - 0.02)
    return merge([painted(standing, anything(rng)), painted(base, anything(rng))])


def _quadric(rng: Rng, a: float, b: float, c: float) -> Solid:
    roundness = (between(rng, 0.2, 1.6), between(rng, 0.2, 1.6))
    return superquadric((a / 2, b / 2, c / 2), roundness=roundness, rings=12)


def _box(rng: Rng, a: float, b: float, c: float) -> Solid:
    return rounded_box(a, b, c, radius=between(rng, 0.0, 0.3) * min(a, b, c), segments=2).moved(z=-c / 2)


def _cone(rng: Rng, a: float, b: float, c: float) -> Solid:
    top, sides = pick(rng, (a / 2, between(rng, 0.02, 0.45) * a)), pick(rng, (24, count(rng, 3, 8)))
    return cylinder(a / 2, c, top=top, sides=sides).moved(z=-c / 2)


def _ring(rng: Rng, a: float, b: float, c: float) -> Solid:
    return torus(a / 2, b * between(rng, 0.08, 0.2), sides=20).turned("x", pick(rng, (0, 90)))


def _lathe(rng: Rng, a: float, b: float, c: float) -> Solid:
    line = spline(np.stack([rng.uniform(0.1, 0.5, 5) * a, np.linspace(-c / 2, c / 2, 5)], axis=1), steps=3)
    line[:, 0] = line[:, 0].clip(0.05 * a)
    return revolve([(0, -c / 2), *line, (0, c / 2)], sides=20)


def _star(rng: Rng, a: float, b: float, c: float) -> Solid:
    outline = arc(a / 2, 0, 360, pieces=2 * count(rng, 4, 8))[:-1]
    outline[1::2] *= between(rng, 0.4, 0.75)
    return pick(rng, (upright, extrude))(outline, 0.3 * b)


def _spiral(rng: Rng, t: np.ndarray) -> np.ndarray:
    angle, radius = 2 * np.pi * between(rng, 1.0, 3.0) * t, 0.3 * (1 - between(rng, 0, 0.9) * t)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.9 * t], axis=1)


def _knot(rng: Rng, t: np.ndarray) -> np.ndarray:
    """A torus knot: twice around, with three or five crossings."""
    angle, crossings = 2 * np.pi * t, pick(rng, (3, 5))
    away = 0.3 + 0.12 * np.cos(crossings * angle)
    x, z = away * np.cos(2 * angle), away * np.sin(2 * angle)
    return np.stack([x, 0.12 * np.sin(crossings * angle), z], axis=1)


def _arch(rng: Rng, t: np.ndarray) -> np.ndarray:
    sway = between(rng, 0.0, 0.15)
    return np.stack([0.4 * np.cos(np.pi * t), sway * np.sin(3 * np.pi * t), 0.8 * np.sin(np.pi * t)], axis=1)


def _wander(rng: Rng, t: np.ndarray) -> np.ndarray:
    return spline(np.column_stack([rng.uniform(-0.35, 0.35, (6, 2)), np.linspace(0, 0.9, 6)]), steps=8)
