"""The student's samples: one call with gradients, whatever came before it."""

import pytest
import torch

from mdtdist.flow import DenseLayout, EulerSampler
from mdtdist.objectives.options import TimeOptions
from mdtdist.objectives.samples import RenoiseOptions, SampleOptions, renoise
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)
X, _ = latents(LAYOUT, rows=6)


def _noise(seed=0):
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _draw(options, student, seed=0):
    return options.draw(student, X, layout=LAYOUT, generator=torch.Generator().manual_seed(seed))


def test_one_step_is_noise_minus_the_students_velocity():
    student = Network(LAYOUT)
    expected = _noise() - student(_noise(), torch.ones(6, dtype=torch.float64))
    assert torch.equal(_draw(SampleOptions(), student), expected)


class Recorder:
    """A student that notes when it is asked, where, and whether gradients are on."""

    def __init__(self):
        self.network, self.calls = Network(LAYOUT), []

    def __call__(self, x, t):
        self.calls.append((x.detach(), float(t[0]), torch.is_grad_enabled() and not x.requires_grad))
        return self.network(x, t)


@pytest.mark.parametrize("simulation", ["renoise", "euler"])
def test_starts_anywhere_on_the_grid_and_only_the_last_call_has_gradients(simulation):
    options = SampleOptions(steps=3, simulation=simulation, rescale_t=2.0)
    starts = set()
    for seed in range(20):
        student = Recorder()
        sample = _draw(options, student, seed)
        x, t, _ = student.calls[-1]
        assert [call[1] for call in student.calls] == pytest.approx([1.0, 0.8, 0.5][: len(student.calls)])
        assert [call[2] for call in student.calls] == [False] * (len(student.calls) - 1) + [True]
        assert torch.allclose(sample, x - t * student.network(x, torch.full((6,), t, dtype=torch.float64)))
        starts.add(len(student.calls))
    assert starts == {1, 2, 3}


def test_euler_simulation_visits_the_states_of_the_sampler():
    options = SampleOptions(steps=3, simulation="euler", rescale_t=2.0)
    for seed in range(20):
        student = Recorder()
        sample = _draw(options, student, seed)
        if len(student.calls) == 3:
            break
    sampler = EulerSampler(steps=3, rescale_t=2.0)
    trajectory = sampler.sample(student.network, _noise(seed), num_samples=6)
    assert torch.allclose(student.calls[1][0], trajectory.steps[0].x, atol=1e-6)
    assert torch.allclose(sample, trajectory.x, atol=1e-6)


def test_renoised_states_have_the_marginals_of_the_teacher():
    layout = DenseLayout(4000)
    teacher, like = Gaussian(layout=layout), torch.zeros(4000, 3, dtype=torch.float64)
    states = {}

    def student(x, t):
        states[float(t[0])] = x
        return teacher.phi(x, t)

    options = SampleOptions(steps=2, rescale_t=3.0)
    for seed in range(4):
        sample = options.draw(student, like, layout=layout, generator=torch.Generator().manual_seed(seed))
        # The ideal student makes the data, wherever it starts.
        assert abs(sample.mean() - teacher.mean) < 0.03 and abs(sample.std() - teacher.std) < 0.03
    assert abs(states[0.75].mean() - 0.25 * teacher.mean) < 0.03
    assert abs(states[0.75].var() - (0.25 * teacher.std) ** 2 - 0.75**2) < 0.03


def test_renoise_keeps_the_sample_at_the_data_end():
    t = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.5, 0.5], dtype=torch.float64)
    x_t = renoise(X, _noise(), t, layout=LAYOUT)
    assert torch.equal(x_t[0], X[0]) and torch.equal(x_t[1], _noise()[1])
    assert torch.allclose(x_t[2], 0.75 * X[2] + 0.25 * _noise()[2])


def test_half_precision_latents_keep_their_type_and_float_times():
    t, noise = RenoiseOptions().draw(X.half(), layout=LAYOUT, generator=torch.Generator().manual_seed(0))
    assert t.dtype == torch.float32 and noise.dtype == torch.float16
    assert renoise(X.half(), noise, t, layout=LAYOUT).dtype == torch.float16


@pytest.mark.parametrize("options", [{"steps": 0}, {"simulation": "ddim"}, {"rescale_t": 0.0}])
def test_options_refuse_impossible_values(options):
    (name,) = options
    with pytest.raises((ValueError, TypeError), match=name):
        SampleOptions(**options)


def test_renoise_times_keep_the_order_of_their_distribution():
    time = TimeOptions(kind="logit_normal", mean=2.0, std=0.5)
    like = torch.zeros(2000, 1)
    t, _ = RenoiseOptions(time=time, low=0.2, high=0.6).draw(
        like, layout=DenseLayout(2000), generator=torch.Generator().manual_seed(0)
    )
    assert 0.2 <= t.min() and t.max() <= 0.6
    assert abs(float(t.mean()) - (0.2 + 0.4 * 0.87)) < 0.01  # the mean of sigmoid(2 + n / 2) is 0.87
