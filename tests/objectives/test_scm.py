"""sCM: the change of variables, the tangent against independent derivatives, its equivalence with the residual."""

import math
from dataclasses import replace
from unittest import mock

import pytest
import torch

from mdtdist.flow import DenseLayout, LinearPath, PackedLayout
from mdtdist.objectives import DerivativeOptions, Fields, Latents, SCMConfig, scm_loss, scm_tangent, transport_residual
from mdtdist.objectives.scm import (
    bound_tangent,
    draw_angles,
    linear_state,
    linear_time,
    linear_velocity,
    trig_field,
    trig_state,
    trig_time,
    trig_velocity,
)
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)
EXACT = DerivativeOptions(kind="jvp")
PLAIN = SCMConfig(tangent="none", warmup_steps=0)


def draw(seed=0):
    """Data, noise, angles in (0, pi / 2) shaped to broadcast, and the states between them."""
    x_0, t = latents(LAYOUT, rows=6, seed=seed)
    z, _ = latents(LAYOUT, rows=6, seed=seed + 10)
    s = trig_time(t)[:, None]
    return x_0, z, s, s.cos() * x_0 + s.sin() * z


def test_times_and_states_go_there_and_back():
    x_0, z, s, x_s = draw()
    t = linear_time(s)
    assert torch.allclose(trig_time(t), s, atol=1e-12)
    assert torch.allclose(1 - t, s.cos() / (s.sin() + s.cos()), atol=1e-12)
    assert torch.allclose(trig_state(linear_state(x_s, s), s), x_s, atol=1e-12)
    assert torch.allclose(trig_velocity(linear_velocity(z, x_s, s), x_s, s), z, atol=1e-12)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(trig_time(ends), ends * math.pi / 2) and torch.allclose(linear_time(trig_time(ends)), ends)


def test_states_are_those_of_the_linear_path_scaled():
    x_0, z, s, x_s = draw()
    t = linear_time(s)
    assert torch.allclose(linear_state(x_s, s), LinearPath().sample(x_0, z, t), atol=1e-12)
    assert torch.allclose(t**2 + (1 - t) ** 2, (s.sin() + s.cos()) ** -2, atol=1e-12)


def test_rate_of_the_linear_time():
    _, _, s, _ = draw()
    s.requires_grad_()
    (rate,) = torch.autograd.grad(linear_time(s).sum(), s)
    t = linear_time(s)
    assert torch.allclose(rate, t**2 + (1 - t) ** 2, atol=1e-12)


def test_velocities_are_those_of_the_circle():
    # dx_s / ds between data and noise, and of the Gaussian teacher: E[cos(s) z - sin(s) x_0 | x_s].
    x_0, z, s, x_s = draw()
    assert torch.allclose(trig_velocity(z - x_0, x_s, s), s.cos() * z - s.sin() * x_0, atol=1e-12)
    variance = s.cos() ** 2 * TEACHER.std**2 + s.sin() ** 2
    offset = (x_s - s.cos() * TEACHER.mean) / variance
    data, noise = TEACHER.mean + s.cos() * TEACHER.std**2 * offset, s.sin() * offset
    expected = s.cos() * noise - s.sin() * data
    assert torch.allclose(trig_field(TEACHER.velocity, LAYOUT)(x_s, s[:, 0]), expected, atol=1e-12)


def test_output_and_data_prediction_in_both_coordinates():
    u, _, s, x_s = draw(seed=3)
    t, f = linear_time(s), trig_velocity(u, x_s, s)
    x_t = linear_state(x_s, s)
    assert torch.allclose(s.cos() * x_s - s.sin() * f, x_t - t * u, atol=1e-12)
    other_form = ((1 - 2 * t) * x_t + (1 - 2 * t + 2 * t**2) * u) / (t**2 + (1 - t) ** 2).sqrt()  # SANA-Sprint
    assert torch.allclose(f, other_form, atol=1e-12)


def tangent(student, teacher, *, seed=0, **options):
    """The tangent of fields in linear coordinates, and where it was taken."""
    _, _, s, x_s = draw(seed)
    student, teacher = trig_field(student, LAYOUT), trig_field(teacher, LAYOUT)
    return scm_tangent(student, teacher, student(x_s, s[:, 0]), x_s, s[:, 0], layout=LAYOUT, **options), s, x_s


def test_the_ideal_student_has_no_tangent():
    g, _, _ = tangent(TEACHER.phi, TEACHER.velocity)
    assert g.abs().max() < 1e-9  # observed 1e-15
    assert tangent(TEACHER.velocity, TEACHER.velocity)[0].abs().max() > 0.1


@pytest.mark.parametrize("weighting", ["prior", "constant"])
def test_tangent_is_the_weighted_change_of_the_data_prediction(weighting):
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    g, s, x_s = tangent(student, teacher, weighting=weighting)

    def prediction(x, s):
        return s.cos()[:, None] * x - s.sin()[:, None] * trig_field(student, LAYOUT)(x, s)

    direction = trig_field(teacher, LAYOUT)(x_s, s[:, 0])
    change = torch.func.jvp(prediction, (x_s, s[:, 0]), (direction, torch.ones(6, dtype=torch.float64)))[1]
    assert torch.allclose(g, (s.cos() if weighting == "prior" else s.sin()) * change, atol=1e-12)


