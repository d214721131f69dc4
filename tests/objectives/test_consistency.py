"""Consistency distillation: end points, boundary, its identities with the transport residual and velocity matching."""

import pytest
import torch

from mdtdist.flow import DenseLayout
from mdtdist.objectives import (
    OBJECTIVES,
    ConsistencyConfig,
    DerivativeOptions,
    Fields,
    Latents,
    Metric,
    TimeOptions,
    consistency_loss,
    consistency_pair,
    transport_residual,
    velocity_matching_loss,
)
from mdtdist.objectives.consistency import teacher_step
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)
EXACT = DerivativeOptions(kind="jvp")


def pair_of(student, teacher, x, t, *, gap, target=None, solver="euler"):
    """Both sides for end points at the data."""
    return consistency_pair(
        student,
        target or student,
        teacher,
        x,
        t,
        t_next=t - gap,
        end=torch.zeros_like(t),
        layout=LAYOUT,
        solver=solver,
    )


def straight(velocity):
    """A field of straight lines, along which every step is exact."""
    return lambda x, t: torch.zeros_like(x) + velocity


def run(student, teacher, *, x_0=None, target=None, target_of="ema", **options):
    """The whole loss; ``target`` is the field of that name, ``target_of`` the option."""
    x_0 = latents(LAYOUT, rows=6)[0] if x_0 is None else x_0
    return consistency_loss(
        Fields(student=student, teacher=teacher, target=target),
        Latents(x_0=x_0, layout=LAYOUT),
        config=ConsistencyConfig(target=target_of, **options),
        generator=torch.Generator().manual_seed(0),
    )


def slope_of(errors, steps):
    return torch.diff(torch.stack(errors).log()) / torch.diff(torch.tensor(steps, dtype=torch.float64).log())


@pytest.mark.parametrize(("solver", "order"), [("euler", 2), ("heun", 3)])
def test_both_sides_of_the_ideal_student_meet_at_the_order_of_the_solver(solver, order):
    x, t = latents(LAYOUT, rows=6)
    gaps, errors = [0.04, 0.02, 0.01, 0.005], []
    for gap in gaps:
        pair = pair_of(TEACHER.phi, TEACHER.velocity, x, t, gap=gap, solver=solver)
        assert torch.allclose(pair.prediction, TEACHER.endpoint(x, t), atol=1e-12)
        errors.append((pair.target - TEACHER.endpoint(x, t)).norm())
    slope = slope_of(errors, gaps)
    assert ((slope - order).abs() < 0.1).all(), slope


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_teacher_steps_toward_the_data(solver):
    x, t = latents(LAYOUT, rows=6)
    stepped = teacher_step(straight(2.0), x, t, t - 0.1, layout=LAYOUT, solver=solver)
    assert torch.allclose(stepped, x - 0.2, atol=1e-12)


@pytest.mark.parametrize("kind", ["l2", "huber"])
def test_value_and_gradient_of_a_known_deviation(kind):
    # Between c + a and the straight teacher c lies gap a; the student's side alone has a gradient, -t on it.
    gap, c, huber = 0.1, 1.3, 0.01  # one of the times drawn is smaller
    a = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    metric = Metric(kind=kind, c=huber)
    out = run(lambda x, t: straight(c)(x, t) + a, straight(c), delta_t=gap, target_of="online", metric=metric)
    difference = torch.minimum(out.t, torch.tensor(gap)) * a.detach()
    root = (difference**2 + huber**2).sqrt()
    value, factor = (difference**2, 2 * difference) if kind == "l2" else (root - huber, difference / root)
    assert torch.allclose(out.loss, value, atol=1e-12)
    (grad,) = torch.autograd.grad(out.loss.sum(), a)
    assert torch.allclose(grad, (factor * out.t).sum(), atol=1e-12)


def test_the_ideal_student_has_no_gradient():
    scale = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return 1.3 + scale[0] + scale[1] * x

    (grad,) = torch.autograd.grad(run(student, straight(1.3), target_of="online").loss.sum(), scale)
    assert grad.abs().max() < 1e-12


def test_numbers_and_autograd_agree_on_the_gradient():
    x, t = latents(LAYOUT, rows=6)
    offset = torch.randn(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)

    def loss(offset):
        pair = pair_of(lambda x, t: TEACHER.phi(x, t) + offset, TEACHER.velocity, x, t, gap=0.1, target=Network(LAYOUT))
        return Metric(kind="huber", c=0.1).distance(pair.prediction, pair.target, LAYOUT)

    assert torch.autograd.gradcheck(loss, offset)


