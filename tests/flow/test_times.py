import pytest
import torch

from mdtdist.flow import LogitNormalTime, UniformTime, rescale_time, time_grid


@pytest.mark.parametrize("rescale_t", [0.5, 1.0, 3.0])
def test_time_warp_keeps_its_ends_and_its_order(rescale_t):
    warped = rescale_time(torch.linspace(0, 1, 11, dtype=torch.float64), rescale_t)
    assert warped[0] == 0 and warped[-1] == 1
    assert (warped.diff() > 0).all()


def test_time_warp_formula():
    assert rescale_time(torch.tensor(0.5), 3.0) == 0.75  # 3 * 0.5 / (1 + 2 * 0.5)
    t = torch.linspace(0, 1, 7)
    assert torch.equal(rescale_time(t, 1.0), t)
    assert torch.allclose(rescale_time(rescale_time(t, 3.0), 1 / 3), t)


def test_grid_runs_from_noise_to_data():
    grid = time_grid(4, rescale_t=3.0)
    assert grid.dtype == torch.float64
    assert torch.allclose(grid, torch.tensor([1, 0.9, 0.75, 0.5, 0], dtype=torch.float64))


@pytest.mark.parametrize("options", [{"num_steps": 0}, {"num_steps": 2, "rescale_t": 0.0}])
def test_grid_refuses_impossible_values(options):
    with pytest.raises(ValueError, match="expected"):
        time_grid(**options)


def test_logit_normal_moments():
    t = LogitNormalTime(mean=1.0, std=0.7).sample(50_000, generator=torch.Generator().manual_seed(0))
    logits = torch.logit(t)
    assert abs(float(logits.mean()) - 1.0) < 0.01
    assert abs(float(logits.std()) - 0.7) < 0.01
    assert 0 < t.min() and t.max() < 1


def test_uniform_moments():
    t = UniformTime().sample(50_000, generator=torch.Generator().manual_seed(0))
    assert abs(float(t.mean()) - 0.5) < 0.01
    assert abs(float(t.var()) - 1 / 12) < 0.002


@pytest.mark.parametrize("times", [UniformTime(), LogitNormalTime()])
def test_draws_follow_the_generator(times):
    first, again, other = (times.sample(8, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