def test_warm_up_brings_in_the_derivative_alone():
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    none, half, whole = (tangent(student, teacher, warmup=r)[0] for r in (0.0, 0.5, 1.0))
    _, s, x_s = tangent(student, teacher)
    apart = trig_field(student, LAYOUT)(x_s, s[:, 0]) - trig_field(teacher, LAYOUT)(x_s, s[:, 0])
    assert torch.allclose(none, -(s.cos() ** 2) * apart, atol=1e-12)
    assert torch.allclose(half, (none + whole) / 2, atol=1e-12) and not torch.allclose(none, whole)


@pytest.mark.parametrize(("kind", "order"), [("backward", 1), ("central", 2)])
def test_differences_converge_to_the_exact_tangent_at_their_order(kind, order):
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    exact, _, _ = tangent(student, teacher, derivative=EXACT)
    steps, errors = [4e-2, 2e-2, 1e-2, 5e-3], []
    for step in steps:
        options = DerivativeOptions(kind=kind, delta_t=step)
        errors.append((tangent(student, teacher, derivative=options)[0] - exact).norm())
    slope = torch.diff(torch.stack(errors).log()) / torch.diff(torch.tensor(steps, dtype=torch.float64).log())
    assert ((slope - order).abs() < 0.1).all(), slope


@pytest.mark.parametrize("weighting", ["prior", "constant"])
def test_the_tangent_vector_is_scaled_before_the_network_sees_it(weighting):
    with mock.patch.object(torch.func, "jvp", wraps=torch.func.jvp) as jvp:
        _, s, x_s = tangent(Network(LAYOUT), TEACHER.velocity, weighting=weighting)
    direction, rate = jvp.call_args.args[2]
    scale = s.sin() * (s.cos() if weighting == "prior" else s.sin())
    assert torch.allclose(rate, scale[:, 0])
    assert torch.allclose(direction, scale * trig_field(TEACHER.velocity, LAYOUT)(x_s, s[:, 0]))


def run(student, teacher, *, config=PLAIN, step=0, seed=0, layout=LAYOUT):
    """The whole loss."""
    x_0, _ = latents(layout, rows=6)
    generator = torch.Generator().manual_seed(seed)
    fields, samples = Fields(student=student, teacher=teacher), Latents(x_0=x_0, layout=layout)
    return scm_loss(fields, samples, config=config, generator=generator, step=step)


def record(network, into):
    def field(x, t):
        if not torch._C._functorch.is_functorch_wrapped_tensor(x):
            into.append((x.detach(), t.detach()))
        return network(x, t)

    return field