def test_gradient_flows_through_the_prediction_alone():
    x, t = latents(LAYOUT, rows=6)
    student, target, teacher = (Network(LAYOUT, seed=seed) for seed in (1, 2, 3))
    for other in (target, student):  # a slow average and the student itself
        student.zero_grad()
        pair = pair_of(student, teacher, x, t, gap=0.1, target=other)
        ((pair.prediction - pair.target) ** 2).sum().backward()
        direction = -2 * t[:, None] * (pair.prediction - pair.target).detach()
        expected = torch.autograd.grad((direction * student(x, t)).sum(), list(student.parameters()))
        for parameter, grad in zip(student.parameters(), expected, strict=True):
            assert torch.allclose(parameter.grad, grad, atol=1e-12)
    assert all(p.grad is None for network in (target, teacher) for p in network.parameters())


def test_difference_of_the_end_points_is_the_discrete_residual():
    # f(x_t, t) - f(x', t - d) = -d (phi' + t D - v), exactly, for any student; R but for phi' in place of phi.
    x, t = latents(LAYOUT, rows=6)
    gap, student = 0.05, Network(LAYOUT)
    pair = pair_of(student, TEACHER.velocity, x, t, gap=gap)
    parts = transport_residual(
        student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=DerivativeOptions(delta_t=gap)
    )
    phi_next = student(x - gap * parts.v, t - gap)
    expected = -gap * (phi_next + t[:, None] * parts.derivative - parts.v)
    assert torch.allclose(pair.prediction - pair.target, expected, atol=1e-12)
    as_residual = -gap * (parts.residual - gap * parts.derivative)
    assert torch.allclose(pair.prediction - pair.target, as_residual, atol=1e-12)


def _end_point_velocity(student, teacher, x, t):
    """``df/dt`` of ``f = x - t phi`` along the teacher, by forward-mode differentiation of ``f`` itself."""

    def end_point(x, t):
        return x - t[:, None] * student(x, t)

    return torch.func.jvp(end_point, (x, t), (teacher(x, t), torch.ones_like(t)))[1].detach()


