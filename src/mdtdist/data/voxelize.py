"""Surface voxels of triangles: which cells of a cubic grid the surface touches."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mdtdist.representations.triangles import TexturedTriangles

# Pairs (triangle, voxel) tested at once; bounds the memory to some tens of MB.
_CHUNK = 400_000
# Spacing of surface samples on see-through textures, in voxels.
_SAMPLE_SPACING = 0.2


def voxelize_surface(triangles: TexturedTriangles, *, resolution: int = 32) -> UInt8[np.ndarray, "N 3"]:
    """Voxels that a visible surface touches, sorted by (i, j, k).

    Voxel (i, j, k) is the cube around ``(i + 0.5) / resolution - 0.5``. Winding and holes do not matter. Faces
    whose texture has transparent texels are sampled, and only opaque samples count; all others are tested exactly.
    """
    is_cutout = np.array([material.has_holes for material in triangles.materials])[triangles.face_material]
    occupied = np.zeros((resolution,) * 3, dtype=bool)
    voxels = [triangle_voxels(triangles.triangles[~is_cutout], resolution=resolution)]
    for index, material in enumerate(triangles.materials):
        faces = triangles.faces[is_cutout & (triangles.face_material == index)]
        if len(faces):
            assert material.texture is not None
            voxels.append(_cutout_voxels(triangles, faces, material.texture[..., 3], resolution))
    indices = np.concatenate(voxels)
    occupied[tuple(indices.T)] = True
    return np.argwhere(occupied).astype(np.uint8)


def triangle_voxels(corners: Float[np.ndarray, "F 3 3"], *, resolution: int) -> Int[np.ndarray, "M 3"]:
    """Voxels touched by triangles (closed sets, so a shared face touches both neighbours); may repeat.

    Separating axis test of Akenine-Moller (2001), "Fast 3D Triangle-Box Overlap Testing": box normals (through the
    bounding box), triangle normal, and nine edge cross products.
    """
    grid = (np.asarray(corners, dtype=np.float64) + 0.5) * resolution  # voxel (i, j, k) is [i, i + 1] x ...
    low = np.floor(grid.min(axis=1)).astype(np.int64).clip(0, resolution - 1)
    high = np.floor(grid.max(axis=1)).astype(np.int64).clip(0, resolution - 1)
    shape = high - low + 1
    counts = shape.prod(axis=1)
    found = [np.zeros((0, 3), dtype=np.int64)]
    for start, stop in _chunks(counts):
        face = np.repeat(np.arange(start, stop), counts[start:stop])
        first = np.repeat(np.cumsum(counts[start:stop]) - counts[start:stop], counts[start:stop])
        rank = np.arange(len(face)) - first
        size = shape[face]
        offset = np.stack([rank // (size[:, 1] * size[:, 2]), rank // size[:, 2] % size[:, 1], rank % size[:, 2]], 1)
        voxel = low[face] + offset
        found.append(voxel[_overlaps(grid[face] - (voxel[:, None] + 0.5))])
    return np.concatenate(found)


def occupancy_grid(indices: UInt8[np.ndarray, "N 3"], *, resolution: int = 32) -> Bool[np.ndarray, "R R R"]:
    """Voxel indices to a dense grid indexed [x, y, z]."""
    grid = np.zeros((resolution,) * 3, dtype=bool)
    grid[tuple(np.asarray(indices, dtype=np.int64).T)] = True
    return grid


def voxel_centers(indices: UInt8[np.ndarray, "N 3"], *, resolution: int = 32) -> Float[np.ndarray, "N 3"]:
    """Centres ``(i + 0.5) / resolution - 0.5`` in object space."""
    return (np.asarray(indices, dtype=np.float64) + 0.5) / resolution - 0.5


def _chunks(counts: Int[np.ndarray, "F"]) -> list[tuple[int, int]]:
    """Ranges of triangles with about ``_CHUNK`` candidate pairs each (one triangle at least)."""
    ends = np.cumsum(counts)
    bounds = [0]
    while bounds[-1] < len(counts):
        done = ends[bounds[-1] - 1] if bounds[-1] else 0
        bounds.append(max(int(np.searchsorted(ends, done + _CHUNK, side="right")), bounds[-1] + 1))
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def _overlaps(corners: Float[np.ndarray, "P 3 3"]) -> Bool[np.ndarray, "P"]:
    """Whether triangles meet the unit cube around the origin, given that their bounding boxes do."""
    tolerance = 1e-9  # contact counts in spite of rounding
    edges = np.roll(corners, -1, axis=1) - corners
    normal = np.cross(edges[:, 0], edges[:, 1])
    distance = np.abs((normal * corners[:, 0]).sum(axis=1))
    hit = distance <= 0.5 * np.abs(normal).sum(axis=1) + tolerance
    for edge in range(3):
        for axis in range(3):
            direction = np.cross(edges[:, edge], np.eye(3)[axis])
            projected = np.einsum("pcd,pd->pc", corners, direction)
            radius = 0.5 * np.abs(direction).sum(axis=1) + tolerance
            hit &= (projected.min(axis=1) <= radius) & (projected.max(axis=1) >= -radius)
    return hit


def _cutout_voxels(
    triangles: TexturedTriangles, faces: Int[np.ndarray, "F 3"], alpha: UInt8[np.ndarray, "H W"], resolution: int
) -> Int[np.ndarray, "M 3"]:
    """Voxels of opaque samples on faces with a see-through texture."""
    found = [np.zeros((0, 3), dtype=np.int64)]
    for corners, uv in zip(triangles.vertices[faces], triangles.uv[faces], strict=True):
        longest = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).max() * resolution
        weights = _barycentric_grid(int(np.clip(np.ceil(longest / _SAMPLE_SPACING), 1, 200)))
        column, row = (weights @ uv % 1.0 * np.array([alpha.shape[1], alpha.shape[0]])).astype(np.int64).T
        row = alpha.shape[0] - 1 - row.clip(0, alpha.shape[0] - 1)
        is_opaque = alpha[row, column.clip(0, alpha.shape[1] - 1)] >= 128
        points = (weights[is_opaque] @ corners + 0.5) * resolution
        found.append(np.unique(np.floor(points).astype(np.int64).clip(0, resolution - 1), axis=0))
    return np.concatenate(found)


def _barycentric_grid(steps: int) -> Float[np.ndarray, "S 3"]:
    """Barycentric coordinates of a regular triangular grid with ``steps`` intervals along an edge."""
    first, second = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    keep = first + second <= steps
    weights = np.stack([first[keep], second[keep]], axis=1) / steps
    return np.concatenate([weights, 1 - weights.sum(axis=1, keepdims=True)], axis=1)
