import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import DerivativeOptions, Normalization, drive, transport_residual
from mdtdist.objectives.residual import check_times, forward_derivative
from tests.objectives.gaussian import Gaussian, Network, constant_field, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)
EXACT = DerivativeOptions(kind="jvp")
KINDS = ("backward", "central", "jvp")


def test_ideal_student_has_no_residual():
    x, t = latents(LAYOUT, rows=6)
    parts = transport_residual(TEACHER.phi, TEACHER.velocity, x, t, layout=LAYOUT, derivative=EXACT)
    assert parts.residual.abs().max() < 1e-9  # observed 1e-15
    assert parts.phi.abs().max() > 0.1


# Observed: 7e-6, 3e-10, 1e-15.
@pytest.mark.parametrize(("kind", "atol"), [("backward", 1e-4), ("central", 1e-8), ("jvp", 1e-12)])
def test_residual_of_a_known_deviation(kind, atol):
    # phi* + a + b t + c x has R = a + 2 b t + c (x + t v).
    x, t = latents(LAYOUT, rows=6)
    a, b, c = 0.3, -0.4, 0.2

    def student(x, t):
        return TEACHER.phi(x, t) + a + b * LAYOUT.expand(t, x) + c * x

    options = DerivativeOptions(kind=kind, delta_t=1e-5)
    parts = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options)
    time = LAYOUT.expand(t, x)
    expected = a + 2 * b * time + c * (x + time * TEACHER.velocity(x, t))
    assert torch.allclose(parts.residual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("kind", "order"), [("backward", 1), ("central", 2)])
def test_difference_converges_to_the_exact_derivative_at_its_order(kind, order):
    x, t = latents(LAYOUT, rows=6)
    student = Network(LAYOUT)
    exact = forward_derivative(student, x, t, TEACHER.velocity(x, t))
    steps = torch.tensor([4e-2, 2e-2, 1e-2, 5e-3], dtype=torch.float64)
    errors = []
    for delta_t in steps.tolist():
        options = DerivativeOptions(kind=kind, delta_t=delta_t)
        parts = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options)
        errors.append((parts.derivative - exact).norm())
    slope = torch.diff(torch.stack(errors).log()) / torch.diff(steps.log())
    assert ((slope - order).abs() < 0.1).all(), slope


@pytest.mark.parametrize(("kind", "sides"), [("backward", (0, -1)), ("central", (0, -1, 1)), ("jvp", (0, 0))])
def test_student_is_asked_on_the_line_along_the_teacher(kind, sides):
    # One Euler step toward the data, and for "central" one toward the noise, beyond t = 1 too.
    x, _ = latents(LAYOUT, rows=6)
    t, step, seen = torch.ones(6, dtype=torch.float64), 0.05, []

    def student(x, t):
        seen.append((x, t))
        return torch.zeros_like(x)

    options = DerivativeOptions(kind=kind, delta_t=step)
    v = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options).v
    assert len(seen) == len(sides)
    if kind != "jvp":
        for (x_asked, t_asked), side in zip(seen, sides, strict=True):
            assert torch.allclose(x_asked, x + side * step * v) and torch.allclose(t_asked, t + side * step)


