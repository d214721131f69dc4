import pytest
import torch

from mdtdist.flow import DenseLayout, EulerSampler, Guidance, LinearPath, SamplerStep
from tests.objectives.gaussian import Gaussian

TEACHER = Gaussian(layout=DenseLayout(6))


def _noise():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_euler_is_first_order():
    noise = _noise()
    exact = TEACHER.endpoint(noise, torch.ones(6, dtype=torch.float64))
    steps = torch.tensor([20, 40, 80, 160], dtype=torch.float64)
    errors = [
        (EulerSampler(steps=int(n)).sample(TEACHER.velocity, noise, num_samples=6).x - exact).norm() for n in steps
    ]
    slope = -torch.diff(torch.stack(errors).log()) / torch.diff(steps.log())
    assert ((slope - 1).abs() < 0.1).all(), slope


def test_one_step_of_the_ideal_student_is_exact():
    noise = _noise()
    x = EulerSampler(steps=1).sample(TEACHER.phi, noise, num_samples=6).x
    assert torch.allclose(x, TEACHER.endpoint(noise, torch.ones(6, dtype=torch.float64)), atol=1e-12)


def test_official_contract_costs_44_evaluations():
    # 19 of the 25 warped times are at least 0.5.
    sampler = EulerSampler(steps=25, rescale_t=3.0, guidance=Guidance(w=5.0, interval=(0.5, 1.0)))
    calls = []

    def field(x, t):
        calls.append(t)
        return TEACHER.velocity(x, t)

    trajectory = sampler.sample(field, _noise(), num_samples=6, negative=field)
    assert trajectory.num_evaluations == len(calls) == 44
    assert [step.num_evaluations for step in trajectory.steps] == [2] * 19 + [1] * 6


def test_guidance_of_zero_equals_the_conditional_field():
    def negative(x, t):
        raise AssertionError("evaluated")

    plain = EulerSampler(steps=4).sample(TEACHER.velocity, _noise(), num_samples=6)
    guided = EulerSampler(steps=4, guidance=Guidance(w=0.0)).sample(
        TEACHER.velocity, _noise(), num_samples=6, negative=negative
    )
    assert torch.equal(plain.x, guided.x)
    assert plain.num_evaluations == 4


def test_guidance_extrapolates_away_from_the_negative_field():
    negative = Gaussian(mean=-0.7, layout=DenseLayout(6)).velocity
    sampler = EulerSampler(steps=8, guidance=Guidance(w=1.0))
    plain = EulerSampler(steps=8).sample(TEACHER.velocity, _noise(), num_samples=6).x
    guided = sampler.sample(TEACHER.velocity, _noise(), num_samples=6, negative=negative).x
    assert guided.mean() > plain.mean() + 0.1


def test_missing_negative_field_is_refused():
    with pytest.raises(ValueError, match="needs a negative velocity field"):
        EulerSampler(steps=2, guidance=Guidance(w=1.0)).sample(TEACHER.velocity, _noise(), num_samples=6)


def test_steps_and_callback_record_the_trajectory():
    seen: list[SamplerStep] = []
    path = LinearPath(sigma_min=1e-2)
    sampler = EulerSampler(steps=3, rescale_t=2.0, path=path)
    trajectory = sampler.sample(TEACHER.velocity, _noise(), num_samples=6, callback=seen.append)
    assert tuple(seen) == trajectory.steps
    assert [step.t for step in seen][0] == 1 and seen[-1].t_next == 0
    assert all(a.t_next == b.t for a, b in zip(seen[:-1], seen[1:], strict=True))
    assert torch.equal(seen[-1].x, trajectory.x)
    first_v = TEACHER.velocity(_noise(), torch.ones(6))
    assert torch.allclose(seen[0].x_0, 0.99 * _noise() - first_v)
    assert torch.allclose(seen[0].x, _noise() - (1 - seen[0].t_next) * first_v)


def test_field_is_asked_with_a_float32_time_for_each_sample():
    def field(x, t):
        assert t.dtype == torch.float32 and t.shape == (6,)
        return torch.zeros_like(x)

    EulerSampler(steps=2).sample(field, _noise(), num_samples=6)
