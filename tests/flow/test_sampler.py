import pytest
import torch

from mdtdist.flow import (
    ConsistencySampler,
    DenseLayout,
    EulerSampler,
    Guidance,
    LinearPath,
    PackedLayout,
    Sampler,
    SamplerStep,
)
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


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_along_average_velocities_are_exact(steps):
    sampler = EulerSampler(steps=steps, rescale_t=2.0, takes=frozenset({"interval"}))
    x = sampler.sample(TEACHER.average_velocity, _noise(), num_samples=6).x
    expected = TEACHER.endpoint(_noise(), torch.ones(6, dtype=torch.float64))
    assert torch.allclose(x, expected, atol=1e-6)  # observed 6e-8, the times being float32


def test_a_field_that_takes_the_interval_is_told_where_each_step_ends():
    told = []

    def field(x, t, *, r):
        assert r.dtype == torch.float32 and r.shape == (6,)
        told.append((float(t[0]), float(r[0])))
        return torch.zeros_like(x)

    guidance = Guidance(w=1.0, interval=(0.5, 1.0))
    sampler = EulerSampler(steps=4, guidance=guidance, takes=frozenset({"interval"}))
    assert sampler.sample(field, _noise(), num_samples=6, negative=field).num_evaluations == 7
    steps = [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    assert told == [step for step in steps for _ in range(1 if step == steps[-1] else 2)]


def test_a_field_that_takes_the_guidance_is_told_the_weight_and_asked_once():
    told = []

    def field(x, t, *, w):
        assert w.dtype == torch.float32 and w.shape == (6,)
        told.append(float(w[0]))
        return TEACHER.velocity(x, t) + 0.1 * w[:, None]

    def negative(x, t):
        raise AssertionError("evaluated")

    guidance = Guidance(w=3.0, interval=(0.5, 1.0))
    sampler = EulerSampler(steps=4, guidance=guidance, takes=frozenset({"guidance"}))
    trajectory = sampler.sample(field, _noise(), num_samples=6, negative=negative)
    assert told == [3.0] * 4 and trajectory.num_evaluations == 4
    sampler = EulerSampler(steps=2, guidance=guidance, takes=frozenset({"guidance", "interval"}))
    sampler.sample(lambda x, t, *, r, w: 0 * x, _noise(), num_samples=6)


def test_unknown_inputs_of_a_field_are_refused():
    with pytest.raises(ValueError, match="takes has 'step'; expected 'interval' or 'guidance'"):
        EulerSampler(steps=1, takes=frozenset({"step"}))


@pytest.mark.parametrize("layout", [DenseLayout(6), PackedLayout((1, 5))])
def test_consistency_sampler_jumps_and_adds_noise(layout):
    student, noise, num = Gaussian(layout=layout), _noise(), layout.num_samples
    sampler = ConsistencySampler(steps=3, rescale_t=2.0)
    trajectory = sampler.sample(student.phi, noise, num_samples=num, generator=torch.Generator().manual_seed(1))
    generator, x = torch.Generator().manual_seed(1), noise
    for t, t_next in ((1.0, 0.8), (0.8, 0.5), (0.5, 0.0)):
        x = student.endpoint(x, torch.full((num,), t, dtype=torch.float64))
        if t_next > 0:
            x = (1 - t_next) * x + t_next * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(trajectory.x, x, atol=1e-6)  # observed 6e-8
    assert trajectory.num_evaluations == 3
    assert [step.t for step in trajectory.steps] == pytest.approx([1.0, 0.8, 0.5])


def test_consistency_samples_of_the_ideal_student_have_the_moments_of_the_data():
    num = 20_000
    student = Gaussian(layout=DenseLayout(num))
    noise = torch.randn(num, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    x = ConsistencySampler(steps=4).sample(student.phi, noise, num_samples=num, generator=generator).x
    assert abs(float(x.mean()) - student.mean) < 0.02
    assert abs(float(x.std()) - student.std) < 0.02


def test_one_consistency_step_is_one_euler_step_and_needs_no_generator():
    samplers: list[Sampler] = [ConsistencySampler(steps=1), EulerSampler(steps=1)]
    first, second = (one.sample(TEACHER.phi, _noise(), num_samples=6).x for one in samplers)
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="consistency sampler of 2 steps adds noise; give it a generator"):
        ConsistencySampler(steps=2).sample(TEACHER.phi, _noise(), num_samples=6)


def test_consistency_jumps_always_end_at_the_data():
    ends = []

    def field(x, t, *, r):
        ends.append(float(r.max()))
        return torch.zeros_like(x)

    sampler = ConsistencySampler(steps=3, takes=frozenset({"interval"}))
    sampler.sample(field, _noise(), num_samples=6, generator=torch.Generator().manual_seed(0))
    assert ends == [0.0] * 3
