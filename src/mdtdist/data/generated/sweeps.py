"""Solids that a section leaves behind on its way: around an axis, along a curve, straight up; and the curves for it."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from mdtdist.data.generated.solids import Solid, grid, join, path_lengths

Line = Sequence[Sequence[float] | np.ndarray] | np.ndarray
"""Points along a curve: coordinates, one row each."""


def revolve(profile: Line, *, sides: int = 20) -> Solid:
    """A surface of revolution about the z axis.

    Args:
        profile: (radius, z) along the section, the solid on its left: up on the outside, then down on the inside. It
            is closed if it starts and ends on the axis, or where it started.
        sides: flat pieces around.
    """
    line = np.asarray(profile, dtype=np.float64)
    angle = np.pi / 2 + 2 * np.pi * np.arange(sides + 1) / sides
    angle[-1] = angle[0]  # the seam meets exactly
    radius, height = line[:, :1], line[:, 1:]
    flat = np.broadcast_to(height, (len(line), sides + 1))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), flat], axis=-1)
    around = 2 * np.pi * np.arange(sides + 1) / sides * line[:, 0].max()
    return grid(points, _spread(path_lengths(line), around))


def cylinder(radius: float, height: float, *, top: float | None = None, sides: int = 16) -> Solid:
    """A cylinder on the origin, or a cone with another radius on top."""
    end = radius if top is None else top
    return revolve([(0, 0), (radius, 0), (end, height), (0, height)], sides=sides)


def torus(radius: float, thickness: float, *, sides: int = 24, rings: int = 8) -> Solid:
    """A ring in the plane z = 0; ``radius`` to the middle of the tube, ``thickness`` the radius of the tube."""
    angle = np.pi + 2 * np.pi * np.arange(rings + 1) / rings
    line = np.stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)], axis=1)
    return revolve(np.concatenate([line[:-1], line[:1]]), sides=sides)


def tube(path: Line, radius: float | Float[np.ndarray, "K"], *, sides: int = 8, is_loop: bool = False) -> Solid:
    """A rod with a regular polygon as section along a curve in space, its ends closed.

    Args:
        path: distinct neighbours; corners should be rounded (:func:`rounded_path`).
        radius: of the section's corners, one or one per point.
        sides: corners of the section; 4 makes a square bar, its sides upright where the path is level.
        is_loop: the path goes on from its end to its start, and the rod is a ring. It must then be planar.
    """
    line = np.asarray(path, dtype=np.float64)
    size = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(line))
    if is_loop:
        line, size = np.concatenate([line, line[:1]]), np.concatenate([size, size[:1]])
    normals, binormals = _frames(line, is_loop=is_loop)
    angle = 2 * np.pi * (np.arange(sides + 1) % sides + 0.5) / sides
    section = np.cos(angle)[:, None] * normals[:, None] + np.sin(angle)[:, None] * binormals[:, None]
    points = line[:, None] + size[:, None, None] * section
    if not is_loop:
        ends = [np.repeat(line[[end]], sides + 1, axis=0)[None] for end in (0, -1)]
        points = np.concatenate([ends[0], points, ends[1]])
    around = 2 * np.pi * np.arange(sides + 1) / sides * size.max()
    return grid(points, _spread(path_lengths(points.mean(axis=1)), around))


def rod(
    start: Sequence[float], end: Sequence[float], radius: float, *, tip: float | None = None, sides: int = 8
) -> Solid:
    """A straight :func:`tube` between two points, with another radius at its end if ``tip`` is given."""
    return tube([start, end], np.array([radius, radius if tip is None else tip]), sides=sides)


def extrude(outline: Line, height: float) -> Solid:
    """A plate with a polygon (counter-clockwise, without holes) as its outline in x and y, from z = 0 to ``height``."""
    line = np.asarray(outline, dtype=np.float64)
    around = np.concatenate([line, line[:1]])
    walls = np.stack([np.column_stack([around, np.full(len(around), z)]) for z in (0.0, height)])
    side_uv = _spread(np.array([0.0, height]), path_lengths(around))[..., ::-1]  # grain along the edge
    faces = fill_polygon(line)
    caps = [
        Solid(vertices=np.column_stack([line, np.full(len(line), z)]), faces=order, uv=line - line.min(axis=0))
        for z, order in ((0.0, faces[:, ::-1]), (height, faces))
    ]
    return join([grid(walls, side_uv), *caps])


def upright(outline: Line, thickness: float) -> Solid:
    """A plate that stands: an outline in x and z (counter-clockwise from the front), y in +-thickness / 2."""
    return extrude(outline, thickness).turned("x", 90).moved(y=thickness / 2)


def fill_polygon(line: Float[np.ndarray, "K 2"]) -> Int[np.ndarray, "F 3"]:
    """Triangles of a simple counter-clockwise polygon, by clipping ears (Meisters, 1975)."""
    left = list(range(len(line)))
    faces = []
    while len(left) > 3:
        ear = next((place for place in range(len(left)) if _is_ear(line, left, place)), 0)
        faces.append([left[ear - 1], left[ear], left[(ear + 1) % len(left)]])
        del left[ear]
    return np.array([*faces, left], dtype=np.int64)


def spline(points: Line, *, steps: int = 4) -> Float[np.ndarray, "M D"]:
    """A smooth curve through points (Catmull-Rom), ``steps`` pieces between neighbours."""
    line = np.asarray(points, dtype=np.float64)
    line = np.concatenate([2 * line[:1] - line[1:2], line, 2 * line[-1:] - line[-2:-1]])
    t = np.arange(steps)[:, None] / steps
    pieces = []
    for before, start, end, after in zip(line, line[1:], line[2:], line[3:], strict=False):
        slope, bend = end - before, 2 * before - 5 * start + 4 * end - after
        pieces.append(start + 0.5 * (slope * t + bend * t**2 + (3 * start - before - 3 * end + after) * t**3))
    return np.concatenate([*pieces, line[-2:-1]])


def rounded_path(points: Line, radius: float, *, steps: int = 3) -> Float[np.ndarray, "M D"]:
    """A polyline with its corners rounded, starting ``radius`` before each (less where neighbours are near)."""
    line = np.asarray(points, dtype=np.float64)
    out = [line[:1]]
    for before, corner, after in zip(line, line[1:], line[2:], strict=False):
        reach = min(radius, 0.45 * np.linalg.norm(before - corner), 0.45 * np.linalg.norm(after - corner))
        start, end = (corner + reach * (other - corner) / np.linalg.norm(other - corner) for other in (before, after))
        t = np.linspace(0, 1, steps + 1)[:, None]
        out.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end)
    return np.concatenate([*out, line[-1:]])


def arc(radius: float, start: float, end: float, *, pieces: int = 8) -> Float[np.ndarray, "K 2"]:
    """Points on a circle around the origin, from one angle to another, degrees."""
    angle = np.radians(np.linspace(start, end, pieces + 1))
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def hollow(outside: Line, thickness: float) -> list[tuple[float, float]]:
    """A closed section for :func:`revolve` from an outer line (radius, z), bottom first: a vessel with a floor."""
    line = np.asarray(outside, dtype=np.float64)
    inside = np.column_stack([(line[:, 0] - thickness).clip(0.2 * thickness), line[:, 1]])[::-1]
    inside = inside[inside[:, 1] > line[0, 1] + thickness]
    floor = float(line[0, 1]) + thickness
    bottom = [(float(inside[-1, 0]), floor), (0.0, floor)]
    return [(0.0, float(line[0, 1])), *((float(r), float(z)) for r, z in (*line, *inside)), *bottom]


def fluted(solid: Solid, number: int, depth: float) -> Solid:
    """Waves around the z axis, ``number`` of them, of a share ``depth`` of the radius."""

    def wave(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        factor = 1 + depth * np.cos(number * np.arctan2(v[:, 1], v[:, 0]))
        return v * np.column_stack([factor, factor, np.ones(len(v))])

    return solid.mapped(wave)


def narrowed(solid: Solid, factor: Callable[[np.ndarray], np.ndarray], axes: str = "xy") -> Solid:
    """Scaled about the z axis, in x, y or both, by a factor that depends on the height."""
    chosen = np.array([axis in axes for axis in "xyz"])
    return solid.mapped(lambda v: v * np.where(chosen, factor(v[:, 2])[:, None], 1.0))


def _spread(u: Float[np.ndarray, "M"], v: Float[np.ndarray, "N"]) -> Float[np.ndarray, "M N 2"]:
    """Texture coordinates of a grid from those of its rows and columns."""
    return np.stack(np.broadcast_arrays(u[:, None], v[None]), axis=-1)


def _frames(path: Float[np.ndarray, "K 3"], *, is_loop: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across a curve at each point, carried along it without twist; the first starts out level."""
    steps = np.diff(path, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    ends = (steps[-1:] + steps[:1],) * 2 if is_loop else (steps[:1], steps[-1:])
    tangents = np.concatenate([ends[0], steps[:-1] + steps[1:], ends[1]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    upward = np.array([0.0, 0.0, 1.0]) if abs(tangents[0, 2]) < 0.95 else np.array([0.0, 1.0, 0.0])
    normal = np.cross(upward, tangents[0])
    normals = []
    for tangent in tangents:
        normal = normal - (normal @ tangent) * tangent
        normal = normal / np.linalg.norm(normal)
        normals.append(normal)
    across = np.stack(normals)
    return across, np.cross(tangents, across)


def _is_ear(line: Float[np.ndarray, "K 2"], left: list[int], place: int) -> bool:
    """Whether a corner of what is left of a polygon can be cut off: convex, with no other corner inside."""
    before, corner, after = (line[left[(place + step) % len(left)]] for step in (-1, 0, 1))
    if _turn(before, corner, after) <= 1e-14:
        return False
    cut = {left[(place + step) % len(left)] for step in (-1, 0, 1)}
    others = [line[index] for index in left if index not in cut]
    edges = ((before, corner), (corner, after), (after, before))
    return not any(all(_turn(start, end, other) >= 0 for start, end in edges) for other in others)


def _turn(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> float:
    """Twice the signed area of a triangle in the plane."""
    (ax, ay), (bx, by) = second - first, third - first
    return float(ax * by - ay * bx)
