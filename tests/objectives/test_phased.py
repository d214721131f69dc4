"""Phased consistency: the ends of phases, end points inside them, the adversarial part."""

from dataclasses import replace

import pytest
import torch

from mdtdist.flow import DenseLayout
from mdtdist.objectives import (
    Fields,
    Latents,
    PhasedConsistencyConfig,
    consistency_pair,
    phase_end,
    phased_consistency_loss,
    phased_discriminator_loss,
)
from mdtdist.objectives.phased import add_noise
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)


def straight(velocity):
    """A field of straight lines, along which every step is exact."""
    return lambda x, t: torch.zeros_like(x) + velocity


def mean_of(x, t):
    """A discriminator of two heads that likes large values, of which ``t`` has no part."""
    return torch.stack([LAYOUT.mean(x), 3 * LAYOUT.mean(x)], dim=1)


def run(loss, student, teacher, *, discriminator=None, target=None, target_of="online", **options):
    """The loss of one network; ``target`` is the field of that name, ``target_of`` the option."""
    x_0, _ = latents(LAYOUT, rows=6)
    return loss(
        Fields(student=student, teacher=teacher, discriminator=discriminator, target=target),
        Latents(x_0=x_0, layout=LAYOUT),
        config=PhasedConsistencyConfig(target=target_of, **options),
        generator=torch.Generator().manual_seed(0),
    )


