"""Solids of generated objects: a box, a rounded box, a superquadric, and what can be done to any solid.

Lengths are in object units (an object is about one unit large). Faces are wound counter-clockwise seen from outside.
Texture coordinates are lengths on the surface in the same unit; grain runs along u.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

_AXES = {"x": 0, "y": 1, "z": 2}
_MIN_AREA = 1e-12  # square units; below lie the collapsed quads at poles and tips


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A surface without a material; closed unless its maker says otherwise.

    Attributes:
        vertices: positions; vertices at a seam stand twice.
        faces: vertex indices, counter-clockwise from outside.
        uv: lengths along the surface.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"]

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> "Solid":
        """Shifted."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def turned(self, axis: Literal["x", "y", "z"], degrees: float) -> "Solid":
        """Turned about an axis through the origin, counter-clockwise seen from its tip."""
        return replace(self, vertices=self.vertices @ rotation(axis, degrees).T)

    def scaled(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> "Solid":
        """Stretched along the axes; a negative factor mirrors, and the faces stay wound outward."""
        faces = self.faces[:, ::-1] if x * y * z < 0 else self.faces
        return replace(self, vertices=self.vertices * np.array([x, y, z]), faces=faces)

    def mapped(self, function: Callable[[Float[np.ndarray, "V 3"]], Float[np.ndarray, "V 3"]]) -> "Solid":
        """Bent: every vertex moves to ``function`` of its position, which must not turn space inside out."""
        return replace(self, vertices=function(self.vertices))


def rotation(axis: Literal["x", "y", "z"], degrees: float) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix (of column vectors) about an axis, counter-clockwise seen from its tip."""
    first, second = ((_AXES[axis] + step) % 3 for step in (1, 2))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix


def join(solids: list[Solid]) -> Solid:
    """Several solids as one."""
    starts = np.cumsum([0] + [len(solid.vertices) for solid in solids[:-1]])
    return Solid(
        vertices=np.concatenate([solid.vertices for solid in solids]),
        faces=np.concatenate([solid.faces + start for solid, start in zip(solids, starts, strict=True)]),
        uv=np.concatenate([solid.uv for solid in solids]),
    )


def pair(*solids: Solid) -> list[Solid]:
    """Solids and their mirror images at x = 0."""
    return [image for solid in solids for image in (solid, solid.scaled(x=-1))]


def around(number: int, *solids: Solid, start: float = 0.0) -> list[Solid]:
    """Copies of solids at equal angles about the z axis, the first turned by ``start`` degrees."""
    return [solid.turned("z", start + 360 * index / number) for index in range(number) for solid in solids]


def in_row(number: int, pitch: float, solid: Solid) -> list[Solid]:
    """Copies of a solid side by side along x, ``pitch`` apart, centred."""
    return [solid.moved(x=(index - (number - 1) / 2) * pitch) for index in range(number)]


def facing(solid: Solid, y: float = 0.0, z: float = 0.0) -> Solid:
    """What lies on z = 0, stood up so that its top faces -Y, on a front at ``y`` and a height."""
    return solid.turned("x", 90).moved(0, y, z)


def corners_of(width: float, depth: float) -> list[tuple[float, float]]:
    """The four corners (x, y) of a rectangle around the origin, front left first."""
    return [(x, y) for y, x in itertools.product((-depth / 2, depth / 2), (-width / 2, width / 2))]


def face_areas(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "F"]:
    """Area of every face."""
    corners = vertices[faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def grid(points: Float[np.ndarray, "M N 3"], uv: Float[np.ndarray, "M N 2"] | None = None) -> Solid:
    """An open sheet through a grid of points, its outside where ``d/dN x d/dM`` points.

    Args:
        uv: texture coordinates; lengths along the middle row and column unless given. Collapsed faces are dropped.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    corner, right, up, across = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.stack([corner, right, across, corner, across, up], axis=-1).reshape(-1, 3)
    vertices = points.reshape(-1, 3).astype(np.float64)
    uv = _grid_lengths(points) if uv is None else uv
    faces = faces[face_areas(vertices, faces) > _MIN_AREA]
    return Solid(vertices=vertices, faces=faces, uv=uv.reshape(-1, 2).astype(np.float64))


def path_lengths(points: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K"]:
    """Length of the way from the first point to each."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def box(width: float, depth: float, height: float) -> Solid:
    """A box that stands on the origin: x in +-width / 2, y in +-depth / 2, z in [0, height]. Twelve faces."""
    return rounded_box(width, depth, height, radius=0.0)


def rounded_box(
    width: float,
    depth: float,
    height: float,
    *,
    radius: float,
    segments: int = 1,
    divisions: tuple[int, int, int] = (1, 1, 1),
) -> Solid:
    """A box with round edges and corners that stands on the origin, like :func:`box`.

    Args:
        radius: of the edges; cut to just under half the shortest side. 0 makes a sharp box.
        segments: flat pieces in half an edge (45 degrees).
        divisions: pieces of the flat part of the sides along x, y and z; several let the box be bent.
    """
    half = np.array([width, depth, height]) / 2
    radius = min(radius, 0.98 * float(half.min()))
    angles = np.zeros(0) if radius <= 0 else np.linspace(0, np.pi / 4, segments + 1)[1:]
    lines = [_box_line(angles, number) for number in divisions]
    sides = [_box_side(axis, sign, half, radius, lines) for axis in range(3) for sign in (1.0, -1.0)]
    return join(sides).moved(z=float(half[2]))


def superquadric(
    radii: tuple[float, float, float], *, roundness: tuple[float, float] = (1.0, 1.0), rings: int = 10, sides: int = 16
) -> Solid:
    """A superquadric around the origin (Barr, 1981): ball, pillow, box, rod or diamond, by its exponents.

    Args:
        radii: half extents.
        roundness: exponents of the vertical and the horizontal section; 0 is a rectangle, 1 an ellipse, 2 a diamond.
        rings, sides: pieces from pole to pole and around.
    """
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)[:, None]
    longitude = np.linspace(np.pi / 2, 5 * np.pi / 2, sides + 1)[None]
    level, around = _power(np.cos(latitude), roundness[0]), roundness[1]
    x, y = level * _power(np.cos(longitude), around), level * _power(np.sin(longitude), around)
    z = np.broadcast_to(_power(np.sin(latitude), roundness[0]), x.shape)
    return grid(np.stack([x, y, z], axis=-1) * np.array(radii))


def _power(values: Float[np.ndarray, "..."], exponent: float) -> Float[np.ndarray, "..."]:
    """Signed power; what rounding leaves of a zero is taken as zero."""
    size = np.where(np.abs(values) < 1e-12, 0.0, np.abs(values))
    return np.sign(values) * size**exponent


def _grid_lengths(points: Float[np.ndarray, "M N 3"]) -> Float[np.ndarray, "M N 2"]:
    """Lengths along the middle column (u) and the longest row (v) of a grid."""
    rows = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(axis=1)
    u, v = path_lengths(points[:, points.shape[1] // 2]), path_lengths(points[int(rows.argmax())])
    return np.stack(np.broadcast_arrays(u[:, None], v[None]), axis=-1)


def _box_line(angles: Float[np.ndarray, "S"], divisions: int) -> Float[np.ndarray, "2 K"]:
    """Along one axis of a side: place on the flat core in [-1, 1], and tangent of the direction of the rounding."""
    core = np.concatenate([np.full(len(angles), -1.0), np.linspace(-1, 1, divisions + 1), np.ones(len(angles))])
    tangents = np.concatenate([-np.tan(angles[::-1]), np.zeros(divisions + 1), np.tan(angles)])
    return np.stack([core, tangents])


def _box_side(
    axis: int, sign: float, half: Float[np.ndarray, "3"], radius: float, lines: list[Float[np.ndarray, "2 K"]]
) -> Solid:
    """One side of a rounded box: the core box plus a ball, seen from one of six directions."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    both = np.empty((2, lines[second].shape[1], lines[first].shape[1], 3))  # place and direction of every point
    both[..., axis] = sign
    both[..., first], both[..., second] = sign * lines[first][:, None], lines[second][:, :, None]
    place, direction = both
    points = place * (half - radius) + radius * direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    along, across = (first, second) if half[first] >= half[second] else (second, first)
    return grid(points, np.stack([points[..., along] + half[along], points[..., across] + half[across]], axis=-1))
