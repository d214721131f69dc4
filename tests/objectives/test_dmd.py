"""Distribution matching: known gradient between two Gaussians, and both time scales together down to no KL at all."""

import math

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import (
    GAN,
    AdversarialOptions,
    DMDConfig,
    Fields,
    Latents,
    RenoiseOptions,
    distribution_matching_loss,
    dmd_discriminator_loss,
    dmd_fake_loss,
    dmd_loss,
)
from mdtdist.objectives.dmd import divergence_weight
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)


def _draws(layout=LAYOUT, rows=6):
    """Noise, renoise, times."""
    noise, t = latents(layout, rows=rows)
    return noise, latents(layout, rows=rows, seed=1)[0], t


def _noised(x, renoise, t, layout=LAYOUT):
    time = layout.expand(t, x)
    return ((1 - time) * x + time * renoise).detach()


def _shifted(b, normalization):
    """The loss of the ideal student of N(mean + b, std^2) with its own velocity as the fake one."""
    noise, renoise, t = _draws()
    other = Gaussian(mean=TEACHER.mean + b, layout=LAYOUT)
    x = noise - other.phi(noise, torch.ones_like(t))
    fake = Gaussian(mean=TEACHER.mean + b.detach(), layout=LAYOUT)
    x_t = _noised(x, renoise, t)
    loss = distribution_matching_loss(
        x, TEACHER.velocity, fake.velocity, x_t, t, layout=LAYOUT, normalization=normalization
    )
    return loss, x.detach(), x_t, t


@pytest.mark.parametrize("normalization", ["dmd", "none"])
def test_value_and_gradient_are_known(normalization):
    # x0_fake - x0_real = b t^2 / s_t^2, and d x / d b = 1.
    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    loss, x, x_t, t = _shifted(b, normalization)
    direction = b.detach() * t**2 / ((1 - t) ** 2 * TEACHER.std**2 + t**2)
    if normalization == "dmd":
        direction = direction / (x - (x_t - t[:, None] * TEACHER.velocity(x_t, t))).abs().mean(1)
    assert torch.allclose(loss, direction**2 / 2, atol=1e-12)
    (grad,) = torch.autograd.grad(loss.mean(), b)
    assert torch.allclose(grad, direction.mean(), atol=1e-12)
    assert grad > 0


