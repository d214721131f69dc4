import pytest
import torch

from mdtdist.flow import DenseLayout, LinearPath, PackedLayout, randn_like
from mdtdist.objectives import (
    RELEASED,
    DerivativeOptions,
    Fields,
    Latents,
    MDTConfig,
    Normalization,
    TimeOptions,
    mdt_loss,
    velocity_distillation_loss,
    velocity_matching_loss,
)
from mdtdist.objectives.mdt import with_guidance
from tests.objectives.gaussian import Gaussian, Network, constant_field, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)
EXACT = DerivativeOptions(kind="jvp")


# The loss is a square: twice the order of the derivative.
@pytest.mark.parametrize(("kind", "order"), [("backward", 2), ("central", 4)])
def test_velocity_matching_of_the_ideal_student_falls_with_delta_t(kind, order):
    x, t = latents(LAYOUT, rows=6)
    steps = torch.tensor([4e-2, 2e-2, 1e-2, 5e-3], dtype=torch.float64)
    losses = []
    for delta_t in steps.tolist():
        options = DerivativeOptions(kind=kind, delta_t=delta_t)
        losses.append(velocity_matching_loss(TEACHER.phi, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options))
    slope = torch.diff(torch.stack(losses).mean(1).log()) / torch.diff(steps.log())
    assert ((slope - order).abs() < 0.15).all(), slope


def test_velocity_matching_has_no_gradient_at_the_ideal_student():
    x, t = latents(LAYOUT, rows=6)
    scale = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return TEACHER.phi(x, t) + scale[0] + scale[1] * x + scale[2] * LAYOUT.expand(t, x)

    loss = velocity_matching_loss(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=EXACT)
    (grad,) = torch.autograd.grad(loss.mean(), scale)
    assert grad.abs().max() < 1e-9


@pytest.mark.parametrize("kind", ["backward", "central", "jvp"])
def test_velocity_matching_value_and_gradient_are_known(kind):
    # phi* + a t: R = 2 a t, of which only d phi / d a = t carries a gradient.
    x, t = latents(LAYOUT, rows=6)
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def student(x, t):
        return TEACHER.phi(x, t) + a * LAYOUT.expand(t, x)

    options = DerivativeOptions(kind=kind, delta_t=1e-6)
    loss = velocity_matching_loss(student, TEACHER.velocity, x, t, layout=LAYOUT, derivative=options)
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


def _distillation_draws():
    noise, t = latents(LAYOUT, rows=6)
    return noise, latents(LAYOUT, rows=6, seed=1)[0], t


@pytest.mark.parametrize("weighting", ["one_minus_t", "constant"])
def test_velocity_distillation_value_and_gradient_are_known(weighting):
    # The ideal student of N(mean + b, std^2) has u - v = -std b t / s_t^3, and d phi(z', 1) / d b = -1.
    noise, renoise, t = _distillation_draws()
    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    student = Gaussian(mean=TEACHER.mean + b, layout=LAYOUT).phi
    loss = velocity_distillation_loss(
        student, TEACHER.velocity, noise, renoise, t, layout=LAYOUT, derivative=EXACT, weighting=weighting
    )
    weight = 1 - t if weighting == "one_minus_t" else 2
    u_minus_v = -TEACHER.std * b.detach() * t / ((1 - t) ** 2 * TEACHER.std**2 + t**2) ** 1.5
    assert torch.allclose(loss, weight * u_minus_v**2 / 2, atol=1e-9)
    (grad,) = torch.autograd.grad(loss.mean(), b)
    assert torch.allclose(grad, (-weight * u_minus_v).mean(), atol=1e-9)
    assert grad > 0


@pytest.mark.parametrize("shift", [0.4, -0.4])
def test_a_velocity_distillation_step_lowers_the_kl_divergence(shift):
    noise, renoise, t = _distillation_draws()
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

    loss = velocity_distillation_loss(student, TEACHER.velocity, noise, -noise, t, layout=LAYOUT, derivative=EXACT)
    (grad,) = torch.autograd.grad(loss.sum(), scale)
    assert grad.abs().max() < 1e-9


def test_velocity_distillation_gradient_flows_through_the_one_step_output_alone():
    noise, renoise, t = _distillation_draws()
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
    loss, grad = run(normalization=Normalization(kind="residual", offset=0.1))
    rms = plain.detach().sqrt()
    assert torch.allclose(loss, plain / (rms + 0.1))
    (expected,) = torch.autograd.grad((plain / (rms + 0.1)).sum(), student.out)
    assert torch.allclose(grad, expected)


