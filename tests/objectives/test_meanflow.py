from functools import partial

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import (
    OBJECTIVES,
    DerivativeOptions,
    Fields,
    Latents,
    MeanFlowConfig,
    TimeOptions,
    average_velocity_residual,
    meanflow_loss,
    transport_residual,
)
from mdtdist.objectives.meanflow import draw_intervals
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)
EXACT = DerivativeOptions(kind="jvp")
KINDS = ("backward", "central", "jvp")


def _states(layout=LAYOUT, rows=6):
    """States, times, and ends between 0 and the time, both of these included."""
    x, t = latents(layout, rows=rows)
    share = torch.linspace(0, 1, layout.num_samples, dtype=torch.float64)
    return x, t, share * t


def _two_times(network):
    """A student of two times from a network of one."""

    def student(x, t, *, r):
        return network(x, t) + network.layout.expand(t - r, x) * network(x, r)

    return student


def _loss(seed=0, student=None, teacher=TEACHER.velocity, layout=LAYOUT, x_0=None, **options):
    x_0 = latents(layout, rows=6)[0] if x_0 is None else x_0
    fields = Fields(student=student or _two_times(Network(layout)), teacher=teacher)
    generator = torch.Generator().manual_seed(seed)
    config = MeanFlowConfig(**options)
    return meanflow_loss(fields, Latents(x_0=x_0, layout=layout), config=config, generator=generator)


def test_average_velocity_of_the_oracle_is_the_displacement_over_the_time():
    x, t, r = _states()
    time, end = t[:, None], r[:, None]
    x_r = x - (time - end) * TEACHER.average_velocity(x, t, r=r)
    # Both states lie on one trajectory.
    assert torch.allclose(TEACHER.endpoint(x_r, r), TEACHER.endpoint(x, t), atol=1e-12)
    assert torch.allclose(TEACHER.average_velocity(x, t, r=t), TEACHER.velocity(x, t), atol=1e-12)
    assert torch.allclose(TEACHER.average_velocity(x, t, r=0 * t), TEACHER.phi(x, t), atol=1e-12)


def test_ideal_student_has_no_residual():
    x, t, r = _states()
    residual = average_velocity_residual(
        TEACHER.average_velocity, TEACHER.velocity, x, t, r=r, layout=LAYOUT, derivative=EXACT
    )
    assert residual.abs().max() < 1e-12  # observed 4e-16


@pytest.mark.parametrize(("kind", "order"), [("backward", 1), ("central", 2)])
def test_residual_of_the_ideal_student_falls_with_the_order_of_the_difference(kind, order):
    x, t, _ = _states()
    steps = torch.tensor([4e-2, 2e-2, 1e-2, 5e-3], dtype=torch.float64)
    errors = []
    for step in steps.tolist():
        options = DerivativeOptions(kind=kind, delta_t=step)
        errors.append(
            average_velocity_residual(
                TEACHER.average_velocity, TEACHER.velocity, x, t, r=t / 3, layout=LAYOUT, derivative=options
            ).norm()
        )
    slope = torch.diff(torch.stack(errors).log()) / torch.diff(steps.log())
    assert ((slope - order).abs() < 0.1).all(), slope


