"""Fused distances against spheres and planes, whose depth pictures are known in closed form."""

import math

import numpy as np
import pytest
import torch

from mdtdist.data.depth_fusion import DepthViews
from mdtdist.data.views import View
from mdtdist.render.cameras import Camera, orbit_camera

SIZE, RADIUS, REACH = 128, 0.35, 3 / 128
PIXEL = 2 * 1.65 * math.tan(math.radians(20)) / SIZE  # of the picture, at the sphere
ORANGE = (255, 128, 0, 255)


def _rays(camera: Camera) -> torch.Tensor:
    """Object-space directions of the pixel centres, depth one."""
    centres = (torch.arange(SIZE) + 0.5 - SIZE / 2) / camera.focal(SIZE)
    rays = torch.stack([centres.expand(SIZE, SIZE), centres[:, None].expand(SIZE, SIZE), torch.ones(SIZE, SIZE)], -1)
    return rays @ camera.rotation


def _view(camera: Camera, depth: torch.Tensor) -> View:
    rgba = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    rgba[depth.numpy() > 0] = ORANGE
    return View(camera=camera, rgba=rgba, depth=depth.numpy().astype(np.float32), is_cond=True)


def _sphere_view(camera: Camera) -> View:
    rays, origin = _rays(camera), camera.camera_to_world[:3, 3]
    a, b, c = (rays**2).sum(-1), (rays @ origin), origin @ origin - RADIUS**2
    root = b**2 - a * c
    return _view(camera, torch.where(root > 0, (-b - root.clamp_min(0).sqrt()) / a, 0.0))


def _plane_view(camera: Camera) -> View:
    """The plane z = 0."""
    origin = camera.camera_to_world[:3, 3]
    return _view(camera, -origin[2] / _rays(camera)[..., 2])


@pytest.fixture(scope="module")
def sphere() -> DepthViews:
    angles = [(yaw, pitch) for yaw in range(0, 360, 60) for pitch in (-50, 0, 50)]
    cameras = [orbit_camera(math.radians(yaw), math.radians(pitch)) for yaw, pitch in angles]
    return DepthViews.from_views([_sphere_view(camera) for camera in cameras])


def _around_sphere(num: int, shell: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=1)
    return directions * (RADIUS + shell * (2 * torch.rand(num, 1, generator=generator) - 1))


def test_distance_to_a_sphere_is_exact_near_it_and_has_the_right_sign_farther_off(sphere):
    near, around = _around_sphere(1000, shell=0.3 * PIXEL), _around_sphere(2000, shell=0.8 * REACH)
    error = (sphere.sample(near, reach=REACH).distance - (near.norm(dim=1) - RADIUS)).abs()
    assert error.mean() < 0.05 * PIXEL and error.max() < 0.3 * PIXEL
    truth, distance = around.norm(dim=1) - RADIUS, sphere.sample(around, reach=REACH).distance
    clear = truth.abs() > 0.2 * PIXEL
    assert torch.equal(distance[clear] > 0, truth[clear] > 0)
    assert (distance - truth).abs().mean() < 0.2 * PIXEL


def test_far_points_are_cut_off_at_the_reach_outside_and_inside(sphere):
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.45, 0.45, 0.0], [0.0, 0.0, 5.0]])
    samples = sphere.sample(points, reach=REACH)
    torch.testing.assert_close(samples.distance, torch.tensor([-REACH, -REACH, REACH, REACH]))
    assert not samples.seen.any() and (samples.color == 0).all()


def test_normals_point_outward_and_colours_are_the_object_s_own(sphere):
    points = _around_sphere(500, shell=0.1 * REACH)
    samples = sphere.sample(points, reach=REACH)
    assert samples.seen.float().mean() > 0.99
    cosine = (samples.normal * points / points.norm(dim=1, keepdim=True)).sum(1)[samples.seen]
    assert cosine.mean() > 0.995 and cosine.min() > 0.95
    orange = torch.tensor(ORANGE[:3]) / 255
    assert (samples.color[samples.seen] - orange).abs().max() < 1e-3  # no background mixed in at the silhouette


def test_gradient_of_the_distance_is_the_normal(sphere):
    points = _around_sphere(500, shell=0.5 * REACH).requires_grad_()
    (gradient,) = torch.autograd.grad(sphere.sample(points, reach=REACH).distance.sum(), points)
    cosine = torch.nn.functional.cosine_similarity(gradient, points.detach(), dim=1)
    assert cosine.median() > 0.99


@pytest.mark.parametrize("pitches", [(12,), (40,), (12, 40)])
def test_a_plane_seen_at_a_grazing_angle_has_exact_distances(pitches):
    """Twelve degrees above the plane: without the slope the distance would come out five times too large."""
    views = [_plane_view(orbit_camera(-math.pi / 2, math.radians(pitch))) for pitch in pitches]
    points = torch.tensor([[0.05, 0.03, z] for z in (-0.015, -0.004, 0.004, 0.015)])
    distance = DepthViews.from_views(views).sample(points, reach=REACH).distance
    torch.testing.assert_close(distance, points[:, 2], rtol=0, atol=3e-4)


def test_one_view_in_front_is_enough_to_be_outside():
    """Behind the plane for a camera below it, in front of it for one above."""
    above, below = (_plane_view(orbit_camera(-math.pi / 2, math.radians(pitch))) for pitch in (40, -40))
    point = torch.tensor([[0.0, 0.0, 0.01]])
    assert DepthViews.from_views([below]).sample(point, reach=REACH).distance < 0
    torch.testing.assert_close(
        DepthViews.from_views([below, above]).sample(point, reach=REACH).distance,
        torch.tensor([0.01]),
        rtol=0,
        atol=3e-4,
    )
