"""Trajectory regression against a teacher whose trajectories are known in closed form."""

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import Fields, Latents, Metric, TeacherTrajectory, TrajectoryConfig, trajectory_loss
from tests.objectives.gaussian import Gaussian, Network, latents

TIMES = (1.0, 0.8, 0.45, 0.2, 0.0)


def states_of(teacher, layout, rows, times=TIMES, seed=0):
    """The teacher's exact trajectory: at ``t`` the state stands ``s_t / s_0`` times as far from its mean as the end."""
    noise, _ = latents(layout, rows=rows, seed=seed)
    end = teacher.endpoint(noise, torch.ones(layout.num_samples, dtype=torch.float64))
    scales = [((1 - t) ** 2 + (t / teacher.std) ** 2) ** 0.5 for t in times]
    states = [(1 - t) * teacher.mean + s * (end - teacher.mean) for t, s in zip(times, scales, strict=True)]
    return TeacherTrajectory(times=times, states=tuple(states))


def run(student, layout, rows, *, seed=0, times=TIMES, **options):
    trajectory = states_of(Gaussian(layout=layout), layout, rows, times)
    data = Latents(x_0=trajectory.states[-1], layout=layout, trajectory=trajectory)

    def refuse(x, t):
        raise AssertionError("the teacher was asked")

    return trajectory, trajectory_loss(
        Fields(student=student, teacher=refuse),
        data,
        config=TrajectoryConfig(**options),
        generator=torch.Generator().manual_seed(seed),
    )


def test_the_closed_form_trajectory_is_one():
    layout = DenseLayout(6)
    teacher = Gaussian(layout=layout)
    trajectory = states_of(teacher, layout, 6)
    assert torch.allclose(trajectory.states[0], latents(layout, rows=6)[0], atol=1e-12)
    for t, state in zip(trajectory.times[:-1], trajectory.states[:-1], strict=True):
        times = torch.full((6,), t, dtype=torch.float64)
        assert torch.allclose(teacher.endpoint(state, times), trajectory.states[-1], atol=1e-12)


@pytest.mark.parametrize("metric", [Metric(), Metric(kind="huber")])
def test_ideal_student_has_neither_loss_nor_gradient(metric):
    layout = DenseLayout(6)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    _, out = run(lambda x, t: Gaussian(layout=layout).phi(x, t) + shift, layout, 6, p_noise=0.2, metric=metric)
    assert out.loss.max() < 1e-9  # the targets are compared in float32
    (grad,) = torch.autograd.grad(out.loss.sum(), shift)
    assert grad.abs() < (1e-5 if metric.kind == "l2" else 1e-3)


@pytest.mark.parametrize("layout", [DenseLayout(6), PackedLayout((1, 3, 2))])
def test_loss_and_gradient_of_a_known_deviation(layout):
    # phi* + a misses the end by -t a.
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    _, out = run(lambda x, t: Gaussian(layout=layout).phi(x, t) + a, layout, 6)
    assert torch.allclose(out.loss.double(), (out.t * a.detach()) ** 2, rtol=1e-5)
    (grad,) = torch.autograd.grad(out.loss.sum(), a)
    assert torch.allclose(grad, (2 * out.t**2 * a.detach()).sum(), rtol=1e-5)


def test_each_sample_starts_at_a_state_of_its_own_trajectory():
    layout, seen = PackedLayout((1, 3, 2)), []

    def student(x, t):
        seen.append((x, t))
        return torch.zeros_like(x)

    for seed in range(8):
        trajectory, out = run(student, layout, 6, seed=seed)
        x, t = seen[-1]
        assert torch.equal(out.t, t)
        for i, (rows, time) in enumerate(zip(x.split(layout.lengths), t.tolist(), strict=True)):
            index = TIMES.index(pytest.approx(time))
            assert index < len(TIMES) - 1
            assert torch.equal(rows, trajectory.states[index].split(layout.lengths)[i])


def test_a_share_starts_at_the_noise_and_the_rest_anywhere_but_at_the_end():
    layout = DenseLayout(4000)
    _, out = run(Network(layout), layout, 4000, p_noise=0.4)
    shares = [float(((out.t - t).abs() < 1e-6).double().mean()) for t in TIMES]
    expected = [0.4 + 0.6 / 4, 0.6 / 4, 0.6 / 4, 0.6 / 4, 0.0]
    assert shares == pytest.approx(expected, abs=0.02)
    assert (run(Network(layout), layout, 4000, p_noise=1.0)[1].t == 1).all()


def test_noise_and_sample_alone_are_a_trajectory():
    layout = DenseLayout(6)
    _, out = run(Network(layout), layout, 6, p_noise=0.0, times=(1.0, 0.0))
    assert (out.t == 1).all()


def test_packed_samples_are_averaged_on_their_own():
    layout = PackedLayout((1, 5))
    trajectory, out = run(lambda x, t: torch.zeros_like(x), layout, 6, p_noise=1.0)
    missed = (trajectory.states[0] - trajectory.states[-1]) ** 2
    expected = torch.stack([missed[:1].mean(), missed[1:].mean()])
    assert torch.allclose(out.loss.double(), expected, rtol=1e-5)


def test_trajectories_that_are_missing_are_asked_for():
    layout = DenseLayout(6)
    fields = Fields(student=Network(layout), teacher=Network(layout))
    data = Latents(x_0=torch.zeros(6, 3), layout=layout)
    with pytest.raises(ValueError, match="needs the teacher's states"):
        trajectory_loss(fields, data, config=TrajectoryConfig(), generator=torch.Generator())


@pytest.mark.parametrize("p_noise", [-0.1, 1.1])
def test_impossible_shares_are_refused(p_noise):
    with pytest.raises(ValueError, match="p_noise is"):
        TrajectoryConfig(p_noise=p_noise)
