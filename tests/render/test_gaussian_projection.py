import math

import torch
from scipy.spatial.transform import Rotation

from mdtdist.render.cameras import orbit_camera
from mdtdist.render.gaussian_projection import covariance_3d, project_covariance, quaternion_to_matrix


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_quaternions_are_wxyz_and_turn_counterclockwise() -> None:
    quarter = torch.tensor([[math.cos(math.pi / 4), 0.0, 0.0, math.sin(math.pi / 4)]], dtype=torch.float64)
    x_axis = quaternion_to_matrix(quarter)[0] @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(x_axis, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_quaternions_agree_with_scipy_at_any_length() -> None:
    quaternions = _random(20, 4)
    expected = torch.from_numpy(Rotation.from_quat(quaternions.numpy(), scalar_first=True).as_matrix())
    torch.testing.assert_close(quaternion_to_matrix(quaternions), expected)


def test_covariance_has_the_scales_along_the_local_axes() -> None:
    scales, rotations = _random(20, 3).abs(), _random(20, 4)
    axes = quaternion_to_matrix(rotations)
    torch.testing.assert_close(covariance_3d(scales, rotations) @ axes, axes * scales[:, None] ** 2)


def test_projected_covariance_is_that_of_the_projection_s_derivative() -> None:
    camera = orbit_camera(0.7, 0.4)
    means, covariances = 0.2 * _random(10, 3), covariance_3d(_random(10, 3).abs(), _random(10, 4))
    jacobian = torch.autograd.functional.jacobian(lambda m: camera.project(m, 64)[0], means)
    jacobian = torch.stack([jacobian[i, :, i] for i in range(10)])
    expected = jacobian @ covariances @ jacobian.mT
    torch.testing.assert_close(project_covariance(covariances, means, camera, size=64), expected)


def test_covariance_far_outside_the_view_stays_bounded() -> None:
    camera = orbit_camera(-math.pi / 2, 0.0)  # at y = -2, looks along +y
    means = torch.tensor([[50.0, -1.5, 0.0]])
    covariance = project_covariance(0.01 * torch.eye(3)[None], means, camera, size=64)[0, 0, 0]
    focal, u = camera.focal(64) / 0.5, 1.3 * math.tan(camera.fov / 2)
    torch.testing.assert_close(covariance.item(), 0.01 * focal**2 * (1 + u**2), rtol=1e-5, atol=0)
