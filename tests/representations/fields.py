"""Fields on grids of cubes for tests, and what can be counted on a mesh."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from mdtdist.representations.flexicubes import CubeField
from mdtdist.representations.flexicubes.tables import CORNERS, EDGES


def grid_points(resolution: int) -> Tensor:
    """Integer grid vertices [(R + 1)^3, 3], z fastest."""
    axis = torch.arange(resolution + 1)
    return torch.cartesian_prod(axis, axis, axis)


def dense_field(sdf: Callable[[Tensor], Tensor] | Tensor, resolution: int, **values: Tensor) -> CubeField:
    """All cubes of the grid over [-0.5, 0.5]^3, in float64, with a function of the positions or given values."""
    positions = grid_points(resolution).double() / resolution - 0.5
    axis = torch.arange(resolution)
    coords = torch.cartesian_prod(axis, axis, axis)
    x, y, z = (coords[:, None] + torch.tensor(CORNERS)).unbind(-1)
    corners = (x * (resolution + 1) + y) * (resolution + 1) + z
    signed = sdf(positions) if callable(sdf) else sdf
    return CubeField(positions=positions, sdf=signed, coords=coords, corners=corners, **values)


def one_corner_field(**values: Tensor) -> CubeField:
    """A unit cube with only corner 0 inside; the surface crosses the edges 0, 3 and 8."""
    corners = torch.tensor(CORNERS)
    sdf = torch.ones(8, dtype=torch.float64)
    sdf[0] = -1
    rows = torch.arange(8)[None]
    return CubeField(positions=corners.double(), sdf=sdf, coords=torch.zeros(1, 3).int(), corners=rows, **values)


def sphere(radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Callable[[Tensor], Tensor]:
    """Signed distance of a sphere."""
    return lambda p: (p - p.new_tensor(center)).norm(dim=-1) - radius


def torus(p: Tensor) -> Tensor:
    """Signed distance of a torus around the z axis, radii 0.27 and 0.11."""
    return torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 0.27, p[:, 2]) - 0.11


def noise(resolution: int, seed: int = 0) -> Tensor:
    """Independent signs inside the grid, outside on its border."""
    points = grid_points(resolution)
    values = torch.randn(len(points), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    border = ((points == 0) | (points == resolution)).any(1)
    return torch.where(border, 1.0, values)


def is_closed(faces: Tensor) -> bool:
    """Whether every directed edge occurs once and its opposite once."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()
    counts = Counter(map(tuple, edges))
    return all(count == 1 and counts[b, a] == 1 for (a, b), count in counts.items())


def euler_characteristic(faces: Tensor) -> int:
    """Vertices minus edges plus faces, of the vertices that faces use."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    return len(faces.unique()) - len(edges.unique(dim=0)) + len(faces)


def enclosed_volume(vertices: Tensor, faces: Tensor) -> float:
    """Positive if the faces turn counter-clockwise seen from outside."""
    a, b, c = vertices[faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def middle(edge: int) -> Tensor:
    """Middle of an edge of the unit cube."""
    first, second = (torch.tensor(CORNERS[end], dtype=torch.float64) for end in EDGES[edge])
    return (first + second) / 2
