"""Points on surfaces and how well two sets of them agree.

Systems export splats, shells with insides and closed meshes, so surfaces are compared by what can be seen of them:
depth pictures from the same cameras become points, in one way for every system and for the references.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.depth_normals import depth_normals, pixel_rays
from mdtdist.evaluation.assets.pictures import render_views
from mdtdist.evaluation.assets.reading import Asset3D
from mdtdist.evaluation.metrics.geometry import voxel_iou as grid_iou
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.render.ray_caster import face_normals, sample_texture
from mdtdist.representations.triangles import TexturedTriangles

# Pixels in which a surface is seen more nearly from its edge are left out: at the outlines of splats, whose depths are
# means, they are ramps from the object to what is behind it. About 6 degrees.
MIN_COSINE = 0.1
_SPLAT_VIEWS, _SPLAT_SIZE = 24, 256  # that points of splats are taken from
_DENSITY_RADIUS = 0.02  # object units


class SurfacePoints(NamedTuple):
    """Points in object space.

    Attributes:
        points: object units.
        colors: display-referred sRGB in [0, 1]; None where the asset has none.
        normals: unit; towards the side they were seen from, or by the winding of the triangle they lie on.
    """

    points: Float[np.ndarray, "N 3"]
    colors: Float[np.ndarray, "N 3"] | None
    normals: Float[np.ndarray, "N 3"] | None


def unproject(
    depth: Float[Tensor, "V S S"],
    cameras: Sequence[Camera],
    *,
    normals: Float[Tensor, "V 3 S S"] | None = None,
    min_cosine: float = MIN_COSINE,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """The points of the surface that depth pictures show, view by view, row by row.

    Args:
        depth: along the view axis at the pixel centres, object units; 0 where there is nothing.
        cameras: one per picture.
        normals: of the pictures; found from the depths if they are not given.
        min_cosine: of the angle between normal and ray; pixels that see the surface more nearly from its edge, or
            have no normal, are left out.

    Returns:
        Points and unit normals towards the cameras, float64.

    Raises:
        InputError: if there are not as many cameras as pictures.
    """
    parts = [
        (points, facing)
        for points, facing, _ in _unproject_views(depth, cameras, normals=normals, min_cosine=min_cosine)
    ]
    points, facing = (np.concatenate(values) for values in zip(*parts, strict=True))
    return points, facing


def sample_surface(asset: Asset3D, count: int, seed: int) -> SurfacePoints:
    """Points spread evenly over the area of a surface.

    Of triangles, all of them are drawn from, inner ones too; holes of a texture are not. Splats have no surface: the
    points are those that 24 depth pictures show, thinned where many cameras see the same place.

    Args:
        asset: in object space.
        count: points.
        seed: of the drawing.

    Raises:
        InputError: if ``count`` is below 1 or there is no surface.
    """
    if count < 1:
        raise InputError(f"count is {count}; expected at least one point")
    generator = np.random.default_rng(seed)
    if asset.triangles is not None:
        return _sample_triangles(asset.triangles, count, generator, has_color=asset.has_color)
    return _sample_splats(asset, count, generator)


def point_scores(
    a: Float[np.ndarray, "N 3"],
    b: Float[np.ndarray, "M 3"],
    *,
    tau: float,
    normals_a: Float[np.ndarray, "N 3"] | None = None,
    normals_b: Float[np.ndarray, "M 3"] | None = None,
) -> dict[str, float]:
    """How well points on an output agree with points on the reference.

    Args:
        a: of the output.
        b: of the reference.
        tau: distance within which a point counts as found, object units.
        normals_a, normals_b: unit normals, for the consistency.

    Returns:
        ``chamfer``: mean of the two mean distances to the nearest point of the other set, not squared.
        ``chamfer_squared``: sum of the two mean squared distances, as Fan et al. (2017) define it.
        ``precision``: share of ``a`` within ``tau`` of ``b``; ``recall``: of ``b`` within ``tau`` of ``a``;
        ``f_score``: their harmonic mean (Knapitsch et al., 2017).
        ``normal_consistency``, with both normals: mean over both directions of the absolute cosine between the normals
        of nearest points (Mescheder et al., 2019); absolute, because the winding of triangles carries no meaning.

    Raises:
        InputError: if a set is empty or ``tau`` not positive.
    """
    if not len(a) or not len(b) or not tau > 0:
        raise InputError(f"{len(a)} and {len(b)} points, tau {tau}; expected points on both sides and tau above 0")
    to_b, near_b = cKDTree(b).query(a, workers=1)
    to_a, near_a = cKDTree(a).query(b, workers=1)
    precision, recall = float((to_b <= tau).mean()), float((to_a <= tau).mean())
    scores = {
        "chamfer": float(to_b.mean() + to_a.mean()) / 2,
        "chamfer_squared": float((to_b**2).mean() + (to_a**2).mean()),
        "precision": precision,
        "recall": recall,
        "f_score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }
    if normals_a is not None and normals_b is not None:
        cosines = (np.abs((normals_a * normals_b[near_b]).sum(1)), np.abs((normals_b * normals_a[near_a]).sum(1)))
        scores["normal_consistency"] = float(cosines[0].mean() + cosines[1].mean()) / 2
    return scores


def voxel_iou(a: Float[np.ndarray, "N 3"], b: Float[np.ndarray, "M 3"], *, resolution: int = 64) -> float:
    """Intersection over union of the voxels of the unit cube that the points touch: of surfaces, not of volumes.

    Points outside of the cube count for the voxel nearest to them.

    Raises:
        InputError: if ``resolution`` is below 1.
    """
    if resolution < 1:
        raise InputError(f"resolution is {resolution}; expected at least one voxel")
    return grid_iou(_occupancy(a, resolution), _occupancy(b, resolution))


def _occupancy(points: Any, resolution: int) -> Tensor:
    grid = np.zeros((resolution,) * 3, bool)
    x, y, z = np.floor((np.asarray(points) + 0.5) * resolution).clip(0, resolution - 1).astype(np.int64).T
    grid[x, y, z] = True
    return torch.from_numpy(grid)


def _unproject_views(
    depth: Float[Tensor, "V S S"],
    cameras: Sequence[Camera],
    *,
    normals: Float[Tensor, "V 3 S S"] | None,
    min_cosine: float,
) -> list[tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], Int[np.ndarray, "N"]]]:
    """Points, normals and pixel numbers of each view."""
    if len(depth) != len(cameras) or not cameras:
        raise InputError(f"{len(depth)} depth pictures and {len(cameras)} cameras; expected one camera per picture")
    views = []
    for index, camera in enumerate(cameras):
        image = depth[index].cpu()
        found = depth_normals(image, camera) if normals is None else normals[index].cpu()
        rays, facing = pixel_rays(camera, len(image)).flatten(0, 1), found.double().flatten(1).T
        cosine = -(torch.nn.functional.normalize(rays, dim=1) * facing).sum(1)
        kept = ((image.flatten() > 0) & (cosine >= min_cosine)).nonzero()[:, 0]
        position = camera.camera_to_world[:3, 3].cpu().double()
        points = position + rays[kept] * image.flatten().double()[kept, None]
        views.append((points.numpy(), facing[kept].numpy(), kept.numpy()))
    return views


def _sample_triangles(
    triangles: TexturedTriangles, count: int, generator: np.random.Generator, *, has_color: bool
) -> SurfacePoints:
    corners = triangles.triangles
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    if not areas.sum() > 0:
        raise InputError("the triangles have no area; expected a surface")
    has_holes = any(material.has_holes for material in triangles.materials)
    parts: list[tuple[np.ndarray, ...]] = []
    for _ in range(20 if has_holes else 1):  # a surface that is more than 95 % hole is not worth waiting for
        face = generator.choice(len(areas), count, p=areas / areas.sum())
        weights = _uniform_weights(generator, count)
        colors, opacity = _surface_colors(triangles, face, weights)
        solid = opacity >= 0.5
        parts.append((np.einsum("nc,ncd->nd", weights, corners[face])[solid], colors[solid], face[solid]))
        if sum(len(part[0]) for part in parts) >= count:
            break
    points, colors, face = (np.concatenate(values)[:count] for values in zip(*parts, strict=True))
    if len(points) < count:
        raise InputError(f"only {len(points)} of {count} points fell on the surface; its texture is nearly all hole")
    return SurfacePoints(points, colors if has_color else None, face_normals(triangles)[face])


def _uniform_weights(generator: np.random.Generator, count: int) -> Float[np.ndarray, "N 3"]:
    """Barycentric weights, uniform over a triangle (Osada et al., 2002, Eq. 1)."""
    root, along = np.sqrt(generator.random(count)), generator.random(count)
    return np.stack([1 - root, root * (1 - along), root * along], axis=1)


def _surface_colors(
    triangles: TexturedTriangles, face: Int[np.ndarray, "N"], weights: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
    """Colours without light, and the alpha of textures."""
    corners = triangles.faces[face]
    colors = np.einsum("nc,ncd->nd", weights, triangles.vertex_colors[corners])
    uv = np.einsum("nc,ncd->nd", weights, triangles.uv[corners])
    opacity, numbers = np.ones(len(face)), triangles.face_material[face]
    for number in np.unique(numbers):
        material, chosen = triangles.materials[number], numbers == number
        colors[chosen] *= material.color
        if material.texture is not None:
            # Premultiplied, so that the colour of holes does not bleed into their rims.
            texture = np.asarray(Image.fromarray(material.texture).convert("RGBa"))
            texel = sample_texture(texture, uv[chosen]) / 255
            colors[chosen] *= texel[:, :3] / texel[:, 3:].clip(1e-3)
            opacity[chosen] = texel[:, 3]
    return colors.clip(0, 1), opacity


def _sample_splats(asset: Asset3D, count: int, generator: np.random.Generator) -> SurfacePoints:
    cameras = _all_around(_SPLAT_VIEWS)
    views = render_views(asset, cameras, size=_SPLAT_SIZE, background=0.0)
    parts = _unproject_views(views.depth, cameras, normals=views.normals, min_cosine=MIN_COSINE)
    solid = views.pictures / views.alpha.clamp_min(1e-3)[:, None]  # colour of the splats alone
    colors = [image.flatten(1).T.numpy()[pixels] for image, (*_, pixels) in zip(solid, parts, strict=True)]
    points, normals = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    if not len(points):
        raise InputError(f"{asset.path} shows no surface from any side; expected something opaque")
    rows = _thin(points, count, generator)
    return SurfacePoints(points[rows], np.concatenate(colors)[rows].clip(0, 1).astype(np.float64), normals[rows])


def _thin(points: Float[np.ndarray, "N 3"], count: int, generator: np.random.Generator) -> Int[np.ndarray, "N"]:
    """Rows drawn with a chance inverse to the number of points near them; some twice if there are few."""
    some = generator.permutation(len(points))[: 4 * count]
    crowd = cKDTree(points[some]).query_ball_point(points[some], _DENSITY_RADIUS, workers=1, return_length=True)
    chance = 1 / np.asarray(crowd, dtype=np.float64)
    enough = len(some) >= 2 * count
    return some[generator.choice(len(some), count, replace=not enough, p=chance / chance.sum())]


def _all_around(count: int) -> list[Camera]:
    """Cameras on a spiral from the top to the bottom of a sphere, spread evenly over it."""
    heights = 1 - 2 * (np.arange(count) + 0.5) / count
    yaws = np.pi * (3 - np.sqrt(5)) * np.arange(count)  # the golden angle
    return [orbit_camera(float(yaw), float(np.arcsin(z))) for yaw, z in zip(yaws, heights, strict=True)]
