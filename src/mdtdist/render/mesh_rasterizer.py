"""Pictures of meshes without a ray caster: every triangle's pixels, the nearest one kept."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from mdtdist.render.cameras import Camera
from mdtdist.representations import Mesh

_GREY = 0.8
_NEAREST = 1e-3  # triangles that come nearer to the camera than this are left out


def render_mesh(mesh: Mesh, camera: Camera, *, size: int = 256, supersampling: int = 2) -> UInt8[np.ndarray, "S S 4"]:
    """The texture, else the vertex colours, else grey, unlit and from both sides.

    Returns:
        Straight alpha, sRGB, row 0 at the top.
    """
    fine = size * supersampling
    rows, columns, faces, weights = visible_pixels(mesh, camera, fine)
    color, alpha = np.zeros((fine, fine, 3)), np.zeros((fine, fine))
    color[rows, columns], alpha[rows, columns] = _surface_color(mesh, faces, weights), 1.0
    blocks = (size, supersampling, size, supersampling)
    coverage = alpha.reshape(blocks).mean((1, 3))
    rgb = color.reshape(*blocks, 3).mean((1, 3)) / coverage.clip(1e-9)[..., None]
    return (np.concatenate([rgb.clip(0, 1), coverage[..., None]], axis=-1) * 255).round().astype(np.uint8)


def visible_pixels(
    mesh: Mesh, camera: Camera, size: int
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"], Int[np.ndarray, "P"], Float[np.ndarray, "P 3"]]:
    """Row, column, nearest face and perspective-correct barycentric weights of every pixel that shows the mesh."""
    pixels, depth = (x.numpy() for x in camera.project(torch.from_numpy(mesh.vertices).float(), size))
    in_front = (depth[mesh.faces] > _NEAREST).all(1).nonzero()[0]
    corners = mesh.faces[in_front]
    rows, columns, faces, weights = covered_pixels(pixels[corners].astype(np.float64), size)
    # 1 / depth is linear in the picture; an attribute a is the ratio of the linear a / depth and 1 / depth.
    weights = weights / depth[corners[faces]]
    distance = 1 / weights.sum(1)
    order = np.lexsort([distance, rows * size + columns])
    pixel = (rows * size + columns)[order]
    kept = order[np.diff(pixel, prepend=-1) > 0]
    return rows[kept], columns[kept], in_front[faces[kept]], (weights * distance[:, None])[kept]


def covered_pixels(
    corners: Float[np.ndarray, "F 3 2"], size: int
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"], Int[np.ndarray, "P"], Float[np.ndarray, "P 3"]]:
    """The pixels of a square picture whose centres lie in triangles.

    Args:
        corners: x to the right, y down, pixels; the centre of the first pixel is (0.5, 0.5).
        size: side of the picture.

    Returns:
        Row, column, triangle and barycentric weights of each covered pixel, once per triangle; a pixel on a common
        edge belongs to both.
    """
    corners = corners - 0.5  # pixel centres at integers
    low = np.clip(np.ceil(corners.min(1)), 0, size - 1).astype(np.int64)
    high = np.clip(np.floor(corners.max(1)), -1, size - 1).astype(np.int64)
    width, height = np.maximum(high - low + 1, 0).T
    counts = width * height
    face = np.repeat(np.arange(len(corners)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    column = low[face, 0] + within % width[face]
    row = low[face, 1] + within // width[face]
    weights = _barycentric(corners, face, np.stack([column, row], -1))
    covered = (weights >= -1e-9).all(1)
    return row[covered], column[covered], face[covered], weights[covered]


def _barycentric(
    corners: Float[np.ndarray, "F 3 2"], face: Int[np.ndarray, "T"], points: Int[np.ndarray, "T 2"]
) -> Float[np.ndarray, "T 3"]:
    """Barycentric weights of points in their triangles; all minus one where a triangle has no area."""
    origin, first, second = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    scale = np.where(np.abs(area) > 1e-12, 1 / np.where(area == 0, 1, area), np.nan)[face]
    offset, first, second = points - origin[face], first[face], second[face]
    b = (offset[:, 0] * second[:, 1] - offset[:, 1] * second[:, 0]) * scale
    c = (first[:, 0] * offset[:, 1] - first[:, 1] * offset[:, 0]) * scale
    return np.nan_to_num(np.stack([1 - b - c, b, c], -1), nan=-1.0)


def _surface_color(
    mesh: Mesh, faces: Int[np.ndarray, "P"], weights: Float[np.ndarray, "P 3"]
) -> Float[np.ndarray, "P 3"]:
    corners = mesh.faces[faces]
    if mesh.texture is not None and mesh.uv is not None:
        height, width = mesh.texture.shape[:2]
        uv = np.einsum("pc,pcd->pd", weights, mesh.uv[corners])
        column = np.clip(uv[:, 0] * width, 0, width - 1).astype(np.int64)
        row = np.clip((1 - uv[:, 1]) * height, 0, height - 1).astype(np.int64)
        return mesh.texture[row, column] / 255.0
    if mesh.vertex_colors is not None:
        return np.einsum("pc,pcd->pd", weights, mesh.vertex_colors[corners])
    return np.full((len(faces), 3), _GREY)