def test_velocity_matching_is_continuous_consistency_with_weight_two_over_t():
    x, t = latents(LAYOUT, rows=6)
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    slope = _end_point_velocity(student, teacher, x, t)
    residual = transport_residual(student, teacher, x, t, layout=LAYOUT, derivative=EXACT).residual
    assert torch.allclose(slope, -residual, atol=1e-12)
    end_point = x - t[:, None] * student(x, t)
    consistency = LAYOUT.mean(2 / t[:, None] * end_point * slope)
    matching = velocity_matching_loss(student, teacher, x, t, layout=LAYOUT, derivative=EXACT)
    for a, b in zip(_gradients(consistency, student), _gradients(matching, student), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_discrete_consistency_tends_to_velocity_matching_at_first_order():
    x, t = latents(LAYOUT, rows=6)
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    matching = velocity_matching_loss(student, teacher, x, t, layout=LAYOUT, derivative=EXACT)
    expected = torch.cat([grad.flatten() for grad in _gradients(matching, student)])
    gaps, errors = [4e-2, 2e-2, 1e-2, 5e-3], []
    for gap in gaps:
        pair = pair_of(student, teacher, x, t, gap=gap)
        loss = Metric().distance(pair.prediction, pair.target, LAYOUT) / (gap * t)
        errors.append((torch.cat([grad.flatten() for grad in _gradients(loss, student)]) - expected).norm())
    slope = slope_of(errors, gaps)
    assert ((slope - 1).abs() < 0.1).all(), slope


def _gradients(loss, network):
    return torch.autograd.grad(loss.sum(), list(network.parameters()), retain_graph=True)


def test_the_state_itself_is_the_target_at_the_data_end():
    # A step over the whole axis: whatever the target network says, x_t - t v must be predicted.
    wrong = straight(1e6)
    assert run(TEACHER.velocity, TEACHER.velocity, target=wrong, delta_t=1.0, solver="euler").loss.max() < 1e-12
    assert run(TEACHER.phi, TEACHER.velocity, target=wrong, delta_t=1.0, solver="euler").loss.min() > 1e-6
    assert run(TEACHER.velocity, TEACHER.velocity, target=wrong, delta_t=0.05, solver="euler").loss.max() > 1e6


def test_the_target_is_the_slow_average_or_the_student_itself():
    student, teacher = Network(LAYOUT, seed=1), TEACHER.velocity
    online = run(student, teacher, target=straight(0.0), target_of="online")
    assert torch.equal(online.loss, run(student, teacher, target_of="online").loss)
    assert torch.equal(online.loss, run(student, teacher, target=student).loss)
    assert not torch.allclose(online.loss, run(student, teacher, target=straight(0.0)).loss)
    with pytest.raises(ValueError, match="target is 'ema' but the fields have no slow average"):
        run(student, teacher)


def test_the_solver_is_the_one_asked_for():
    calls = []

    def teacher(x, t):
        calls.append(t)
        return TEACHER.velocity(x, t)

    for solver, num_calls in (("euler", 1), ("heun", 2)):
        calls.clear()
        run(Network(LAYOUT), teacher, target_of="online", solver=solver)
        assert len(calls) == num_calls


def test_samples_are_compared_each_with_its_own():
    student, x_0 = Network(LAYOUT), latents(LAYOUT, rows=6)[0]
    before = run(student, TEACHER.velocity, x_0=x_0, target_of="online").loss
    x_0[2] += 1
    after = run(student, TEACHER.velocity, x_0=x_0, target_of="online").loss
    assert torch.equal((before != after).nonzero()[:, 0], torch.tensor([2]))


def test_skipping_multiplies_the_step():
    student = Network(LAYOUT)
    skipped = run(student, TEACHER.velocity, target=student, delta_t=0.01, skip=5)
    assert torch.allclose(skipped.loss, run(student, TEACHER.velocity, target=student, delta_t=0.05).loss)
    assert ConsistencyConfig(delta_t=0.01, skip=5).gap == pytest.approx(0.05)


@pytest.mark.parametrize("kind", ["uniform", "logit_normal"])
def test_times_cover_the_axis_between_the_grid_points_or_on_them(kind):
    x_0 = torch.zeros(2000, 3)
    layout = DenseLayout(2000)

    def times(**options):
        return consistency_loss(
            Fields(student=straight(0.0), teacher=straight(0.0)),
            Latents(x_0=x_0, layout=layout),
            config=ConsistencyConfig(target="online", time=TimeOptions(kind=kind, mean=0.0), **options),
            generator=torch.Generator().manual_seed(0),
        ).t

    t, on_grid = times(delta_t=0.1), times(delta_t=0.1, on_grid=True)
    assert t.min() >= 0 and t.max() <= 1 and len(t.unique()) > 1900
    assert torch.allclose((10 * on_grid).round(), 10 * on_grid, atol=1e-5)
    assert on_grid.min() >= 0.1 - 1e-6 and on_grid.max() == 1
    assert (on_grid >= t).all() and (on_grid - t).max() < 0.1 + 1e-6


def test_a_share_of_the_samples_starts_at_pure_noise():
    seen = []

    def student(x, t):
        seen.append((x.detach(), t))
        return torch.zeros_like(x)

    x_0 = torch.full((6, 3), 1e6, dtype=torch.float64)
    run(student, straight(0.0), x_0=x_0, target_of="online", time=TimeOptions(p_noise=1.0))
    assert seen[0][0].abs().max() < 10 and (seen[0][1] == 1).all()


def test_published_variants():
    paper, lcm, released = (OBJECTIVES["consistency"].variant(name) for name in ("paper", "lcm", "released"))
    assert paper.gap == pytest.approx(1 / 40) and paper.needs == {"target"} and paper.cost.forwards() == 8
    assert lcm.gap == pytest.approx(0.02) and lcm.metric == Metric(kind="huber", c=1e-3)
    assert released.gap == pytest.approx(0.01) and released.needs == frozenset() and released.cost.forwards() == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta_t": 0.0}, "delta_t is 0.0"),
        ({"skip": 0}, "skip is 0"),
        ({"delta_t": 0.3, "skip": 4}, "skip 4 times delta_t 0.3"),
        ({"solver": "rk4"}, "solver is 'rk4'"),
        ({"target": "teacher"}, "target is 'teacher'"),
    ],
)
def test_config_refuses_impossible_values(options, message):
    with pytest.raises(ValueError, match=message):
        ConsistencyConfig(**options)
