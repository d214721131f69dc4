"""Adversarial distillation: losses with known optima, and a step toward the real samples."""

import math

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import AdversarialOptions, Fields, LADDConfig, Latents, ladd_discriminator_loss, ladd_loss
from mdtdist.objectives.adversarial import (
    adversarial_loss,
    approximate_r1,
    discriminator_loss,
    generator_loss,
    judge_loss,
)
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
REAL = Gaussian(layout=LAYOUT)
LATENTS = Latents(x_0=latents(LAYOUT, rows=6, seed=5)[0], layout=LAYOUT)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _logits(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_hinge_losses_are_known_and_average_the_heads():
    real, generated = _logits([2.0, 0.0], [-1.0, 1.0]), _logits([-2.0, 0.5], [0.0, -1.0])
    assert torch.allclose(discriminator_loss(real, generated), _logits((0 + 1 + 0 + 1.5) / 2, (2 + 0 + 1 + 0) / 2))
    assert torch.allclose(generator_loss(generated), _logits(0.75, 0.5))


def test_softplus_logits_at_the_optimum_are_the_log_density_ratio():
    p, q = torch.rand(2, 5, generator=_generator(), dtype=torch.float64)
    logits = (p / q).log()[:, None].requires_grad_()
    for_real = discriminator_loss(logits, torch.full_like(logits, -1e3), kind="softplus")
    for_generated = discriminator_loss(torch.full_like(logits, 1e3), logits, kind="softplus")
    (grad,) = torch.autograd.grad((p * for_real + q * for_generated).sum(), logits)
    assert grad.abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["hinge", "softplus"])
def test_student_wants_what_the_discriminator_calls_real(kind):
    logits = _logits([0.3], [-2.0]).requires_grad_()
    (for_student,) = torch.autograd.grad(generator_loss(logits, kind=kind).sum(), logits)
    (as_real,) = torch.autograd.grad(discriminator_loss(logits, -5 + 0 * logits, kind=kind).sum(), logits)
    (as_generated,) = torch.autograd.grad(discriminator_loss(5 + 0 * logits, logits, kind=kind).sum(), logits)
    assert (for_student < 0).all() and (as_real < 0).all()
    assert (as_generated >= 0).all() and as_generated[0] > 0


def test_approximate_r1_is_the_squared_gradient_times_the_variance():
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x, noise = torch.randn(2, 20000, 3, generator=_generator(), dtype=torch.float64)
    penalty = approximate_r1((x @ slope)[:, None], ((x + 0.1 * noise) @ slope)[:, None])
    assert abs(penalty.mean() / (0.01 * slope.square().sum()) - 1) < 0.03


def _log_ratio(b):
    """The ideal discriminator of N(mean, std^2) against N(mean + b, std^2), both noised."""

    def logits(x, t):
        t = t[:, None]
        variance = (1 - t) ** 2 * REAL.std**2 + t**2
        real, generated = ((1 - t) * (REAL.mean + shift) for shift in (0, b))
        return (((x - generated) ** 2 - (x - real) ** 2) / (2 * variance)).sum(1, keepdim=True)

    return logits


@pytest.mark.parametrize("kind", ["hinge", "softplus"])
@pytest.mark.parametrize("shift", [0.4, -0.4])
def test_a_step_against_the_ideal_discriminator_lowers_the_kl_divergence(shift, kind):
    b = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    fields = Fields(
        student=lambda x, t: Gaussian(mean=REAL.mean + b, layout=LAYOUT).phi(x, t),
        teacher=REAL.velocity,
        discriminator=_log_ratio(shift),
    )
    config = LADDConfig(adversarial=AdversarialOptions(kind=kind))
    (grad,) = torch.autograd.grad(ladd_loss(fields, LATENTS, config=config, generator=_generator()).loss.mean(), b)
    assert abs(b - 0.1 * grad) < abs(b) - 1e-3


def test_student_loss_has_the_known_gradient():
    # D = a x at time t: -D on (1 - t) x + t noise has the gradient -(1 - t) a on x.
    a = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x = LATENTS.x_0.clone().requires_grad_()
    options = AdversarialOptions()
    loss = adversarial_loss(
        lambda x, t: (x @ a)[:, None], x, layout=LAYOUT, options=options, generator=_generator()
    ).loss
    t, noise = options.renoise.draw(x, layout=LAYOUT, generator=_generator())
    assert torch.allclose(loss, -((1 - t)[:, None] * x + t[:, None] * noise) @ a)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert torch.allclose(grad, -(1 - t)[:, None] * a)


@pytest.mark.parametrize("kind", ["hinge", "softplus"])
def test_discriminator_learns_to_tell_real_from_generated(kind):
    weight = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    real, generated = 2 + LATENTS.x_0, LATENTS.x_0 - 2

    def judge():
        options = AdversarialOptions(kind=kind)
        field = lambda x, t: x @ weight  # noqa: E731
        return judge_loss(field, real, generated, layout=LAYOUT, options=options, generator=_generator())

    (grad,) = torch.autograd.grad(judge().loss.mean(), weight)
    with torch.no_grad():
        weight -= 0.1 * grad
    out = judge()
    assert (out.real - out.generated).mean() > 0.01
    # The same time and noise for both: they differ by (1 - t) (real - generated).
    assert torch.allclose(out.real - out.generated, (1 - out.t) * 4 * weight.sum())