def test_residual_normalisation_scales_distillation():
    noise, renoise, t = _distillation_draws()
    student = Network(LAYOUT)

    def run(**options):
        return velocity_distillation_loss(student, TEACHER.velocity, noise, renoise, t, layout=LAYOUT, **options)

    plain, scaled = run(), run(normalization=Normalization(kind="residual", offset=0.1))
    rms = (2 * plain / (1 - t)).sqrt()
    assert torch.allclose(scaled, plain / (rms + 0.1))


def _losses(layout, x, noise, renoise, t, kind):
    """Both losses per sample with networks that read the layout."""
    student, teacher = Network(layout, seed=1), Network(layout, seed=2)
    options = {"layout": layout, "normalization": Normalization(kind=kind)}
    return torch.stack(
        [
            velocity_matching_loss(student, teacher, x, t, **options),
            velocity_distillation_loss(student, teacher, noise, renoise, t, **options),
        ]
    ).detach()


@pytest.mark.parametrize("kind", ["none", "residual", "derivative"])
def test_packed_batch_equals_its_samples_one_by_one(kind):
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    x, t = latents(layout, rows=12)
    noise, renoise = (latents(layout, rows=12, seed=s)[0] for s in (1, 2))
    together = _losses(layout, x, noise, renoise, t, kind)
    rows = [part.split(lengths) for part in (x, noise, renoise)]
    alone = [
        _losses(PackedLayout((lengths[i],)), *(part[i] for part in rows), t[i : i + 1], kind)[:, 0]
        for i in range(len(lengths))
    ]
    assert torch.allclose(together, torch.stack(alone, dim=1), atol=1e-12)


@pytest.mark.parametrize("kind", ["none", "residual", "derivative"])
def test_packed_equals_dense_for_samples_of_one_length(kind):
    x, t = latents(LAYOUT, rows=6)
    noise, renoise = (latents(LAYOUT, rows=6, seed=s)[0] for s in (1, 2))
    dense = _losses(LAYOUT, x, noise, renoise, t, kind)
    packed = _losses(PackedLayout((1,) * 6), x, noise, renoise, t, kind)
    assert torch.allclose(dense, packed, atol=1e-12)


@pytest.mark.parametrize("kind", ["none", "residual", "derivative"])
def test_row_order_inside_a_sample_changes_nothing(kind):
    layout = PackedLayout((3, 5))
    x, t = latents(layout, rows=8)
    noise, renoise = (latents(layout, rows=8, seed=s)[0] for s in (1, 2))
    order = torch.tensor([2, 0, 1, 7, 4, 3, 6, 5])
    expected = _losses(layout, x, noise, renoise, t, kind)
    assert torch.allclose(_losses(layout, x[order], noise[order], renoise[order], t, kind), expected, atol=1e-12)


class GuidedTeacher:
    """The closed-form teacher with a recognisable guidance; records the weights it is asked with."""

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, x, t, *, w=None):
        self.asked.append(w)
        return TEACHER.velocity(x, t) + (0.0 if w is None else w)


def _mdt(seed=0, student=None, teacher=None, **options):
    x_0, _ = latents(LAYOUT, rows=6)
    fields = Fields(student=student or Network(LAYOUT), teacher=teacher or GuidedTeacher())
    config = MDTConfig(**({"guidance_vm": None, "guidance_vd": None} | options))
    generator = torch.Generator().manual_seed(seed)
    return mdt_loss(fields, Latents(x_0=x_0, layout=LAYOUT), config=config, generator=generator)


def test_loss_is_matching_plus_weighted_distillation():
    out = _mdt(lambda_vd=0.3)
    assert torch.equal(out.loss, out.vm + 0.3 * out.vd)
    assert out.vd.min() > 0 and out.loss.shape == out.vm.shape == out.t.shape == (6,)
    assert _mdt(lambda_vd=0.0).vd.abs().max() == 0


@pytest.mark.parametrize("noise_of_vd", ["independent", "shared"])
def test_draws_are_time_noise_and_the_two_of_distillation(noise_of_vd):
    out = _mdt(vd_noise=noise_of_vd)
    x_0, _ = latents(LAYOUT, rows=6)
    generator = torch.Generator().manual_seed(0)
    t = TimeOptions().sample(x_0, 6, low=1e-2, generator=generator)
    z, noise, renoise = (randn_like(x_0, generator=generator) for _ in range(3))
    student = Network(LAYOUT)
    vm = velocity_matching_loss(student, TEACHER.velocity, LinearPath().sample(x_0, z, t[:, None]), t, layout=LAYOUT)
    again = z if noise_of_vd == "shared" else renoise
    vd = velocity_distillation_loss(student, TEACHER.velocity, noise, again, t, layout=LAYOUT)
    assert torch.equal(out.t, t) and torch.equal(out.vm, vm) and torch.equal(out.vd, vd)


