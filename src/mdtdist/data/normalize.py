"""A model file to triangles with materials, upright in the unit cube."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mdtdist.data.untrusted import Limits, load_checked
from mdtdist.representations.triangles import TexturedTriangles

HALF_SIDE = 0.5 - 1e-6  # strictly inside the cube, so that no vertex falls on the far face of the last voxel
Y_UP_SUFFIXES = (".glb", ".gltf", ".obj")


def load_triangles(path: Path, *, limits: Limits | None = None) -> TexturedTriangles:
    """Read a GLB, glTF, OBJ, PLY or STL file, in the axes of the file. Invisible faces are dropped.

    Nothing in the file is trusted: see :func:`mdtdist.data.untrusted.load_checked`.

    Raises:
        InputError: if the file is refused, has no triangle or a position that is not finite.
    """
    return load_checked(path, limits)


def normalize(
    triangles: TexturedTriangles, *, is_y_up: bool = True, rotation: tuple[float, ...] | None = None
) -> TexturedTriangles:
    """Turn upright, centre and scale the longest side to 1.

    Y-up files become Z-up by ``(x, y, z) -> (x, -z, y)``: a front that faced +z faces -Y.

    Args:
        rotation: row-major 3x3 applied first, in the axes of the file.

    Raises:
        ValueError: if all vertices coincide, or lie so far apart that their distance is no number.
    """
    return fit_to_cube(upright(triangles, is_y_up=is_y_up, rotation=rotation))


def upright(
    triangles: TexturedTriangles, *, is_y_up: bool, rotation: tuple[float, ...] | None = None
) -> TexturedTriangles:
    """The first half of :func:`normalize`: turned to Z up, at the place and in the size of the file."""
    vertices = triangles.vertices
    if rotation is not None:
        vertices = vertices @ np.asarray(rotation, dtype=np.float64).reshape(3, 3).T
    if is_y_up:
        vertices = vertices[:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0])
    return replace(triangles, vertices=vertices)


def fit_to_cube(triangles: TexturedTriangles) -> TexturedTriangles:
    """The second half of :func:`normalize`; raises what :func:`bounding_cube` does."""
    center, side = bounding_cube(triangles)
    return replace(triangles, vertices=((triangles.vertices - center) / side).clip(-HALF_SIDE, HALF_SIDE))


def bounding_cube(triangles: TexturedTriangles) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre of the bounding box and its longest side.

    Raises:
        ValueError: if all vertices coincide, or lie so far apart that their distance is no number.
    """
    used = triangles.vertices[triangles.faces.reshape(-1)]
    low, high = used.min(axis=0), used.max(axis=0)
    with np.errstate(over="ignore"):
        side = float((high - low).max())
    if side <= 0:
        raise ValueError("all vertices coincide")
    if not np.isfinite(side):
        raise ValueError(f"vertices range from {low.min():.3g} to {high.max():.3g}; their distance overflows")
    return (low + high) / 2, side


def load_normalized(
    path: Path, *, rotation: tuple[float, ...] | None = None, limits: Limits | None = None
) -> TexturedTriangles:
    """:func:`load_upright`, then :func:`fit_to_cube`."""
    return fit_to_cube(load_upright(path, rotation=rotation, limits=limits))


def load_upright(
    path: Path, *, rotation: tuple[float, ...] | None = None, limits: Limits | None = None
) -> TexturedTriangles:
    """:func:`load_triangles` then :func:`upright`; OBJ and glTF are read as Y up, PLY and STL as Z up."""
    is_y_up = path.suffix.lower() in Y_UP_SUFFIXES
    return upright(load_triangles(path, limits=limits), is_y_up=is_y_up, rotation=rotation)


def flatness(triangles: TexturedTriangles) -> float:
    """Thinnest extent of the bounding box over the longest; 0 for a plane."""
    extent = np.ptp(triangles.vertices[triangles.faces.reshape(-1)], axis=0)
    return float(extent.min() / extent.max())
