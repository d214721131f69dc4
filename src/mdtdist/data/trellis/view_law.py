"""Where the cameras of TRELLIS's data stand: even over the sphere, framed by the object's bounding sphere.

View n of N has ``u = (n + r0) / N`` and ``v = radical_inverse_2(n) + r1`` (a Hammersley point set, shifted by two
random numbers of the asset). The share u < 1/4 is spread over the lower half of the sphere and the rest over the upper
half: objects are rarely photographed from below.
"""

import math

import numpy as np
from jaxtyping import Float

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera, orbit_camera

NUM_COND_VIEWS, COND_SIZE = 24, 1024  # pixels a side
NUM_FEATURE_VIEWS, FEATURE_SIZE = 150, 512
FEATURE_RADIUS, FEATURE_FOV = 2.0, math.radians(40)
SPHERE = math.sqrt(3) / 2  # radius of the sphere around the unit cube
MIN_FOV, MAX_FOV = math.radians(10), math.radians(70)  # of the condition views
_COND, _FEATURE = 0, 1  # every kind of view has its own random numbers


def condition_cameras(sha256: str, *, count: int = NUM_COND_VIEWS) -> list[Camera]:
    """Cameras of the views that serve as input images.

    ``k = 1 / radius^2`` is uniform between the values of the widest and the narrowest opening angle (70 and 10
    degrees); the angle is such that the sphere around the unit cube just fits,
    ``sin(fov / 2) = (sqrt(3) / 2) / radius``.

    Args:
        sha256: of the asset, hexadecimal; decides all random numbers.
        count: views.

    Raises:
        InputError: if ``sha256`` is not hexadecimal or ``count`` is below 1.
    """
    generator = _generator(sha256, _COND, count)
    directions = view_directions(generator.random(2), count=count)
    near, far = fitting_radius(MAX_FOV), fitting_radius(MIN_FOV)
    radii = 1 / np.sqrt(generator.uniform(1 / far**2, 1 / near**2, size=count))
    return [
        orbit_camera(float(yaw), float(pitch), radius=float(radius), fov=fitting_fov(float(radius)))
        for (yaw, pitch), radius in zip(directions, radii, strict=True)
    ]


def feature_cameras(sha256: str, *, count: int = NUM_FEATURE_VIEWS) -> list[Camera]:
    """Cameras of the views that image features are taken from: radius 2, opening angle 40 degrees.

    A corner of the cube may fall outside such a picture.

    Args:
        sha256: of the asset, hexadecimal.
        count: views.

    Raises:
        InputError: as for :func:`condition_cameras`.
    """
    directions = view_directions(_generator(sha256, _FEATURE, count).random(2), count=count)
    return [orbit_camera(float(y), float(p), radius=FEATURE_RADIUS, fov=FEATURE_FOV) for y, p in directions]


def view_directions(offset: Float[np.ndarray, "2"], *, count: int) -> Float[np.ndarray, "N 2"]:
    """Yaw in [0, 2 pi) and pitch in [-pi / 2, pi / 2] of every view, radians.

    Args:
        offset: ``r0, r1`` in [0, 1).
        count: views.
    """
    n = np.arange(count)
    u = (n + offset[0]) / count
    v = np.array([radical_inverse(int(i)) for i in n]) + offset[1]
    height = np.where(u < 0.25, 2 * u, 2 * u / 3 + 1 / 3)  # (1 + sin pitch) / 2: even over the sphere by Archimedes
    return np.stack([2 * np.pi * (v % 1), np.arccos(1 - 2 * height) - np.pi / 2], axis=1)


def radical_inverse(n: int) -> float:
    """The binary digits of ``n`` mirrored at the point: 1 -> 0.1, 6 = 110 -> 0.011."""
    value, digit = 0.0, 0.5
    while n:
        value, digit, n = value + digit * (n & 1), digit / 2, n >> 1
    return value


def fitting_radius(fov: float) -> float:
    """Distance from which the sphere around the unit cube just fills an opening angle (radians)."""
    return SPHERE / math.sin(fov / 2)


def fitting_fov(radius: float) -> float:
    """Opening angle (radians) that the sphere around the unit cube just fills from a distance."""
    return 2 * math.asin(SPHERE / radius)


def _generator(sha256: str, kind: int, count: int) -> np.random.Generator:
    if count < 1:
        raise InputError(f"{count} views were asked for; expected at least 1.")
    try:
        return np.random.default_rng([int(sha256[:16], 16), kind])
    except ValueError as err:
        raise InputError(f"{sha256!r} is no SHA-256; expected its hexadecimal digits.") from err