def test_phases_end_at_the_largest_edge_a_step_does_not_cross():
    t = torch.tensor([0.0, 0.005, 0.25, 0.255, 0.26, 0.5, 0.52, 0.75, 0.76, 1.0], dtype=torch.float64)
    expected = torch.tensor([0, 0, 0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75], dtype=torch.float64)
    assert torch.equal(phase_end(t, 4, 0.01), expected)
    assert (phase_end(t, 1, 0.01) == 0).all()
    assert torch.equal(phase_end(t, 2, 0.0), (t >= 0.5) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("phases", [1, 2, 4, 5])
def test_grid_times_step_onto_the_edges_whatever_their_rounding(phases, dtype):
    index = torch.arange(1, 101)
    expected = (index - 1).div(100 // phases, rounding_mode="floor") / phases
    assert torch.allclose(phase_end(index * torch.tensor(0.01, dtype=dtype), phases, 0.01).float(), expected)


@pytest.mark.parametrize("phases", [1, 2, 4])
def test_on_the_grid_prediction_and_target_have_the_same_phase(phases):
    config = PhasedConsistencyConfig(phases=phases)
    assert config.on_grid
    x_0, layout = torch.zeros(2000, 1), DenseLayout(2000)
    asked = []

    def student(x, t):
        asked.append(t)
        return torch.zeros_like(x)

    phased_consistency_loss(
        Fields(student=student, teacher=straight(0.0)),
        Latents(x_0=x_0, layout=layout),
        config=config,
        generator=torch.Generator().manual_seed(0),
    )
    t, t_next = asked
    end = phase_end(t, phases, config.gap)
    inside = t_next > end + 1e-5
    assert torch.equal(phase_end(t_next, phases, config.gap)[inside], end[inside])
    assert inside.float().mean() > 0.9 and len(end.unique()) == phases


def _state(x, t, s):
    """Where the Gaussian teacher takes ``(x, t)`` by the time ``s``: at the same number of standard deviations."""
    spread = [((1 - u) ** 2 * TEACHER.std**2 + u**2).sqrt() for u in (t, s)]
    return (1 - s) * TEACHER.mean + spread[1] / spread[0] * (x - (1 - t) * TEACHER.mean)


def test_the_ideal_student_reaches_the_state_at_the_end_of_the_phase():
    x, t = latents(LAYOUT, rows=6)
    end = torch.full_like(t, 0.2)

    def student(x, t):
        return (x - _state(x, t[:, None], end[:, None])) / (t - end)[:, None]

    gap = 1e-3
    pair = consistency_pair(student, student, TEACHER.velocity, x, t, t_next=t - gap, end=end, layout=LAYOUT)
    reached = _state(x, t[:, None], end[:, None])
    assert torch.allclose(pair.prediction, reached, atol=1e-12)
    assert torch.allclose(pair.target, reached, atol=1e-5)  # observed 2e-6, the step's own error
    assert (reached - x).abs().max() > 0.1 and (reached - TEACHER.endpoint(x, t)).abs().max() > 0.1


@pytest.mark.parametrize("phases", [1, 3])
def test_value_and_gradient_of_a_known_deviation(phases):
    # Between c + a and the straight teacher c lies gap a; the student's side alone has a gradient, s - t on it.
    gap, c = 0.1, 1.3  # one of the times drawn is smaller
    a = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = run(
        phased_consistency_loss,
        lambda x, t: straight(c)(x, t) + a,
        straight(c),
        phases=phases,
        delta_t=gap,
        on_grid=False,
    )
    end = phase_end(out.t, phases, gap)
    difference = torch.minimum(out.t, torch.tensor(gap)) * a.detach()
    root = (difference**2 + 1e-6).sqrt()
    assert torch.allclose(out.loss, root - 1e-3, atol=1e-12) and torch.equal(out.loss, out.consistency)
    (grad,) = torch.autograd.grad(out.loss.sum(), a)
    assert torch.allclose(grad, (difference / root * (out.t - end)).sum(), atol=1e-12)
    assert (end.max() > 0) == (phases > 1)


def test_a_phase_ends_in_the_state_itself():
    # Steps as long as the phases end on the edges, where no network is believed.
    wrong = straight(1e6)
    options = {"phases": 2, "delta_t": 0.5, "on_grid": True, "target_of": "ema"}
    exact = run(phased_consistency_loss, straight(1.3), straight(1.3), target=wrong, **options)
    assert exact.loss.max() < 1e-12 and set(exact.t.tolist()) == {0.5, 1.0}


def test_the_slow_average_can_be_the_target():
    student = Network(LAYOUT)
    online = run(phased_consistency_loss, student, TEACHER.velocity, target=straight(0.0))
    same = run(phased_consistency_loss, student, TEACHER.velocity, target=student, target_of="ema")
    other = run(phased_consistency_loss, student, TEACHER.velocity, target=straight(0.0), target_of="ema")
    assert torch.equal(online.loss, same.loss) and not torch.allclose(online.loss, other.loss)


def test_added_noise_leads_from_one_marginal_to_the_other():
    # (1 - s) x_0 + s z becomes (1 - t) x_0 + noise of variance t^2.
    s, t = torch.tensor([0.0, 0.3, 0.6, 0.4]), torch.tensor([0.7, 0.8, 0.6, 1.0])
    layout, one, none = DenseLayout(4), torch.ones(4, 1), torch.zeros(4, 1)
    data = add_noise((1 - s)[:, None], none, s, t, layout=layout)
    old, new = add_noise(s[:, None], none, s, t, layout=layout), add_noise(none, one, s, t, layout=layout)
    assert torch.allclose(data, (1 - t)[:, None], atol=1e-6)
    assert torch.allclose(old**2 + new**2, t[:, None] ** 2, atol=1e-6)
    assert (new >= 0).all() and new[2] < 1e-3


def test_the_adversarial_part_raises_the_logits_of_the_students_end_points():
    a = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = run(
        phased_consistency_loss,
        lambda x, t: straight(1.3)(x, t) + a,
        straight(1.3),
        discriminator=mean_of,
        adversarial_weight=0.1,
        phases=2,
    )
    assert torch.allclose(out.loss, out.consistency + 0.1 * out.adversarial)
    (grad,) = torch.autograd.grad(out.adversarial.sum(), a)
    # Less of a phi makes a larger end point, which the discriminator likes: -dD/da = +2 shrink (t - end).
    assert grad > 0
    assert grad <= (2 * (out.t - phase_end(out.t, 2, 0.01))).sum()


@pytest.mark.parametrize("kind", ["hinge", "softplus"])
def test_the_discriminator_learns_to_tell_targets_from_predictions(kind):
    # Between c + a and the straight teacher c lies gap a, here at noise that both share.
    a, gap = 0.4, 0.05
    seen = []

    def discriminator(x, t):
        seen.append((x, t))
        return mean_of(x, t)

    options = {"phases": 3, "delta_t": gap, "adversarial_weight": 0.1}
    adversarial = replace(PhasedConsistencyConfig().adversarial, kind=kind)
    student = run(phased_consistency_loss, straight(1.3 + a), straight(1.3), discriminator=mean_of, **options)
    out = run(
        phased_discriminator_loss,
        straight(1.3 + a),
        straight(1.3),
        discriminator=discriminator,
        adversarial=adversarial,
        **options,
    )
    end = phase_end(student.t, 3, gap)
    shrink = (1 - out.t) / (1 - end)
    assert (out.t >= end).all() and (out.t <= end + 1 / 3).all() and torch.equal(seen[0][1], out.t)
    assert torch.allclose(out.real - out.generated, 2 * shrink * a * torch.minimum(student.t, torch.tensor(gap)))
    margin = torch.relu if kind == "hinge" else lambda logits: torch.nn.functional.softplus(logits - 1)
    real, generated = (mean_of(x, None) for x, _ in seen)
    assert torch.allclose(out.loss, (margin(1 - real) + margin(1 + generated)).mean(1))


def test_a_perturbation_of_real_end_points_is_penalised():
    adversarial = replace(PhasedConsistencyConfig().adversarial, r1_weight=5.0, r1_noise=0.1)
    options = {"discriminator": mean_of, "adversarial_weight": 0.1}
    plain = run(phased_discriminator_loss, straight(1.0), straight(1.3), **options)
    out = run(phased_discriminator_loss, straight(1.0), straight(1.3), adversarial=adversarial, **options)
    assert torch.allclose(out.loss, plain.loss + 5 * out.r1) and out.r1.min() > 0 and plain.r1.max() == 0


def test_end_points_of_the_discriminator_carry_no_gradient():
    student = Network(LAYOUT)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    out = run(
        phased_discriminator_loss,
        student,
        TEACHER.velocity,
        discriminator=lambda x, t: weight * mean_of(x, t),
        adversarial_weight=0.1,
    )
    out.loss.sum().backward()
    assert weight.grad.abs() > 0 and all(p.grad is None for p in student.parameters())


def test_needs_and_cost():
    assert PhasedConsistencyConfig().needs == frozenset() and PhasedConsistencyConfig().cost.forwards() == 6
    full = PhasedConsistencyConfig(target="ema", adversarial_weight=0.1)
    assert full.needs == {"target", "discriminator"} and full.cost.forwards() == 15
    with pytest.raises(ValueError, match="no discriminator"):
        run(phased_consistency_loss, straight(1.0), straight(1.0), adversarial_weight=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": 0}, "phases is 0"),
        ({"phases": 5, "delta_t": 0.1, "skip": 3}, "longer than each of 5 phases"),
        ({"delta_t": -0.1}, "delta_t is -0.1"),
        ({"solver": "rk4"}, "solver is 'rk4'"),
        ({"adversarial_weight": -0.1}, "adversarial_weight is -0.1"),
    ],
)
def test_config_refuses_impossible_values(options, message):
    with pytest.raises(ValueError, match=message):
        PhasedConsistencyConfig(**options)