def test_penalty_is_weighted_and_asks_the_discriminator_once_more():
    slope = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    seen = []

    def field(x, t):
        seen.append(x)
        return x @ slope

    def judge(**options):
        seen.clear()
        return judge_loss(
            field,
            LATENTS.x_0,
            -LATENTS.x_0,
            layout=LAYOUT,
            options=AdversarialOptions(**options),
            generator=_generator(),
        )

    plain = judge()
    assert plain.r1.abs().max() == 0 and len(seen) == AdversarialOptions().passes == 2
    out = judge(r1_weight=3.0, r1_noise=0.2)
    assert len(seen) == AdversarialOptions(r1_weight=3.0).passes == 3
    assert torch.allclose(out.r1, ((seen[2] - seen[0]) @ slope)[:, 0] ** 2)
    assert 0.1 < (seen[2] - seen[0]).std() < 0.3
    assert torch.allclose(out.loss, plain.loss + 3 * out.r1)


def test_discriminator_loss_reaches_neither_kind_of_sample():
    real, generated = (LATENTS.x_0.clone().requires_grad_() for _ in range(2))
    weight = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    options = AdversarialOptions(r1_weight=1.0)
    judge_loss(
        lambda x, t: x @ weight, real, generated, layout=LAYOUT, options=options, generator=_generator()
    ).loss.sum().backward()
    assert weight.grad is not None and real.grad is None and generated.grad is None


class Discriminator(torch.nn.Module):
    """Two linear heads on the mean row of each sample."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout
        self.weight = torch.nn.Parameter(torch.randn(3, 2, generator=_generator(), dtype=torch.float64))

    def forward(self, x, t):
        return torch.stack([self.layout.mean(x * column) for column in self.weight.T], dim=1)


def test_each_loss_trains_its_own_network():
    fields = Fields(
        student=Network(LAYOUT, seed=1), teacher=Network(LAYOUT, seed=2), discriminator=Discriminator(LAYOUT)
    )
    ladd_discriminator_loss(fields, LATENTS, config=LADDConfig(), generator=_generator()).loss.sum().backward()
    assert fields.discriminator.weight.grad is not None
    assert all(p.grad is None for p in fields.student.parameters())
    fields.discriminator.weight.grad = None
    fields.discriminator.requires_grad_(False)
    ladd_loss(fields, LATENTS, config=LADDConfig(), generator=_generator()).loss.sum().backward()
    assert all(p.grad is not None for p in fields.student.parameters())
    assert fields.discriminator.weight.grad is None


def test_discriminator_sees_samples_of_the_student_and_latents_as_real():
    c = 3.0
    fields = Fields(
        student=lambda x, t: x - c, teacher=REAL.velocity, discriminator=lambda x, t: x.mean(1, keepdim=True)
    )
    out = ladd_discriminator_loss(fields, LATENTS, config=LADDConfig(), generator=_generator())
    difference = (1 - out.t) * (LATENTS.x_0.mean(1) - c)
    assert torch.allclose(out.real - out.generated, difference)


def test_packed_batch_equals_its_samples_one_by_one():
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    real, generated = (latents(layout, rows=12, seed=seed)[0] for seed in (0, 1))
    t = torch.full((4,), 0.5, dtype=torch.float64)
    together = discriminator_loss(Discriminator(layout)(real, t), Discriminator(layout)(generated, t))
    for i, (a, b) in enumerate(zip(real.split(lengths), generated.split(lengths), strict=True)):
        one = Discriminator(PackedLayout((lengths[i],)))
        assert torch.allclose(together[i], discriminator_loss(one(a, t[:1]), one(b, t[:1]))[0], atol=1e-12)


def test_default_times_are_those_of_the_paper():
    out = torch.cat(
        [
            judge_loss(
                Discriminator(LAYOUT),
                LATENTS.x_0,
                LATENTS.x_0,
                layout=LAYOUT,
                options=AdversarialOptions(),
                generator=_generator(seed),
            ).t
            for seed in range(100)
        ]
    )
    assert abs(torch.logit(out).mean() - 1) < 0.1 and abs(torch.logit(out).std() - 1) < 0.1


def test_unknown_kinds_are_refused():
    assert math.isfinite(generator_loss(_logits([0.0])))
    for call in (
        lambda: generator_loss(_logits([0.0]), kind="wgan"),
        lambda: discriminator_loss(_logits([0.0]), _logits([0.0]), kind="wgan"),
    ):
        with pytest.raises((ValueError, TypeError), match="kind"):
            call()


@pytest.mark.parametrize(
    "options", [{"kind": "wgan"}, {"r1_weight": -1.0}, {"r1_noise": 0.0}, {"num_heads": 0}, {"head_channels": 0}]
)
def test_options_refuse_impossible_values(options):
    (name,) = options
    with pytest.raises((ValueError, TypeError), match=name):
        AdversarialOptions(**options)
    with pytest.raises(ValueError, match="updates"):
        LADDConfig(updates=0)
