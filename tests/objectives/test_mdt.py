import pytest
import torch

from mdtdist.flow import DenseLayout, LinearPath, PackedLayout
from mdtdist.objectives import MDTConfig, mdt_loss, velocity_distillation_loss, velocity_matching_loss
from mdtdist.objectives.mdt import draw_times
from tests.objectives.gaussian import Gaussian, Network, constant_field, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)


def test_velocity_matching_of_the_ideal_student_falls_as_delta_t_squared():
    x, t = latents(LAYOUT, rows=6)
    steps = torch.tensor([4e-2, 2e-2, 1e-2, 5e-3], dtype=torch.float64)
    losses = [
        velocity_matching_loss(TEACHER.phi, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=step).mean()
        for step in steps.tolist()
    ]
    slope = torch.diff(torch.stack(losses).log()) / torch.diff(steps.log())
    assert ((slope - 2).abs() < 0.15).all(), slope


def test_velocity_matching_has_no_gradient_at_the_ideal_student():
    x, t = latents(LAYOUT, rows=6)
    scale = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return TEACHER.phi(x, t) + scale[0] + scale[1] * x + scale[2] * LAYOUT.expand(t, x)

    loss = velocity_matching_loss(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative="jvp")
    (grad,) = torch.autograd.grad(loss.mean(), scale)
    assert grad.abs().max() < 1e-9


@pytest.mark.parametrize("derivative", ["difference", "jvp"])
def test_velocity_matching_value_and_gradient_are_known(derivative):
    # phi* + a t: R = 2 a t, of which only d phi / d a = t carries a gradient.
    x, t = latents(LAYOUT, rows=6)
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return TEACHER.phi(x, t) + a * LAYOUT.expand(t, x)

    loss = velocity_matching_loss(student, TEACHER.velocity, x, t, layout=LAYOUT, delta_t=1e-6, derivative=derivative)
    assert torch.allclose(loss, (2 * a * t) ** 2, atol=1e-5)
    (grad,) = torch.autograd.grad(loss.mean(), a)
    assert torch.allclose(grad, (2 * (2 * a * t) * t).mean(), atol=1e-5)


def test_velocity_matching_gradient_matches_finite_differences():
    # A constant offset leaves the detached derivative unchanged, so numbers and autograd must agree.
    x, t = latents(LAYOUT, rows=6)
    offset = torch.randn(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)

    def loss(offset):
        student = constant_field(TEACHER.phi, offset)
        return velocity_matching_loss(student, TEACHER.velocity, x, t, layout=LAYOUT)

    assert torch.autograd.gradcheck(loss, offset)


def test_velocity_distillation_value_and_gradient_are_known():
    # The ideal student of N(mean + b, std^2) has u - v = -std b t / s_t^3, and d phi(z', 1) / d b = -1.
    noise, t = latents(LAYOUT, rows=6)
    renoise, _ = latents(LAYOUT, rows=6, seed=1)
    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    student = Gaussian(mean=TEACHER.mean + b, layout=LAYOUT).phi
    loss = velocity_distillation_loss(student, TEACHER.velocity, noise, renoise, t, layout=LAYOUT, derivative="jvp")
    direction = -TEACHER.std * b.detach() * t / ((1 - t) ** 2 * TEACHER.std**2 + t**2) ** 1.5
    assert torch.allclose(loss, (1 - t) * direction**2 / 2, atol=1e-9)
    (grad,) = torch.autograd.grad(loss.mean(), b)
    assert torch.allclose(grad, (-(1 - t) * direction).mean(), atol=1e-9)
    assert grad > 0


@pytest.mark.parametrize("shift", [0.4, -0.4])
def test_a_velocity_distillation_step_lowers_the_kl_divergence(shift):
    noise, t = latents(LAYOUT, rows=6)
    renoise, _ = latents(LAYOUT, rows=6, seed=1)
    b = torch.full((3,), shift, dtype=torch.float64, requires_grad=True)
    student = Gaussian(mean=TEACHER.mean + b, layout=LAYOUT).phi
    loss = velocity_distillation_loss(student, TEACHER.velocity, noise, renoise, t, layout=LAYOUT)
    (grad,) = torch.autograd.grad(loss.mean(), b)
    after = b.detach() - 0.5 * grad
    # KL(N(mean + b, s^2) || N(mean, s^2)) = b^2 / (2 s^2)
    assert (after**2).sum() < 0.99 * (b.detach() ** 2).sum()


