import pytest
import torch

from mdtdist.flow import DenseLayout
from mdtdist.objectives import transport_residual
from tests.objectives.gaussian import Gaussian, Network, constant_field, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)


def test_ideal_student_has_no_residual():
    x, t = latents(LAYOUT, rows=6)
    parts = transport_residual(TEACHER.phi, TEACHER.velocity, x, t, layout=LAYOUT, derivative="jvp")
    assert parts.residual.abs().max() < 1e-9
    assert parts.phi.abs().max() > 0.1


@pytest.mark.parametrize("derivative", ["difference", "jvp"])
def test_residual_of_a_known_deviation(derivative):
    # phi* + a + b t + c x has R = a + 2 b t + c (x + t v).
    x, t = latents(LAYOUT, rows=6)
    a, b, c = 0.3, -0.4, 0.2

    def student(x, t):
        return TEACHER.phi(x, t) + a + b * LAYOUT.expand(t, x) + c * x

    parts = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=1e-5, derivative=derivative)
    time = LAYOUT.expand(t, x)
    expected = a + 2 * b * time + c * (x + time * TEACHER.velocity(x, t))
    assert torch.allclose(parts.residual, expected, atol=1e-4 if derivative == "difference" else 1e-9)


def test_difference_converges_to_the_exact_derivative_at_first_order():
    x, t = latents(LAYOUT, rows=6)
    student = Network(LAYOUT)
    exact = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative="jvp").derivative
    steps = torch.tensor([4e-2, 2e-2, 1e-2, 5e-3], dtype=torch.float64)
    errors = []
    for delta_t in steps.tolist():
        parts = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=delta_t)
        errors.append((parts.derivative - exact).norm())
    slope = torch.diff(torch.stack(errors).log()) / torch.diff(steps.log())
    assert ((slope - 1).abs() < 0.1).all(), slope


def test_x_prev_is_one_euler_step_toward_the_data():
    x, t = latents(LAYOUT, rows=6)
    parts = transport_residual(TEACHER.phi, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=1e-3)
    before, after = TEACHER.endpoint(x, t), TEACHER.endpoint(parts.x_prev, t - 1e-3)
    assert (before - after).abs().max() < 1e-5  # it stays on the trajectory
    assert (x - parts.x_prev).abs().max() > 1e-4


def test_residual_is_the_discrete_change_of_the_prediction():
    # f(x_t, t) - f(x_prev, t - d) = -d (phi_prev + t D - v) holds exactly for f = x - t phi.
    x, t = latents(LAYOUT, rows=6)
    delta_t, student = 0.05, Network(LAYOUT)
    parts = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=delta_t)
    phi_prev = student(parts.x_prev, t - delta_t)
    change = (x - t[:, None] * parts.phi) - (parts.x_prev - (t - delta_t)[:, None] * phi_prev)
    assert torch.allclose(change, -delta_t * (phi_prev + t[:, None] * parts.derivative - parts.v), atol=1e-12)


@pytest.mark.parametrize("derivative", ["difference", "jvp"])
def test_gradient_flows_through_phi_alone(derivative):
    x, t = latents(LAYOUT, rows=6)
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    parts = transport_residual(student, teacher, x, t, layout=LAYOUT, derivative=derivative)
    assert parts.phi.requires_grad
    assert not parts.derivative.requires_grad and not parts.v.requires_grad
    parts.residual.sum().backward()
    expected = torch.autograd.grad(student(x, t).sum(), list(student.parameters()))
    assert all(p.grad is None for p in teacher.parameters())
    for parameter, grad in zip(student.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_jvp_sees_through_attention():
    x, t = latents(LAYOUT, rows=6)
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def student(x, t):
        tokens = ((x * (1 + t[:, None])) @ weight).reshape(1, 6, 3, 4).transpose(1, 2)
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).sum(1)[0, :, :3]

    exact = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative="jvp").derivative
    difference = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=1e-6).derivative
    assert torch.allclose(exact, difference, atol=1e-4)


def test_float32_difference_is_accurate_at_the_default_step():
    x, t = latents(LAYOUT, rows=6)
    student = Network(LAYOUT)
    wide = transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT).derivative
    narrow = transport_residual(student, TEACHER.velocity, x.float(), t.float(), layout=LAYOUT).derivative
    assert (wide - narrow).norm() / wide.norm() < 1e-3  # observed 1.4e-5


def test_bad_times_and_options_are_refused():
    x, t = latents(LAYOUT, rows=6)
    student = constant_field(TEACHER.phi, torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="smallest t is 0.005"):
        transport_residual(student, TEACHER.velocity, x, torch.full_like(t, 0.005), layout=LAYOUT, delta_t=0.01)
    with pytest.raises(ValueError, match="delta_t is 0"):
        transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=0.0)
    with pytest.raises((ValueError, TypeError), match="central"):  # TypeError where annotations are checked
        transport_residual(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative="central")
