"""Scores of point sets whose distances are known, and surfaces seen by cameras."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.alignment import Alignment, as_matrix
from mdtdist.evaluation.assets.depth_normals import depth_normals, pixel_rays, smooth_depth
from mdtdist.evaluation.assets.points import _thin, point_scores, sample_surface, unproject, voxel_iou
from mdtdist.evaluation.assets.reading import Asset3D, asset_of_gaussians
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.representations import SH_C0, Gaussians
from mdtdist.representations.triangles import Material, TexturedTriangles
from tests.data.shapes import BLUE, RED, WHITE, facing_square, join, square

FRONT = orbit_camera(-math.pi / 2, 0.0)
AS_IS = Alignment(rotation=as_matrix(np.eye(3)), scale=1.0, offset=(0.0, 0.0, 0.0), how="given", sentence="as it is")


def _mesh_asset(triangles: TexturedTriangles) -> Asset3D:
    return Asset3D(path=Path("mesh"), triangles=triangles, alignment=AS_IS, is_unlit=True)


def _sphere(radius: float, count: int = 4000) -> np.ndarray:
    """Points spread evenly (Fibonacci)."""
    z = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    ring = np.sqrt(1 - z**2)
    return radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)


def _sphere_depth(camera: Camera, radius: float, size: int) -> torch.Tensor:
    """Depth picture of a sphere around the origin, by the quadratic formula."""
    rays, origin = pixel_rays(camera, size), camera.camera_to_world[:3, 3].double()
    a, b, c = (rays**2).sum(-1), rays @ origin, origin @ origin - radius**2
    inside = b**2 - a * c
    return torch.where(inside > 0, (-b - inside.clamp_min(0).sqrt()) / a, 0.0).float()


# ------------------------------------------------------------------------------------------------------------ scores


def test_concentric_spheres_are_their_difference_of_radius_apart() -> None:
    a, b = _sphere(0.4), _sphere(0.3)
    scores = point_scores(a, b, tau=0.05, normals_a=a / 0.4, normals_b=-b / 0.3)
    assert scores["chamfer"] == pytest.approx(0.1, rel=3e-3)
    assert scores["chamfer_squared"] == pytest.approx(0.02, rel=6e-3)
    assert scores["f_score"] == 0 == scores["precision"] == scores["recall"]
    assert scores["normal_consistency"] == pytest.approx(1, abs=1e-3)  # without sign
    assert point_scores(a, b, tau=0.11)["f_score"] == 1
    assert "normal_consistency" not in point_scores(a, b, tau=0.1)


def test_a_set_with_an_outlier_has_less_precision_and_full_recall() -> None:
    reference = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    output = np.concatenate([reference, [[0.2, 0.5, 0]]])
    scores = point_scores(output, reference, tau=0.01)
    assert (scores["precision"], scores["recall"]) == (0.75, 1.0)
    assert scores["f_score"] == pytest.approx(2 * 0.75 / 1.75)
    assert scores["chamfer"] == pytest.approx((0.5 / 4 + 0) / 2)
    assert scores["chamfer_squared"] == pytest.approx(0.25 / 4)
    swapped = point_scores(reference, output, tau=0.01)
    assert (swapped["precision"], swapped["recall"]) == (1.0, 0.75)


def test_shifted_plane_is_found_from_its_shift_on() -> None:
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 40), np.linspace(-0.5, 0.5, 40))
    plane = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    shifted = plane + [0, 0, 0.02]
    assert point_scores(plane, shifted, tau=0.019)["f_score"] == 0
    assert point_scores(plane, shifted, tau=0.021)["f_score"] == 1
    assert point_scores(plane, shifted, tau=1.0)["chamfer"] == pytest.approx(0.02)


def test_normals_at_an_angle_agree_by_its_cosine() -> None:
    points = _sphere(0.4, 500)
    normals = np.tile([0.0, 0.0, 1.0], (500, 1))
    tilted = np.tile([0.0, math.sin(0.4), math.cos(0.4)], (500, 1))
    scores = point_scores(points, points, tau=0.1, normals_a=normals, normals_b=tilted)
    assert scores["normal_consistency"] == pytest.approx(math.cos(0.4))


def test_normals_are_compared_with_those_of_the_nearest_point() -> None:
    points, normals = np.eye(3), np.roll(np.eye(3), 1, axis=0)
    order = [1, 2, 0]  # not its own inverse
    scores = point_scores(points, points[order], tau=0.1, normals_a=normals, normals_b=normals[order])
    assert scores["normal_consistency"] == 1


def test_empty_sets_and_wrong_thresholds_are_refused() -> None:
    points = np.zeros((1, 3))
    for a, b, tau in ((points, points[:0], 0.1), (points[:0], points, 0.1), (points, points, 0.0)):
        with pytest.raises(InputError, match="points"):
            point_scores(a, b, tau=tau)


def test_voxels_of_points_overlap_as_counted() -> None:
    a = np.array([[-0.4, -0.4, -0.4], [0.4, 0.4, 0.4], [0.3, 0.4, 0.4], [-0.1, 0.1, 0.1]])
    b = np.array([[-0.3, -0.3, -0.3], [0.1, 0.1, 0.1], [0.1, -0.1, 0.1]])
    # At 2^3: a touches 000, 111, 011 and b 000, 111, 101.
    assert voxel_iou(a, b, resolution=2) == 0.5
    assert voxel_iou(a, a) == 1 and voxel_iou(a[:1], b[1:2]) == 0
    assert voxel_iou(np.array([[0.5, 0.5, 0.5]]), np.array([[0.49, 2.0, 0.49]]), resolution=4) == 1


# -------------------------------------------------------------------------------------------------------- unprojection


def test_points_of_depth_pictures_lie_on_the_sphere() -> None:
    cameras = [orbit_camera(yaw, pitch) for yaw, pitch in ((0.3, 0.2), (2.4, -0.5), (4.5, 1.0))]
    depth = torch.stack([_sphere_depth(camera, 0.45, 96) for camera in cameras])
    points, normals = unproject(depth, cameras)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.45, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    outward = (normals * points / 0.45).sum(1)
    assert np.quantile(outward, 0.02) > 0.97 and outward.mean() > 0.995  # differences are across a pixel
    # Each view sees the cap in front of its camera only.
    first = points[: int((depth[0] > 0).sum() * 0.9)]
    assert (first @ cameras[0].camera_to_world[:3, 3].numpy() > 0).all()


def test_normals_of_a_tilted_plane_are_exact() -> None:
    normal = torch.tensor([0.3, -0.9, 0.4], dtype=torch.float64)
    normal = normal / normal.norm()
    camera = orbit_camera(-1.2, 0.4)
    rays, origin = pixel_rays(camera, 32), camera.camera_to_world[:3, 3].double()
    depth = ((0.1 - origin @ normal) / (rays @ normal)).float()
    normals = depth_normals(depth, camera)
    torch.testing.assert_close(normals, normal.float()[:, None, None].expand(3, 32, 32), atol=2e-4, rtol=0)


def test_smoothing_takes_steps_out_of_a_surface_and_leaves_its_edges() -> None:
    steps = 1.8 + 0.01 * torch.tensor([0.0, 1.0]).repeat(16, 8)  # columns alternate
    steps[:, 8:] += 0.5
    steps[0] = 0
    smooth = smooth_depth(steps)
    assert (smooth[4:12, 3:6].max() - smooth[4:12, 3:6].min()) < 0.002
    assert smooth[:, :8].max() <= 1.81 and smooth[1:, 8:].min() >= 2.3 - 1e-6
    assert not smooth[0].any() and (smooth[1] > 1.79).all()
    ramp = (1.8 + 0.001 * torch.arange(16.0)).expand(16, 16)
    torch.testing.assert_close(smooth_depth(ramp)[2:-2, 2:-2], ramp[2:-2, 2:-2])


def test_normals_next_to_an_edge_are_those_of_the_own_surface() -> None:
    depth = torch.full((16, 16), 1.8)
    depth[:, 8:] = 2.2  # two walls that face the camera, one behind the other
    normals = depth_normals(depth, FRONT)
    torch.testing.assert_close(normals, torch.tensor([0.0, -1.0, 0.0])[:, None, None].expand(3, 16, 16))
    depth[:, :8] = 0
    assert not depth_normals(depth, FRONT)[:, :, :8].any()
    lonely = torch.zeros(16, 16)
    lonely[4, 4] = 2.0
    assert not depth_normals(lonely, FRONT).any()


def test_ramps_between_two_surfaces_are_left_out() -> None:
    """Mean depths at the outline of a splat lie between it and what is behind; they are points on nothing."""
    depth = torch.full((128, 128), 1.8)
    depth[:, 64:] = 2.3
    depth[:, 63], depth[:, 64] = 1.95, 2.15
    points, _ = unproject(depth[None], [FRONT])
    assert set(np.round(points[:, 1] + 2, 6)) == {1.8, 2.3}
    everything, _ = unproject(depth[None], [FRONT], min_cosine=-1.0)
    assert len(everything) == 128 * 128 and len(points) == 126 * 128


def test_given_normals_are_taken() -> None:
    normals = torch.zeros(1, 3, 8, 8)
    normals[:, 2, :4] = 1.0  # seen from the edge: nothing is kept
    normals[:, 1, 4:] = -1.0
    points, facing = unproject(torch.full((1, 8, 8), 2.0), [FRONT], normals=normals)
    assert len(points) == 32 and (facing == [0, -1, 0]).all() and (points[:, 2] < 0).all()
    with pytest.raises(InputError, match="one camera per picture"):
        unproject(torch.ones(2, 8, 8), [FRONT])


# ------------------------------------------------------------------------------------------------------------ samples


def test_samples_of_triangles_are_uniform_over_area() -> None:
    floor = square([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.1, 0], [-0.5, 0.1, 0]], Material(color=RED))
    wall = square([[-0.5, 0.3, 0], [0.5, 0.3, 0], [0.5, 0.3, 0.2], [-0.5, 0.3, 0.2]], Material(color=BLUE))
    points, colors, normals = sample_surface(_mesh_asset(join(floor, wall)), 8000, seed=0)
    on_wall = points[:, 1] > 0.2
    assert on_wall.mean() == pytest.approx(0.25, abs=0.02)  # areas 0.6 and 0.2
    assert colors is not None and normals is not None
    assert np.allclose(colors[on_wall], BLUE) and np.allclose(colors[~on_wall], RED)
    assert np.allclose(np.abs(normals[on_wall, 1]), 1) and np.allclose(np.abs(normals[~on_wall, 2]), 1)
    # Over a rectangle: its mean and variance.
    np.testing.assert_allclose(points[~on_wall, :2].mean(0), [0, -0.2], atol=0.02)
    np.testing.assert_allclose(points[~on_wall, :2].var(0), [1 / 12, 0.36 / 12], rtol=0.05)
    again, *_ = sample_surface(_mesh_asset(join(floor, wall)), 8000, seed=0)
    other, *_ = sample_surface(_mesh_asset(join(floor, wall)), 8000, seed=1)
    assert (again == points).all() and not (other == points).all()


def test_samples_carry_the_texture_and_avoid_its_holes() -> None:
    texture = np.zeros((8, 8, 4), np.uint8)
    texture[:, :4] = (0, 255, 0, 255)  # left half green, right half a hole
    asset = _mesh_asset(facing_square(0.0, Material(color=WHITE, texture=texture)))
    points, colors, _ = sample_surface(asset, 500, seed=3)
    assert len(points) == 500 and colors is not None
    assert (points[:, 0] < 0.05).mean() > 0.97 and colors[points[:, 0] < -0.1].mean(0).tolist() == [0, 1, 0]


def test_shapes_without_colour_have_none() -> None:
    _, colors, _ = sample_surface(_mesh_asset(facing_square(0.0, Material())), 10, seed=0)
    assert colors is None
    flat = square([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0]], Material())
    with pytest.raises(InputError, match="no area"):
        sample_surface(_mesh_asset(flat), 10, seed=0)
    with pytest.raises(InputError, match="count is 0"):
        sample_surface(_mesh_asset(flat), 0, seed=0)


def test_samples_of_splats_lie_on_what_they_show_and_are_even() -> None:
    centers = torch.from_numpy(_sphere(0.4, 2000)).float()
    gaussians = Gaussians(
        means=centers,
        scales=torch.full((2000, 3), 0.016),
        rotations=torch.tensor([[1.0, 0, 0, 0]]).expand(2000, 4),
        opacities=torch.full((2000,), 0.95),
        sh=((torch.tensor([0.9, 0.3, 0.1]) - 0.5) / SH_C0).expand(2000, 1, 3),
    )
    points, colors, normals = sample_surface(asset_of_gaussians(gaussians), 3000, seed=0)
    radius = np.linalg.norm(points, axis=1)
    assert len(points) == 3000 and abs(radius.mean() - 0.4) < 0.01 and radius.std() < 0.01
    assert colors is not None and normals is not None
    np.testing.assert_allclose(colors, np.tile([0.9, 0.3, 0.1], (3000, 1)), atol=0.01)
    assert ((normals * points).sum(1) / radius).mean() > 0.9
    octants = np.bincount((points > 0) @ [1, 2, 4], minlength=8)
    assert octants.min() > 300 and octants.max() < 450  # 375 each


def test_places_that_many_cameras_see_count_no_more() -> None:
    generator = np.random.default_rng(0)
    crowded, lonely = generator.uniform(-0.3, 0, (9000, 3)), generator.uniform(0, 0.3, (1000, 3))
    points = np.concatenate([crowded, lonely]) * [1, 1, 0]  # two squares of one size
    rows = _thin(points, 600, generator)
    assert len(set(rows)) == 600 and (rows >= 9000).mean() == pytest.approx(0.3, abs=0.1)  # 0.1 of all, 0.3 seen