@pytest.mark.parametrize("normalization", ["dmd", "none"])
@pytest.mark.parametrize("shift", [0.4, -0.4])
def test_a_step_lowers_the_kl_divergence(shift, normalization):
    b = torch.full((3,), shift, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(_shifted(b, normalization)[0].mean(), b)
    after = b.detach() - 0.2 * grad
    # KL(N(mean + b, s^2) || N(mean, s^2)) = b^2 / (2 s^2)
    assert (after**2).sum() < 0.99 * (b.detach() ** 2).sum()


def test_no_gradient_where_fake_and_teacher_agree():
    noise, renoise, t = _draws()
    x = noise.requires_grad_()
    loss = distribution_matching_loss(x, TEACHER.velocity, TEACHER.velocity, _noised(x, renoise, t), t, layout=LAYOUT)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert loss.abs().max() == 0 and grad.abs().max() == 0


def test_samples_that_the_teacher_leaves_alone_give_no_infinite_step():
    noise, _, t = _draws()
    still = torch.zeros_like
    loss = distribution_matching_loss(noise, lambda x, t: still(x), lambda x, t: still(x), noise, t, layout=LAYOUT)
    assert loss.isfinite().all()


def _fields(**changes):
    others = {"student": Network(LAYOUT, seed=1), "teacher": Network(LAYOUT, seed=2), "fake": Network(LAYOUT, seed=3)}
    return Fields(**{**others, **changes})


LATENTS = Latents(x_0=latents(LAYOUT, rows=6, seed=5)[0], layout=LAYOUT)


def _run(loss, fields, seed=0, **options):
    config = DMDConfig(**options)
    return loss(fields, LATENTS, config=config, generator=torch.Generator().manual_seed(seed))


def test_gradient_flows_through_the_sample_alone():
    fields = _fields()
    _run(dmd_loss, fields, normalization="none").loss.sum().backward()
    for network in (fields.teacher, fields.fake):
        assert all(p.grad is None for p in network.parameters())

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    x = z - fields.student(z, torch.ones(6, dtype=torch.float64))
    t, noise = RenoiseOptions().draw(x, layout=LAYOUT, generator=generator)
    x_t = _noised(x, noise, t)
    direction = (t[:, None] * (fields.teacher(x_t, t) - fields.fake(x_t, t))).detach()
    expected = torch.autograd.grad((direction * x).mean(1).sum(), list(fields.student.parameters()))
    for parameter, grad in zip(fields.student.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_fake_loss_trains_the_fake_network_alone():
    fields = _fields()
    _run(dmd_fake_loss, fields).loss.sum().backward()
    assert all(p.grad is not None for p in fields.fake.parameters())
    for network in (fields.teacher, fields.student):
        assert all(p.grad is None for p in network.parameters())


def test_fake_loss_is_that_of_flow_matching_on_the_students_samples():
    # A student that always makes c has the velocity (x_t - c) / t, which is noise - c on every path.
    c = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    fields = _fields(student=lambda x, t: x - c, fake=lambda x, t: (x - c) / t[:, None])
    assert _run(dmd_fake_loss, fields).loss.max() < 1e-20
    offsets = torch.arange(6.0, dtype=torch.float64)
    other = _fields(student=lambda x, t: x - c, fake=lambda x, t: (x - c) / t[:, None] + offsets[:, None])
    assert torch.allclose(_run(dmd_fake_loss, other).loss, offsets**2)


@pytest.mark.parametrize("normalization", ["dmd", "none"])
def test_fake_and_student_find_the_teacher_together(normalization):
    layout = DenseLayout(256)
    teacher = Gaussian(layout=layout)
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.0, 0.8))
    fields = Fields(
        student=lambda x, t: Gaussian(mean=teacher.mean + b, layout=layout).phi(x, t),
        teacher=teacher.velocity,
        fake=lambda x, t: Gaussian(mean=teacher.mean + a, layout=layout).velocity(x, t),
    )
    batch = Latents(x_0=latents(layout, rows=256)[0], layout=layout)
    config, generator = DMDConfig(normalization=normalization), torch.Generator().manual_seed(0)
    for _ in range(30):
        for parameter, loss, lr in [(a, dmd_fake_loss, 0.4)] * config.updates + [(b, dmd_loss, 0.4)]:
            value = loss(fields, batch, config=config, generator=generator).loss.mean()
            (grad,) = torch.autograd.grad(value, parameter)
            with torch.no_grad():
                parameter -= lr * grad
    assert abs(a) < 0.05 and abs(b) < 0.05, (a, b)  # 0.02 and 0.01 seen


def test_renoise_times_lie_between_low_and_high():
    t = torch.cat([_run(dmd_loss, _fields(), seed=seed).t for seed in range(60)])
    assert 0.02 <= t.min() < 0.06 and 0.94 < t.max() <= 0.98


def test_teacher_is_asked_under_the_guidance_given():
    asked = []

    def teacher(x, t, *, w=None):
        asked.append(w)
        return x

    fields = _fields(teacher=teacher)
    _run(dmd_loss, fields, guidance=7.0)
    _run(dmd_loss, fields)
    assert asked == [7.0, None]


def _discriminator(x, t):
    return torch.stack([x.sum(1), (x**2).sum(1)], dim=1)


def test_adversarial_term_has_its_weight_and_gradient():
    fields = _fields(discriminator=_discriminator)
    plain, out = _run(dmd_loss, fields), _run(dmd_loss, fields, adversarial_weight=0.3)
    assert plain.adversarial.abs().max() == 0
    assert torch.equal(out.matching, plain.matching)
    assert torch.allclose(out.loss, out.matching + 0.3 * out.adversarial)
    parameters = list(fields.student.parameters())
    (grad, *_) = torch.autograd.grad(out.adversarial.sum(), parameters)
    assert grad.abs().max() > 1e-3


