"""What the networks of ``small`` read on a voxel: attributes of the surface in it, without an image network.

Channels of a voxel, in order: mean colour (3, sRGB in [0, 1]), share of the views that see it (1), mean normal (3,
towards the views; 0 where none sees it), mean offset of the surface from the centre (3, voxels), whether surface lies
in each octant (8), mean colour of each octant (24; of the voxel where nothing of an octant is known). Octant
``4 i + 2 j + k`` is the upper half of the voxel in x if i = 1, in y if j = 1, in z if k = 1. Colours are shaded by the
usual light, as the pictures are, and means are over what a view sees, where one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from mdtdist.data.features import is_visible
from mdtdist.data.views import View
from mdtdist.data.voxelize import voxel_centers
from mdtdist.render.ray_caster import MIN_ALBEDO, USUAL_LIGHT, MaterialSampler, face_normals, fitting_textures
from mdtdist.representations.triangles import TexturedTriangles

NUM_CHANNELS = 3 + 1 + 3 + 3 + 8 + 24
SAMPLES_PER_FACE = 16  # of a voxel, and so 4 on the face of an octant: few octants are missed
MAX_SAMPLES = 200_000  # an object of many walls is sampled more thinly
_TEXELS_PER_VOXEL = 4.0  # a finer texture would turn into noise
# Of the points in a triangle: the sequence of lowest discrepancy in two dimensions (Roberts, 2018, "R2").
_R2 = np.array([0.7548776662466927, 0.5698402909980532])


@dataclass(frozen=True, kw_only=True)
class SurfaceSamples:
    """Points of the surface, equally dense everywhere.

    Attributes:
        points: object space.
        normals: unit; which of the two is chance.
        albedo: colour without light, sRGB.
    """

    points: Float[np.ndarray, "S 3"]
    normals: Float[np.ndarray, "S 3"]
    albedo: Float[np.ndarray, "S 3"]

    def __getitem__(self, chosen: Int[np.ndarray, "n"] | Bool[np.ndarray, "S"]) -> Self:
        return type(self)(points=self.points[chosen], normals=self.normals[chosen], albedo=self.albedo[chosen])


def voxel_attributes(
    indices: UInt8[np.ndarray, "N 3"],
    triangles: TexturedTriangles,
    views: Sequence[View],
    *,
    resolution: int,
    seed: int,
) -> Float[np.ndarray, "N 42"]:
    """Attributes of the surface voxels of a model; the channels are those of the module.

    A sample is seen by a view if no surface lies more than one voxel before it. A voxel that no sample falls into
    takes the nearest.

    Args:
        indices: of :func:`mdtdist.data.voxelize.voxelize_surface`.
        triangles: the model in the unit cube.
        views: with depth.
        resolution: voxels a side.
        seed: of the samples.
    """
    samples = sample_surface(triangles, resolution=resolution, seed=seed)
    sample, voxel = _assign(samples.points, indices, resolution)
    samples, count = samples[sample], len(indices)
    offsets = (samples.points - voxel_centers(indices, resolution=resolution)[voxel]) * resolution
    offsets = offsets.clip(-0.5, 0.5)  # the nearest sample may lie in a neighbour
    seen, normals, colors = _as_seen(samples, views, tolerance=1 / resolution)
    share = np.mean([_has(voxel[view], count) for view in seen], axis=0)
    counts_for_color = seen.any(axis=0) | (share == 0)[voxel]
    color = _mean(colors[counts_for_color], voxel[counts_for_color], count)
    octant = 8 * voxel + (offsets >= 0) @ np.array([4, 2, 1])
    octant_color = _mean(colors[counts_for_color], octant[counts_for_color], 8 * count).reshape(count, 8, 3)
    has_color = _has(octant[counts_for_color], 8 * count).reshape(count, 8, 1)
    parts = [
        color,
        share[:, None],
        _mean(normals[counts_for_color], voxel[counts_for_color], count),
        _mean(offsets, voxel, count),
        _has(octant, 8 * count).reshape(count, 8),
        np.where(has_color, octant_color, color[:, None]).reshape(count, 24),
    ]
    return np.concatenate(parts, axis=1)


def mirror_rule() -> tuple[Int[np.ndarray, "42"], Float[np.ndarray, "42"]]:
    """Order and sign: channel c of a voxel's mirror image in x is ``sign[c] * channels[order[c]]``."""
    octants = np.arange(8) ^ 4
    colors = 18 + 3 * octants[:, None] + np.arange(3)
    order = np.concatenate([np.arange(10), 10 + octants, colors.reshape(-1)])
    sign = np.ones(NUM_CHANNELS)
    sign[[4, 7]] = -1  # x of the normal and of the offset
    return order, sign