# Observed: 1e-5, 4e-10, 4e-16.
@pytest.mark.parametrize(("kind", "atol"), [("backward", 1e-4), ("central", 1e-8), ("jvp", 1e-12)])
def test_residual_of_a_known_deviation(kind, atol):
    # u* + a + b t + c x + d r has the residual of its deviation plus (t - r)(b + c v): r stands still.
    x, t, r = _states()
    a, b, c, d = 0.3, -0.4, 0.2, 0.7
    time, end = t[:, None], r[:, None]

    def student(x, t, *, r):
        return TEACHER.average_velocity(x, t, r=r) + a + b * t[:, None] + c * x + d * r[:, None]

    options = DerivativeOptions(kind=kind, delta_t=1e-5)
    residual = average_velocity_residual(student, TEACHER.velocity, x, t, r=r, layout=LAYOUT, derivative=options)
    deviation = a + b * time + c * x + d * end
    expected = deviation + (time - end) * (b + c * TEACHER.velocity(x, t))
    assert torch.allclose(residual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_down_to_zero_has_the_transport_residual(kind):
    x, t, _ = _states()
    student, options = _two_times(Network(LAYOUT)), DerivativeOptions(kind=kind)
    to_data = partial(student, r=torch.zeros_like(t))
    expected = transport_residual(to_data, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options).residual
    residual = average_velocity_residual(
        student, TEACHER.velocity, x, t, r=torch.zeros_like(t), layout=LAYOUT, derivative=options
    )
    assert torch.allclose(residual, expected, atol=1e-13)


def test_an_interval_of_no_length_asks_for_the_teachers_velocity():
    x, t, _ = _states()
    student = _two_times(Network(LAYOUT))
    residual = average_velocity_residual(student, TEACHER.velocity, x, t, r=t, layout=LAYOUT)
    assert torch.allclose(residual, student(x, t, r=t) - TEACHER.velocity(x, t), atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_flows_through_the_average_velocity_alone(kind):
    x, t, r = _states()
    network, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    student = _two_times(network)
    options = DerivativeOptions(kind=kind)
    average_velocity_residual(student, teacher, x, t, r=r, layout=LAYOUT, derivative=options).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    expected = torch.autograd.grad(student(x, t, r=r).sum(), list(network.parameters()))
    for parameter, grad in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_times_below_the_step_of_the_derivative_are_refused():
    x, t, _ = _states()
    with pytest.raises(ValueError, match="smallest t is 0.005"):
        average_velocity_residual(
            TEACHER.average_velocity, TEACHER.velocity, x, 0 * t + 0.005, r=0 * t, layout=LAYOUT, derivative=EXACT
        )


def test_there_is_no_gradient_at_the_ideal_student():
    scale = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def student(x, t, *, r):
        deviation = scale[0] + scale[1] * x + scale[2] * t[:, None] + scale[3] * r[:, None]
        return TEACHER.average_velocity(x, t, r=r) + deviation

    out = _loss(student=student, p_equal=0.2)
    assert out.error.max() < 1e-20
    (grad,) = torch.autograd.grad(out.loss.sum(), scale)
    assert grad.abs().max() < 1e-9  # observed 2e-12: the weight is 1000 there


def test_gradient_points_back_to_the_ideal_student():
    # u* + a (t - r): R = 2 a (t - r), of which only du/da = t - r carries a gradient.
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def student(x, t, *, r):
        return TEACHER.average_velocity(x, t, r=r) + a * (t - r)[:, None]

    out = _loss(student=student, p_equal=0.0, weight_power=0.0)
    assert torch.allclose(out.loss, (2 * a * out.interval) ** 2, atol=1e-12)
    (grad,) = torch.autograd.grad(out.loss.sum(), a)
    assert torch.allclose(grad, (4 * a * out.interval**2).sum(), atol=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_weight_scales_value_and_gradient_and_is_stopped(power):
    network = Network(LAYOUT)
    plain = _loss(student=_two_times(network), weight_power=0.0)
    out = _loss(student=_two_times(network), weight_power=power, weight_offset=0.1)
    assert torch.equal(plain.loss, plain.error) and torch.equal(plain.error, out.error)
    weight = (plain.error.detach() + 0.1) ** -power
    assert torch.allclose(out.loss, weight * plain.error)
    (grad,) = torch.autograd.grad(out.loss.sum(), network.out)
    (expected,) = torch.autograd.grad((weight * plain.error).sum(), network.out)
    assert torch.allclose(grad, expected)


def test_states_are_noised_by_the_later_time():
    # On the whole interval the student is asked at pure noise, whatever the data.
    seen = []

    def student(x, t, *, r):
        seen.append((x.detach(), t, r))
        return torch.zeros_like(x)

    far = torch.full((6, 3), 1e6, dtype=torch.float64)
    options = DerivativeOptions(kind="backward")
    _loss(student=student, x_0=far, p_one_step=1.0, derivative=options)
    x, t, r = seen[0]
    assert x.abs().max() < 10 and (t == 1).all() and (r == 0).all()
    assert all(torch.equal(end, r) for _, _, end in seen)
    _loss(student=student, x_0=far, derivative=options, seed=1)
    x, t, _ = seen[2]
    assert torch.allclose(x / 1e6, (1 - t)[:, None].expand(6, 3), atol=1e-4)


def _intervals(**options):
    like = torch.zeros(1, dtype=torch.float64)
    return draw_intervals(like, 20_000, config=MeanFlowConfig(**options), generator=torch.Generator().manual_seed(0))


def test_intervals_are_proper_or_of_no_length():
    r, t = _intervals(p_equal=0.4, derivative=DerivativeOptions(delta_t=0.05))
    is_equal = r == t
    assert abs(float(is_equal.double().mean()) - 0.4) < 0.01
    assert (t >= 0.05).all() and (t <= 1).all() and (r >= 0).all()
    assert ((t - r)[~is_equal] >= 0.05 - 1e-12).all()


def test_two_times_are_drawn_and_sorted():
    # Of two uniform times the later has the mean 2/3, the earlier 1/3.
    r, t = _intervals(time=TimeOptions(), p_equal=0.0, derivative=DerivativeOptions(delta_t=1e-6))
    assert abs(float(t.mean()) - 2 / 3) < 0.01 and abs(float(r.mean()) - 1 / 3) < 0.01


def test_default_times_are_those_of_the_paper():
    config = MeanFlowConfig()
    assert (config.time.kind, config.time.mean, config.time.std) == ("logit_normal", -0.4, 1.0)
    assert config.p_equal == 0.75 and config.weight_power == 1.0 and config.derivative.kind == "jvp"


def test_a_share_of_the_samples_is_the_whole_interval():
    r, t = _intervals(p_one_step=0.3, p_equal=0.5)
    is_whole = (r == 0) & (t == 1)
    assert abs(float(is_whole.double().mean()) - 0.3) < 0.01
    assert abs(float((r == t).double().mean()) - 0.35) < 0.01


def test_p_noise_is_the_share_of_later_times_at_the_noise():
    r, t = _intervals(time=TimeOptions(p_noise=0.3), p_equal=0.0)
    assert abs(float((t == 1).double().mean()) - 0.3) < 0.01
    assert (r < 1).all()


def test_packed_batch_equals_its_samples_one_by_one_in_any_order_of_rows():
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    x, t, r = _states(layout, rows=12)

    def errors(layout, x, t, r):
        student, teacher = _two_times(Network(layout, seed=1)), Network(layout, seed=2)
        residual = average_velocity_residual(student, teacher, x, t, r=r, layout=layout)
        return layout.mean(residual**2).detach()

    together = errors(layout, x, t, r)
    alone = [
        errors(PackedLayout((lengths[i],)), part, t[i : i + 1], r[i : i + 1]) for i, part in enumerate(x.split(lengths))
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)
    order = torch.tensor([1, 0, 4, 6, 2, 3, 5, 7, 11, 8, 10, 9])
    assert torch.allclose(errors(layout, x[order], t, r), together, atol=1e-12)


def test_packed_equals_dense_for_samples_of_one_length():
    dense, packed = DenseLayout(6), PackedLayout((1,) * 6)
    losses = [_loss(layout=layout, teacher=Gaussian(layout=layout).velocity).loss for layout in (dense, packed)]
    assert torch.allclose(*losses, atol=1e-12)


def test_same_generator_gives_the_same_loss_and_another_does_not():
    assert torch.equal(_loss().loss, _loss().loss)
    assert not torch.equal(_loss().loss, _loss(seed=1).loss)


def test_needs_and_cost():
    objective = OBJECTIVES["meanflow"]
    assert objective.variant("paper") == MeanFlowConfig()
    assert MeanFlowConfig().needs == {"interval"}
    assert MeanFlowConfig().cost.forwards() == 7  # table 12
    assert MeanFlowConfig(derivative=DerivativeOptions()).cost.forwards() == 6
    assert objective.variant("few_step").p_one_step == 0.25


@pytest.mark.parametrize(
    "options", [{"p_equal": 1.5}, {"p_one_step": -0.1}, {"weight_power": -1.0}, {"weight_offset": 0.0}]
)
def test_config_refuses_impossible_values(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        MeanFlowConfig(**options)