def test_discriminator_loss_trains_the_discriminator_alone():
    weight = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    fields = _fields(discriminator=lambda x, t: x @ weight)
    config = {"adversarial_weight": 0.1, "adversarial": AdversarialOptions(kind="softplus")}
    out = _run(dmd_discriminator_loss, fields, **config)
    assert torch.allclose(out.loss, torch.full((6,), 2 * math.log(2), dtype=torch.float64))
    out.loss.sum().backward()
    assert weight.grad.abs().max() > 0
    for network in (fields.teacher, fields.student, fields.fake):
        assert all(p.grad is None for p in network.parameters())


def test_discriminator_sees_samples_of_the_student_and_latents_as_real():
    c = 3.0
    fields = _fields(student=lambda x, t: x - c, discriminator=lambda x, t: x.mean(1, keepdim=True))
    out = _run(dmd_discriminator_loss, fields)
    assert torch.allclose(out.real - out.generated, (1 - out.t) * (LATENTS.x_0.mean(1) - c))


@pytest.mark.parametrize(
    ("divergence", "f"),
    [
        ("reverse_kl", lambda r: -r.log()),
        ("forward_kl", lambda r: r * r.log()),
        ("jensen_shannon", lambda r: r * r.log() - (r + 1) * ((r + 1) / 2).log()),
    ],
)
def test_divergence_weight_is_r_squared_times_the_second_derivative(divergence, f):
    logits = torch.tensor([-2.0, -0.5, 0.0, 1.0], dtype=torch.float64)
    r = logits.exp().requires_grad_()
    (first,) = torch.autograd.grad(f(r).sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    heads = torch.stack([logits - 1, logits + 1], dim=1)
    assert torch.allclose(divergence_weight(heads, divergence), r**2 * second)


def test_forward_divergence_weights_the_gradient_by_a_bounded_ratio():
    fields = _fields(discriminator=lambda x, t: 50 * torch.sign(x[:, :1]))
    plain, out = _run(dmd_loss, fields), _run(dmd_loss, fields, divergence="forward_kl")
    ratio = out.matching / plain.matching
    assert ((ratio - 10).abs() < 1e-9).logical_or(ratio.abs() < 1e-9).all()
    assert ratio.min() < 1 < ratio.max()
    assert DMDConfig(divergence="forward_kl").needs == {"fake", "discriminator"}


def _matching(layout, x, renoise, t):
    x_t = _noised(x, renoise, t, layout)
    networks = Network(layout, seed=1), Network(layout, seed=2)
    return distribution_matching_loss(x, *networks, x_t, t, layout=layout).detach()


def test_packed_batch_equals_its_samples_one_by_one():
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    x, renoise, t = _draws(layout, 12)
    together = _matching(layout, x, renoise, t)
    parts = zip(x.split(lengths), renoise.split(lengths), t.split(1), strict=True)
    alone = [_matching(PackedLayout((len(part[0]),)), *part) for part in parts]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)


def test_packed_equals_dense_for_samples_of_one_length():
    draws = _draws()
    assert torch.allclose(_matching(LAYOUT, *draws), _matching(PackedLayout((1,) * 6), *draws), atol=1e-12)


def test_row_order_inside_a_sample_changes_nothing():
    layout = PackedLayout((3, 5))
    x, renoise, t = _draws(layout, 8)
    order = torch.tensor([2, 0, 1, 7, 4, 3, 6, 5])
    expected = _matching(layout, x, renoise, t)
    assert torch.allclose(_matching(layout, x[order], renoise[order], t), expected, atol=1e-12)


def test_needs_follow_from_the_weights():
    assert DMDConfig().needs == {"fake"}
    assert GAN.needs == {"fake", "discriminator"}


@pytest.mark.parametrize(
    "options",
    [
        {"normalization": "rms"},
        {"fake": "none"},
        {"lora_rank": 0},
        {"updates": 0},
        {"adversarial_weight": -1.0},
        {"divergence": "js"},
    ],
)
def test_config_refuses_impossible_values(options):
    (name,) = options
    with pytest.raises((ValueError, TypeError), match=name):
        DMDConfig(**options)


def test_ratios_of_a_hinge_discriminator_are_refused():
    with pytest.raises(ValueError, match="softplus"):
        DMDConfig(divergence="forward_kl", adversarial=AdversarialOptions(kind="hinge"))
