"""The closed-form teacher is right: it is checked against samples and against an integrated trajectory."""

import torch

from mdtdist.flow import DenseLayout, LinearPath
from tests.objectives.gaussian import Gaussian


def test_velocity_is_the_conditional_mean_of_the_path_velocity():
    # For Gaussians the conditional mean is linear in x_t, so least squares on samples finds it.
    generator = torch.Generator().manual_seed(0)
    num, t = 200_000, 0.35
    teacher = Gaussian(layout=DenseLayout(num))
    z, x_0 = torch.randn(2, num, 1, generator=generator, dtype=torch.float64)
    x_0 = teacher.mean + teacher.std * x_0
    path = LinearPath()
    x_t = path.sample(x_0, z, torch.tensor(t))
    inputs = torch.cat([x_t, torch.ones_like(x_t)], dim=1)
    slope, intercept = torch.linalg.lstsq(inputs, path.velocity(x_0, z)).solution[:, 0].tolist()
    at = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    v = Gaussian(layout=DenseLayout(2)).velocity(at, torch.full((2,), t, dtype=torch.float64))
    # Monte-Carlo error about 4e-3.
    assert abs(float(v[0]) - intercept) < 0.02
    assert abs(float(v[1] - v[0]) - slope) < 0.02


def test_endpoint_is_where_the_ode_leads():
    teacher = Gaussian(layout=DenseLayout(4))
    x = torch.linspace(-2, 2, 4, dtype=torch.float64)[:, None]
    t = torch.tensor([1.0, 0.8, 0.5, 0.3], dtype=torch.float64)
    expected, num = teacher.endpoint(x, t), 500
    for i in range(num):  # midpoint rule
        now = t * (1 - i / num)
        half = x - (t / num / 2)[:, None] * teacher.velocity(x, now)
        x = x - (t / num)[:, None] * teacher.velocity(half, now - t / num / 2)
    assert torch.allclose(x, expected, atol=1e-7)  # observed 1.9e-9


def test_one_step_of_the_ideal_student_has_the_moments_of_the_data():
    num = 100_000
    teacher = Gaussian(layout=DenseLayout(num))
    z = torch.randn(num, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = z - teacher.phi(z, torch.ones(num, dtype=torch.float64))
    assert abs(float(x.mean()) - teacher.mean) < 0.01
    assert abs(float(x.std()) - teacher.std) < 0.01


def test_average_velocity_leads_along_the_trajectory():
    teacher = Gaussian(layout=DenseLayout(5))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([1.0, 0.9, 0.5, 0.4, 0.3], dtype=torch.float64)
    r = torch.tensor([0.0, 0.2, 0.4, 0.4, 0.0], dtype=torch.float64)
    reached = x - (t - r)[:, None] * teacher.average_velocity(x, t, r=r)
    assert torch.allclose(teacher.endpoint(reached, r), teacher.endpoint(x, t), atol=1e-12)
    assert torch.allclose(teacher.average_velocity(x, t, r=0 * t), teacher.phi(x, t), atol=1e-12)
    assert torch.allclose(teacher.average_velocity(x, t, r=t), teacher.velocity(x, t), atol=1e-12)
