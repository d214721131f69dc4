import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtdist.flow import LinearPath


def _draw(seed):
    generator = torch.Generator().manual_seed(seed)
    x_0, z = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    return x_0, z, torch.rand(4, 1, generator=generator, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), sigma_min=st.sampled_from([0.0, 1e-5, 1e-2]))
def test_velocity_gives_data_and_noise_back(seed, sigma_min):
    path = LinearPath(sigma_min=sigma_min)
    x_0, z, t = _draw(seed)
    x_t, v = path.sample(x_0, z, t), path.velocity(x_0, z)
    assert torch.allclose(path.x_0_from_velocity(x_t, v, t), x_0, rtol=0, atol=1e-10)
    assert torch.allclose(path.noise_from_velocity(x_t, v, t), z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sigma_min", [0.0, 1e-2])
def test_ends_are_data_and_noise(sigma_min):
    path = LinearPath(sigma_min=sigma_min)
    x_0, z, t = _draw(0)
    assert torch.allclose(path.sample(x_0, z, torch.zeros_like(t)), x_0 + sigma_min * z)
    assert torch.allclose(path.sample(x_0, z, torch.ones_like(t)), z)


def test_sigma_min_formula():
    path = LinearPath(sigma_min=0.1)
    x_0, z, t = torch.tensor([2.0]), torch.tensor([-3.0]), torch.tensor([0.25])
    assert torch.allclose(path.sample(x_0, z, t), torch.tensor([0.75 * 2.0 + (0.1 + 0.9 * 0.25) * -3.0]))
    assert torch.allclose(path.velocity(x_0, z), torch.tensor([0.9 * -3.0 - 2.0]))


@pytest.mark.parametrize("sigma_min", [0.0, 1e-2])
def test_velocity_is_the_time_derivative_of_the_path(sigma_min):
    path = LinearPath(sigma_min=sigma_min)
    x_0, z, t = _draw(1)
    change = (path.sample(x_0, z, t + 1e-3) - path.sample(x_0, z, t)) / 1e-3
    assert torch.allclose(change, path.velocity(x_0, z), atol=1e-9)