def test_residual_is_the_discrete_change_of_the_prediction():
    # f(x_t, t) - f(x_prev, t - d) = -d (phi_prev + t D - v) holds exactly for f = x - t phi.
    x, t = latents(LAYOUT, rows=6)
    step, student = 0.05, Network(LAYOUT)
    options = DerivativeOptions(delta_t=step)
    parts = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options)
    x_prev = x - step * parts.v
    phi_prev = student(x_prev, t - step)
    change = (x - t[:, None] * parts.phi) - (x_prev - (t - step)[:, None] * phi_prev)
    assert torch.allclose(change, -step * (phi_prev + t[:, None] * parts.derivative - parts.v), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_flows_through_phi_alone(kind):
    x, t = latents(LAYOUT, rows=6)
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    parts = transport_residual(student, teacher, x, t, layout=LAYOUT, derivative=DerivativeOptions(kind=kind))
    assert parts.phi.requires_grad
    assert not parts.derivative.requires_grad and not parts.v.requires_grad
    parts.residual.sum().backward()
    expected = torch.autograd.grad(student(x, t).sum(), list(student.parameters()))
    assert all(p.grad is None for p in teacher.parameters())
    for parameter, grad in zip(student.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_derivative_normalisation_divides_by_the_norm_over_each_whole_sample():
    layout = PackedLayout((1, 4, 2))
    x, t = latents(layout, rows=7)
    student, teacher = Network(layout), Gaussian(layout=layout).velocity
    plain = transport_residual(student, teacher, x, t, layout=layout)
    scaled = transport_residual(
        student, teacher, x, t, layout=layout, normalization=Normalization(kind="derivative", offset=0.3)
    )
    pairs = zip(scaled.derivative.split(layout.lengths), plain.derivative.split(layout.lengths), strict=True)
    for part, expected in pairs:
        assert torch.allclose(part, expected / (expected.square().sum().sqrt() + 0.3), atol=1e-12)
    assert torch.allclose(scaled.residual, scaled.phi + layout.expand(t, x) * scaled.derivative - scaled.v)
    left = transport_residual(
        student, teacher, x, t, layout=layout, normalization=Normalization(kind="residual", offset=0.3)
    )
    assert torch.equal(left.residual, plain.residual)


def test_jvp_sees_through_attention():
    x, t = latents(LAYOUT, rows=6)
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def student(x, t):
        tokens = ((x * (1 + t[:, None])) @ weight).reshape(1, 6, 3, 4).transpose(1, 2)
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).sum(1)[0, :, :3]

    exact = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=EXACT).derivative
    central = DerivativeOptions(kind="central", delta_t=1e-4)
    difference = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=central).derivative
    assert torch.allclose(exact, difference, atol=1e-5)  # observed 6e-7


@pytest.mark.parametrize("kind", ["backward", "central"])
def test_float32_difference_is_accurate_at_the_default_step(kind):
    x, t = latents(LAYOUT, rows=6)
    student, options = Network(LAYOUT), DerivativeOptions(kind=kind)
    wide = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options).derivative
    narrow = transport_residual(
        student, TEACHER.velocity, x.float(), t.float(), layout=LAYOUT, derivative=options
    ).derivative
    assert (wide - narrow).norm() / wide.norm() < 1e-3  # observed 1.4e-5


@pytest.mark.parametrize("layout", [DenseLayout(3), PackedLayout((1, 4, 2))])
def test_drive_has_the_gradient_it_is_asked_for(layout):
    rows = 3 if isinstance(layout, DenseLayout) else 7
    output, direction = (latents(layout, rows=rows, seed=s)[0].requires_grad_() for s in (0, 1))
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    loss = drive(output, direction, layout=layout, weight=weight)
    assert torch.allclose(loss, weight * layout.mean(direction**2) / 2)
    loss.sum().backward()
    numbers = torch.tensor([3.0, 3.0, 3.0] if rows == 3 else [3.0, 12.0, 6.0], dtype=torch.float64)
    assert torch.allclose(output.grad, layout.expand(weight / numbers, output) * direction)
    assert direction.grad is None and weight.grad is None


def test_times_below_the_step_are_refused():
    x, t = latents(LAYOUT, rows=6)
    student = constant_field(TEACHER.phi, torch.zeros(3, dtype=torch.float64))
    options = DerivativeOptions(delta_t=0.01)
    with pytest.raises(ValueError, match="smallest t is 0.005"):
        transport_residual(student, TEACHER.velocity, x, torch.full_like(t, 0.005), layout=LAYOUT, derivative=options)
    check_times(torch.full((2,), 0.01), 0.01)  # float32 rounds it below