def sample_surface(triangles: TexturedTriangles, *, resolution: int, seed: int) -> SurfaceSamples:
    """Samples of equal area, :data:`SAMPLES_PER_FACE` on the face of a voxel; holes of textures have none."""
    generator = np.random.default_rng(seed)
    corners = triangles.triangles
    ends = np.cumsum(np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2)
    count = int(np.clip(round(ends[-1] * resolution**2 * SAMPLES_PER_FACE), 1, MAX_SAMPLES))
    places = (np.arange(count) + generator.random()) / count * ends[-1]
    face = np.searchsorted(ends, places, side="right").clip(0, len(ends) - 1)
    inner = (np.arange(count)[:, None] * _R2 + generator.random(2)) % 1
    inner = np.where(inner.sum(axis=1, keepdims=True) > 1, 1 - inner, inner)  # the square folded onto the triangle
    weights = np.concatenate([1 - inner.sum(axis=1, keepdims=True), inner], axis=1)
    albedo, opacity = _albedo(triangles, face, weights, resolution)
    points = np.einsum("sc,scd->sd", weights, corners[face])
    samples = SurfaceSamples(points=points, normals=face_normals(triangles)[face], albedo=albedo)
    return samples[opacity > 0]


def _albedo(
    triangles: TexturedTriangles, face: Int[np.ndarray, "S"], weights: Float[np.ndarray, "S 3"], resolution: int
) -> tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S"]]:
    """Colour and opacity, 0 in a hole."""
    corners = triangles.faces[face]
    uv = np.einsum("sc,scd->sd", weights, triangles.uv[corners])
    color = np.einsum("sc,scd->sd", weights, triangles.vertex_colors[corners])
    opacity = np.ones(len(face))
    textures = fitting_textures(triangles, samples_per_unit=_TEXELS_PER_VOXEL * resolution)
    material_of = triangles.face_material[face]
    for index, pair in enumerate(zip(triangles.materials, textures, strict=True)):
        chosen = material_of == index
        surface, opacity[chosen] = MaterialSampler(*pair).sample(uv[chosen])
        color[chosen] *= surface
    return MIN_ALBEDO + (1 - MIN_ALBEDO) * color, opacity


def _assign(
    points: Float[np.ndarray, "S 3"], indices: UInt8[np.ndarray, "N 3"], resolution: int
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Pairs of sample and row of its voxel; every voxel has one."""
    from scipy.spatial import cKDTree

    row_of = np.full((resolution,) * 3, -1)
    row_of[tuple(indices.T.astype(np.int64))] = np.arange(len(indices))
    cells = np.floor((points + 0.5) * resolution).astype(np.int64).clip(0, resolution - 1)
    voxel = row_of[tuple(cells.T)]
    sample = np.nonzero(voxel >= 0)[0]
    empty = np.setdiff1d(np.arange(len(indices)), voxel[sample])
    _, nearest = cKDTree(points).query(voxel_centers(indices[empty], resolution=resolution))
    return np.concatenate([sample, nearest]), np.concatenate([voxel[sample], empty])


def _as_seen(
    samples: SurfaceSamples, views: Sequence[View], *, tolerance: float
) -> tuple[Bool[np.ndarray, "V S"], Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]]:
    """Which views see a sample; mean normal and colour over the sides they see, over both sides if none does."""
    points = torch.from_numpy(samples.points).float()
    seen = np.stack([is_visible(points, view, tolerance=tolerance).numpy() for view in views])
    eyes = [view.camera.camera_to_world[:3, 3].double().numpy() for view in views]
    is_front = np.stack([np.einsum("sd,sd->s", samples.normals, eye - samples.points) > 0 for eye in eyes])
    front, back = (seen & is_front).sum(axis=0), (seen & ~is_front).sum(axis=0)
    share = np.where(front + back > 0, front / np.maximum(front + back, 1), 0.5)[:, None]
    light = [USUAL_LIGHT.factor(side)[:, None] for side in (samples.normals, -samples.normals)]
    colors = samples.albedo * (share * light[0] + (1 - share) * light[1])
    return seen, (2 * share - 1) * samples.normals, colors.clip(0, 1)


def _has(bins: Int[np.ndarray, "P"], count: int) -> Bool[np.ndarray, "N"]:
    """Whether anything falls into each of ``count`` bins."""
    return np.bincount(bins, minlength=count) > 0


def _mean(values: Float[np.ndarray, "P C"], bins: Int[np.ndarray, "P"], count: int) -> Float[np.ndarray, "N C"]:
    """Mean of the values in each of ``count`` bins; 0 in a bin without any."""
    sums = [np.bincount(bins, weights=column, minlength=count) for column in values.T]
    return np.stack(sums, axis=1) / np.bincount(bins, minlength=count).clip(1)[:, None]