@pytest.mark.parametrize("weighting", ["prior", "constant"])
def test_plain_loss_is_the_residual_with_another_weight(weighting):
    # phi onto sg(phi - (1 - t) R) with weight t^2 + (1 - t)^2; "constant" has t in place of 1 - t.
    student, teacher, seen = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2), []
    out = run(record(student, seen), teacher, config=replace(PLAIN, weighting=weighting))
    (x_t, t), *_ = seen
    assert torch.equal(t, out.t)
    parts = transport_residual(student, teacher, x_t, t, layout=LAYOUT, derivative=EXACT)
    factor = 1 - t if weighting == "prior" else t
    target = (parts.phi - factor[:, None] * parts.residual).detach()
    expected = (t**2 + (1 - t) ** 2) * LAYOUT.mean((parts.phi - target) ** 2)
    assert torch.allclose(out.loss, expected, atol=1e-12)
    weights = list(student.parameters())
    for a, b in zip(
        torch.autograd.grad(out.loss.sum(), weights), torch.autograd.grad(expected.sum(), weights), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_value_and_gradient_of_a_known_deviation():
    # phi* + a has R = a; descent lowers |a|.
    a = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = run(lambda x, t: TEACHER.phi(x, t) + a, TEACHER.velocity)
    t, weight = out.t, out.t**2 + (1 - out.t) ** 2
    assert torch.allclose(out.loss, weight * ((1 - t) * 0.4) ** 2, atol=1e-9)
    assert torch.allclose(out.tangent, out.loss.sqrt(), atol=1e-9)
    (grad,) = torch.autograd.grad(out.loss.sum(), a)
    assert torch.allclose(grad, (2 * weight * (1 - t) * 0.4).sum(), atol=1e-9)
    assert grad > 0


@pytest.mark.parametrize("kind", ["normalize", "clip", "none"])
def test_the_ideal_student_has_no_gradient(kind):
    scale = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return TEACHER.phi(x, t) + scale[0] + scale[1] * x

    out = run(student, TEACHER.velocity, config=replace(PLAIN, tangent=kind))
    (grad,) = torch.autograd.grad(out.loss.sum(), scale)
    assert grad.abs().max() < 1e-9


@pytest.mark.parametrize("derivative", [EXACT, DerivativeOptions()])
def test_gradient_flows_through_the_output_alone(derivative):
    student, teacher, seen = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2), []
    out = run(record(student, seen), teacher, config=replace(PLAIN, tangent="normalize", derivative=derivative))
    out.loss.sum().backward()
    (x_t, t), *_ = seen
    s = trig_time(t)
    x_s = trig_state(x_t, s[:, None])
    fields = trig_field(student, LAYOUT), trig_field(teacher, LAYOUT)
    f = fields[0](x_s, s)
    g = scm_tangent(*fields, f, x_s, s, layout=LAYOUT, derivative=derivative)
    bounded = bound_tangent(g, layout=LAYOUT, kind="normalize")
    expected = torch.autograd.grad((-2 * LAYOUT.mean(bounded * f)).sum(), list(student.parameters()))
    assert not g.requires_grad and all(p.grad is None for p in teacher.parameters())
    for parameter, grad in zip(student.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_tangents_are_bounded_per_sample():
    layout = PackedLayout((2, 4))
    g = torch.cat([torch.full((2, 3), 0.2), torch.full((4, 3), -30.0)]).double()
    uneven = torch.tensor([[0.0], [1.0]] * 3, dtype=torch.float64).expand(6, 3)
    assert torch.allclose(bound_tangent(uneven, layout=layout, kind="normalize"), uneven / (0.5**0.5 + 0.1))
    normal = bound_tangent(g, layout=layout, kind="normalize", offset=0.1)
    assert torch.allclose(layout.rms(normal), torch.tensor([0.2 / 0.3, 30 / 30.1], dtype=torch.float64))
    assert (normal[:2] > 0).all() and (normal[2:] < 0).all()
    clipped = bound_tangent(g, layout=layout, kind="clip")
    assert torch.equal(clipped[:2], g[:2]) and (clipped[2:] == -1).all()
    assert torch.equal(bound_tangent(g, layout=layout, kind="none"), g)


def test_the_step_warms_up_the_loss():
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    config = replace(PLAIN, warmup_steps=100)
    first, last = run(student, teacher, config=config, step=0), run(student, teacher, config=config, step=100)
    assert torch.equal(last.loss, run(student, teacher, config=config, step=500).loss)
    assert torch.equal(last.loss, run(student, teacher, step=0).loss) and not torch.allclose(first.loss, last.loss)
    assert [config.warmup(step) for step in (0, 25, 100, 200)] == [0, 0.25, 1, 1]


def test_angles_have_log_normal_tangents():
    config = SCMConfig(p_mean=0.5, p_std=0.7)
    s = draw_angles(torch.zeros(1).double(), 20_000, config=config, generator=torch.Generator().manual_seed(0))
    assert abs(s.tan().log().mean() - 0.5) < 0.02 and abs(s.tan().log().std() - 0.7) < 0.02
    # The published mean in the units of unit variance: noise over data 2 exp(-0.8) at the median.
    assert math.exp(SCMConfig().p_mean) == pytest.approx(2 * math.exp(-0.8))


def test_angles_stay_where_network_and_guidance_are_defined():
    config = SCMConfig(p_max=0.3, p_std=6.0, derivative=DerivativeOptions(delta_t=0.05))
    s = draw_angles(torch.zeros(1), 4000, config=config, generator=torch.Generator().manual_seed(0))
    t = linear_time(s)
    assert s.dtype == torch.float32 and s.min() >= 0.05 and t.max() <= 1 and t.max() > 1 - 1e-5
    share = (s == s.max()).double().mean().item()
    assert abs(share - 0.3 - 0.7 * 0.01) < 0.03
    half = draw_angles(torch.zeros(1).bfloat16(), 4, config=config, generator=torch.Generator().manual_seed(0))
    assert half.dtype == torch.float32


def test_large_angles_are_noise():
    seen = []
    x_0 = torch.full((6, 3), 1e3, dtype=torch.float64)
    fields = Fields(student=record(Network(LAYOUT), seen), teacher=TEACHER.velocity)
    scm_loss(
        fields,
        Latents(x_0=x_0, layout=LAYOUT),
        config=replace(PLAIN, p_max=1.0),
        generator=torch.Generator().manual_seed(0),
    )
    (x_t, t), *_ = seen
    assert x_t.abs().max() < 10 and torch.allclose(t, torch.ones_like(t), atol=1e-5)


def test_the_constant_weighting_has_a_signal_at_pure_noise():
    student = Network(LAYOUT)
    config = replace(PLAIN, p_max=1.0)
    prior = run(student, TEACHER.velocity, config=config)
    constant = run(student, TEACHER.velocity, config=replace(config, weighting="constant"))
    assert prior.tangent.max() < 1e-4 < 1e-2 < constant.tangent.min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_std": 0.0}, "p_std is 0.0"),
        ({"p_max": 1.5}, "p_max is 1.5"),
        ({"tangent": "norm"}, "tangent is 'norm'"),
        ({"offset": 0.0}, "offset is 0.0"),
        ({"weighting": "none"}, "weighting is 'none'"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
    ],
)
def test_config_refuses_impossible_values(options, message):
    with pytest.raises(ValueError, match=message):
        SCMConfig(**options)