def test_each_part_asks_the_teacher_under_its_own_guidance():
    teacher = GuidedTeacher()
    out = _mdt(teacher=teacher, guidance_vm=2.0, guidance_vd=5.0)
    assert teacher.asked == [2.0, 5.0]
    teacher.asked.clear()
    plain = _mdt(teacher=teacher)
    assert teacher.asked == [None, None]
    assert not torch.allclose(out.vm, plain.vm) and not torch.allclose(out.vd, plain.vd)
    teacher.asked.clear()
    x_0, _ = latents(LAYOUT, rows=6)
    fields = Fields(student=Network(LAYOUT), teacher=teacher)
    mdt_loss(fields, Latents(x_0=x_0, layout=LAYOUT), config=MDTConfig(), generator=torch.Generator())
    assert teacher.asked == [40.0, 100.0]  # the paper's


def test_no_guidance_leaves_the_teacher_as_it_is():
    teacher = GuidedTeacher()
    assert with_guidance(teacher, None) is teacher
    x, t = latents(LAYOUT, rows=6)
    assert torch.equal(with_guidance(teacher, 0.0)(x, t), TEACHER.velocity(x, t))
    assert torch.equal(with_guidance(teacher, 3.0)(x, t), TEACHER.velocity(x, t) + 3.0)


def test_same_generator_gives_the_same_loss_and_another_does_not():
    assert torch.equal(_mdt().loss, _mdt().loss)
    assert not torch.equal(_mdt().loss, _mdt(seed=1).loss)


@pytest.mark.parametrize(
    "options",
    [
        {"lambda_vd": 0.0},
        {"vd_noise": "shared"},
        {"vd_weighting": "constant"},
        {"guidance_vm": 3.0},
        {"normalization": Normalization(kind="residual")},
        {"normalization": Normalization(kind="derivative")},
        {"derivative": DerivativeOptions(kind="jvp")},
        {"derivative": DerivativeOptions(delta_t=0.0100001)},
        {"sigma_min": 1e-7},
    ],
)
def test_options_leave_the_draws_alone(options):
    assert torch.allclose(_mdt(**options).t, _mdt().t, atol=1e-6)


@pytest.mark.parametrize("sigma_min", [0.0, 0.2])
def test_student_is_asked_on_the_path_and_never_below_its_noise_plus_one_step(sigma_min):
    # At the data end the times start where the path has noise and a step back stays inside.
    seen = []

    def student(x, t):
        seen.append((x, t))
        return torch.zeros_like(x)

    time = TimeOptions(kind="logit_normal", mean=-50.0, std=1.0)  # t = low
    _mdt(student=student, sigma_min=sigma_min, time=time, lambda_vd=0.0)
    x_0, _ = latents(LAYOUT, rows=6)
    generator = torch.Generator().manual_seed(0)
    t = time.sample(x_0, 6, low=1e-2 + sigma_min, generator=generator)
    assert torch.allclose(t, torch.full_like(t, 1e-2 + sigma_min))
    z = randn_like(x_0, generator=generator)
    x_t = (1 - t)[:, None] * x_0 + (sigma_min + (1 - sigma_min) * t)[:, None] * z
    assert torch.allclose(seen[0][0], x_t) and torch.equal(seen[0][1], t)


def test_marginal_is_noised_toward_one():
    # With t = 1 for every sample the student is asked at pure noise, whatever the data.
    seen = []

    def student(x, t):
        seen.append((x.detach(), t))
        return torch.zeros_like(x)

    x_0 = torch.full((6, 3), 1e6, dtype=torch.float64)
    config = MDTConfig(time=TimeOptions(p_noise=1.0), lambda_vd=0.0, guidance_vm=None)
    fields = Fields(student=student, teacher=TEACHER.velocity)
    mdt_loss(fields, Latents(x_0=x_0, layout=LAYOUT), config=config, generator=torch.Generator().manual_seed(0))
    assert seen[0][0].abs().max() < 10 and (seen[0][1] == 1).all()


def test_released_variant_is_what_the_released_trainer_computes():
    assert RELEASED.time == TimeOptions(kind="logit_normal", mean=1.0, std=1.0)
    assert RELEASED.normalization == Normalization(kind="derivative", offset=0.1)
    assert (RELEASED.vd_weighting, RELEASED.vd_noise, RELEASED.sigma_min) == ("constant", "shared", 1e-5)
    assert (RELEASED.guidance_vm, RELEASED.guidance_vd, RELEASED.lambda_vd) == (40.0, 100.0, 1.0)
    assert RELEASED.derivative == DerivativeOptions(kind="backward", delta_t=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"lambda_vd": -1.0},
        {"vd_weighting": "t"},
        {"vd_noise": "none"},
        {"sigma_min": 1.0},
        {"sigma_min": -0.1},
    ],
)
def test_config_refuses_impossible_values(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        MDTConfig(**options)