def test_velocity_distillation_has_no_gradient_at_the_ideal_student():
    noise, t = latents(LAYOUT, rows=6)
    scale = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return TEACHER.phi(x, t) + scale[0] + scale[1] * x

    loss = velocity_distillation_loss(student, TEACHER.velocity, noise, -noise, t, layout=LAYOUT, derivative="jvp")
    (grad,) = torch.autograd.grad(loss.sum(), scale)
    assert grad.abs().max() < 1e-9


def test_velocity_distillation_gradient_flows_through_the_one_step_output_alone():
    noise, t = latents(LAYOUT, rows=6)
    renoise, _ = latents(LAYOUT, rows=6, seed=1)
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    velocity_distillation_loss(student, teacher, noise, renoise, t, layout=LAYOUT).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())

    phi = student(noise, torch.ones_like(t))
    x_t = LinearPath().sample(noise - phi, renoise, t[:, None]).detach()
    before = x_t - 1e-2 * teacher(x_t, t)
    u = student(x_t, t) + t[:, None] * (student(x_t, t) - student(before, t - 1e-2)) / 1e-2
    direction = ((1 - t)[:, None] * (u - teacher(x_t, t))).detach()
    expected = torch.autograd.grad((direction * phi).mean(1).sum(), list(student.parameters()))
    for parameter, grad in zip(student.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_residual_normalisation_scales_value_and_gradient():
    x, t = latents(LAYOUT, rows=6)
    student = Network(LAYOUT)

    def run(**options):
        loss = velocity_matching_loss(student, TEACHER.velocity, x, t, layout=LAYOUT, **options)
        return loss, torch.autograd.grad(loss.sum(), student.out, retain_graph=True)[0]

    plain, _ = run()
    loss, grad = run(normalization="residual", normalization_offset=0.1)
    rms = plain.detach().sqrt()
    assert torch.allclose(loss, plain / (rms + 0.1))
    (expected,) = torch.autograd.grad((plain / (rms + 0.1)).sum(), student.out)
    assert torch.allclose(grad, expected)


def _losses(layout, x, noise, renoise, t, seed=1):
    """Both losses per sample with networks that read the layout."""
    student, teacher = Network(layout, seed=seed), Network(layout, seed=seed + 1)
    options = {"layout": layout, "normalization": "residual"}
    return torch.stack(
        [
            velocity_matching_loss(student, teacher, x, t, **options),
            velocity_distillation_loss(student, teacher, noise, renoise, t, **options),
        ]
    ).detach()


def test_packed_batch_equals_its_samples_one_by_one():
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    x, t = latents(layout, rows=12)
    noise, renoise = (latents(layout, rows=12, seed=s)[0] for s in (1, 2))
    together = _losses(layout, x, noise, renoise, t)
    rows = [part.split(lengths) for part in (x, noise, renoise)]
    alone = [
        _losses(PackedLayout((lengths[i],)), *(part[i] for part in rows), t[i : i + 1])[:, 0]
        for i in range(len(lengths))
    ]
    assert torch.allclose(together, torch.stack(alone, dim=1), atol=1e-12)


def test_packed_equals_dense_for_samples_of_one_length():
    x, t = latents(LAYOUT, rows=6)
    noise, renoise = (latents(LAYOUT, rows=6, seed=s)[0] for s in (1, 2))
    dense = _losses(LAYOUT, x, noise, renoise, t)
    packed = _losses(PackedLayout((1,) * 6), x, noise, renoise, t)
    assert torch.allclose(dense, packed, atol=1e-12)


def test_row_order_inside_a_sample_changes_nothing():
    layout = PackedLayout((3, 5))
    x, t = latents(layout, rows=8)
    noise, renoise = (latents(layout, rows=8, seed=s)[0] for s in (1, 2))
    order = torch.tensor([2, 0, 1, 7, 4, 3, 6, 5])
    expected = _losses(layout, x, noise, renoise, t)
    assert torch.allclose(_losses(layout, x[order], noise[order], renoise[order], t), expected, atol=1e-12)


@pytest.mark.parametrize("time", ["uniform", "logit_normal"])
def test_times_lie_between_delta_t_and_one(time):
    config = MDTConfig(delta_t=0.2, time=time, time_mean=-1.0)
    t = draw_times(4000, config=config, generator=torch.Generator().manual_seed(0))
    assert t.min() >= 0.2 and t.max() <= 1
    assert t.min() < 0.23 and t.max() > 0.9
    assert abs(float(t.mean()) - (0.6 if time == "uniform" else 0.2 + 0.8 * 0.303)) < 0.02


def test_p_t_max_puts_a_share_of_the_samples_at_pure_noise():
    generator = torch.Generator().manual_seed(0)
    t = draw_times(4000, config=MDTConfig(p_t_max=0.3), generator=generator)
    assert abs(float((t == 1).float().mean()) - 0.3) < 0.03
    assert (draw_times(100, config=MDTConfig(p_t_max=1.0), generator=generator) == 1).all()


def _mdt(seed=0, teacher_vd=None, **options):
    x_0, _ = latents(LAYOUT, rows=6)
    generator = torch.Generator().manual_seed(seed)
    return mdt_loss(
        Network(LAYOUT),
        TEACHER.velocity,
        x_0,
        layout=LAYOUT,
        config=MDTConfig(**options),
        generator=generator,
        teacher_vd=teacher_vd,
    )


def test_loss_is_matching_plus_weighted_distillation():
    out = _mdt(lambda_vd=0.3)
    assert torch.equal(out.loss, out.vm + 0.3 * out.vd)
    assert out.vd.min() > 0 and out.loss.shape == out.vm.shape == out.t.shape == (6,)
    assert _mdt(lambda_vd=0.0).vd.abs().max() == 0


def test_same_generator_gives_the_same_loss_and_another_does_not():
    assert torch.equal(_mdt().loss, _mdt().loss)
    assert not torch.equal(_mdt().loss, _mdt(seed=1).loss)


@pytest.mark.parametrize(
    "options", [{"lambda_vd": 0.0}, {"normalization": "residual"}, {"derivative": "jvp"}, {"delta_t": 0.0100001}]
)
def test_options_leave_the_draws_alone(options):
    assert torch.allclose(_mdt(**options).t, _mdt().t, atol=1e-6)


def test_distillation_may_have_a_teacher_of_its_own():
    shifted = _mdt(teacher_vd=Gaussian(mean=-1.0, layout=LAYOUT).velocity)
    assert torch.equal(shifted.vm, _mdt().vm)
    assert not torch.allclose(shifted.vd, _mdt().vd)


def test_marginal_is_noised_toward_one():
    # With t = 1 for every sample the student is asked at pure noise, whatever the data.
    seen = []

    def student(x, t):
        seen.append((x.detach(), t))
        return torch.zeros_like(x)

    x_0 = torch.full((6, 3), 1e6, dtype=torch.float64)
    config = MDTConfig(p_t_max=1.0, lambda_vd=0.0)
    generator = torch.Generator().manual_seed(0)
    mdt_loss(student, TEACHER.velocity, x_0, layout=LAYOUT, config=config, generator=generator)
    assert seen[0][0].abs().max() < 10 and (seen[0][1] == 1).all()


@pytest.mark.parametrize(
    "options",
    [
        {"delta_t": 0.0},
        {"lambda_vd": -1.0},
        {"p_t_max": 1.5},
        {"time": "beta"},
        {"derivative": "central"},
        {"normalization": "derivative"},
        {"normalization_offset": 0.0},
    ],
)
def test_config_refuses_impossible_values(options):
    (name,) = options
    with pytest.raises((ValueError, TypeError), match=name):  # TypeError where annotations are checked
        MDTConfig(**options)
