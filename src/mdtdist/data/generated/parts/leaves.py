"""Leaves, fronds and crowns: thin sheets that are seen from both sides."""

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.draws import Rng, between
from mdtdist.data.generated.solids import Solid, grid, join, superquadric
from mdtdist.data.generated.sweeps import tube

GOLDEN_ANGLE = 137.5  # degrees from one leaf to the next: no two lie above each other


def leaf(length: float, width: float, *, droop: float, rise: float, pieces: int = 4) -> Solid:
    """An open sheet from the origin along +x, pointed at both ends, with a furrow along the middle.

    Args:
        droop: how far the tip hangs below the straight line, share of the length.
        rise: angle of the line above the horizon, degrees.
        pieces: flat pieces from stem to tip.
    """
    t = np.linspace(0, 1, pieces + 1)[:, None]
    half = 0.5 * width * np.sin(np.pi * t**0.8).clip(0) ** 0.7
    x, y = np.broadcast_to(t * length, (pieces + 1, 3)), half * np.array([[1.0, 0.0, -1.0]])
    z = 0.3 * np.abs(y) - droop * length * t**2
    return grid(np.stack([x, y, z], axis=-1)).turned("y", -rise)


def frond(length: float, arch: float, *, pairs: int = 9) -> Solid:
    """A palm leaf along +x that sinks by ``arch`` of its length: a thin rib and pairs of leaflets."""
    t = np.linspace(0, 1, pairs + 1)
    rib = np.stack([t * length, np.zeros_like(t), -arch * length * t**2], axis=1)
    reach = 0.42 * length * np.sin(np.pi * (0.15 + 0.8 * t)) ** 0.8
    sheets = [tube(rib, np.linspace(0.008, 0.003, pairs + 1), sides=4)]
    for (x, y, z), size in zip(rib[1:], reach[1:], strict=True):
        blade = leaf(float(size), 0.06 * length + 0.01, droop=0.25, rise=8, pieces=2)
        sheets += [blade.turned("z", turn).moved(x, y, z) for turn in (-55, 55)]
    return join(sheets)


def crown(rng: Rng, number: int, radii: tuple[float, float, float], size: float) -> list[Solid]:
    """Leaves of a length ``size`` spread through an ellipsoid around the origin, tips outward."""
    leaves = []
    for index in range(number):
        level, angle = 1 - 2 * (index + 0.5) / number, np.radians(GOLDEN_ANGLE * index)
        ring = np.sqrt(1 - level**2)
        place = (
            np.array(radii) * between(rng, 0.4, 0.85) * np.array([ring * np.cos(angle), ring * np.sin(angle), level])
        )
        rise = between(rng, -20, 35) + 0.4 * float(np.degrees(np.arcsin(level)))
        blade = leaf(size, 0.5 * size, droop=0.25, rise=rise, pieces=2)
        leaves.append(blade.turned("z", GOLDEN_ANGLE * index + between(rng, -40, 40)).moved(*map(float, place)))
    return leaves


def bumpy_ball(rng: Rng, radius: float) -> Solid:
    """A clipped bush around the origin."""
    waves = rng.uniform(5, 9, (2, 3)) / radius

    def bump(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        return v * (1 + 0.06 * np.sin(v @ waves[0]) + 0.06 * np.sin(v @ waves[1]))[:, None]

    return superquadric((radius, radius, radius * between(rng, 0.75, 1.1))).mapped(bump)
