"""Limbs and ellipsoids that people, animals and toys are made of."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.colors import Color
from mdtdist.data.generated.solids import Solid, superquadric
from mdtdist.data.generated.sweeps import spline, tube

Point = tuple[float, float, float]
Place = Sequence[float] | Float[np.ndarray, "3"]
EYE: Color = (0.06, 0.06, 0.07)


def limb(start: Place, middle: Place, end: Place, radii: Point) -> Solid:
    """An arm, leg or neck through a joint, with a radius at each of the three points; thinner at its very ends."""
    line = spline([start, middle, end])
    widths = spline(np.array(radii)[:, None])[:, 0]
    widths[[0, -1]] *= 0.6
    return tube(line, widths, sides=10)


def ball(radii: float | Point, place: Place, *, rings: int = 8, sides: int = 14) -> Solid:
    """An ellipsoid at a place, given by its half extents or one radius."""
    size = (radii, radii, radii) if isinstance(radii, float) else radii
    return superquadric(size, rings=rings, sides=sides).moved(*map(float, place))
