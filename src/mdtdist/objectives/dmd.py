"""Distribution matching distillation with a fake network (VSD, DMD, DMD2).

The student's samples move along the difference of two scores at noisy times: that of the teacher and that of a fake
network, which is trained all the while on the student's own samples. The difference is the gradient of the reverse KL
divergence. References: variational score distillation (ProlificDreamer, Wang et al., 2023, arXiv 2305.16213), DMD2 (Yin
et al., 2024, arXiv 2405.14867), f-distill (Xu et al., 2025, arXiv 2502.15681).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField
from mdtdist.objectives.adversarial import AdversarialOptions, DiscriminatorLoss, adversarial_loss, judge_loss
from mdtdist.objectives.mdt import with_guidance
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.residual import drive
from mdtdist.objectives.samples import RenoiseOptions, SampleOptions, renoise

Divergence = Literal["reverse_kl", "forward_kl", "jensen_shannon"]
_MAX_RATIO = 10.0  # a discriminator that is sure of itself must not decide a batch alone
_MIN_SCALE = 1e-6  # where the teacher leaves samples as they are, nothing is to be scaled up


@dataclass(frozen=True, kw_only=True)
class DMDConfig:
    """Options of ``dmd_loss``; the defaults are those of DMD2 without its adversarial term.

    Attributes:
        guidance: weight w of the teacher; None for its own.
        renoise: times at which the two networks look at the samples, in all losses.
        samples: how the student makes them.
        normalization: "dmd" divides by ``mean |x - x0_real|`` of the sample, "none" leaves the difference as it is.
        fake: "full", a copy of the teacher, or "lora", the teacher with low-rank updates.
        lora_rank: rank of the updates.
        updates: of the fake network and of the discriminator before each of the student.
        adversarial_weight: of the discriminator's term; 0 leaves the discriminator out (DMD2 with it: 3e-3 to 5e-3).
        adversarial: its options.
        divergence: what is lowered; all but "reverse_kl" weight the gradient by a density ratio (f-distill) and need
            the discriminator with softplus losses.
    """

    guidance: float | None = None
    renoise: RenoiseOptions = RenoiseOptions()
    samples: SampleOptions = SampleOptions()
    normalization: Literal["dmd", "none"] = "dmd"
    fake: Literal["full", "lora"] = "full"
    lora_rank: int = 16
    updates: int = 5
    adversarial_weight: float = 0.0
    adversarial: AdversarialOptions = AdversarialOptions(kind="softplus")
    divergence: Divergence = "reverse_kl"

    def __post_init__(self) -> None:
        if self.normalization not in ("dmd", "none"):
            raise ValueError(f"normalization is {self.normalization!r}; expected 'dmd' or 'none'")
        if self.fake not in ("full", "lora"):
            raise ValueError(f"fake is {self.fake!r}; expected 'full' or 'lora'")
        if self.lora_rank < 1 or self.updates < 1:
            raise ValueError(f"lora_rank {self.lora_rank} and updates {self.updates} must be at least 1")
        if self.adversarial_weight < 0:
            raise ValueError(f"adversarial_weight is {self.adversarial_weight}; expected a weight of at least 0")
        if self.divergence not in ("reverse_kl", "forward_kl", "jensen_shannon"):
            expected = "'reverse_kl', 'forward_kl' or 'jensen_shannon'"
            raise ValueError(f"divergence is {self.divergence!r}; expected {expected}")
        if self.divergence != "reverse_kl" and self.adversarial.kind != "softplus":
            raise ValueError(f"divergence {self.divergence!r} needs adversarial kind 'softplus'; set it, not 'hinge'")

    @property
    def needs(self) -> frozenset[str]:
        """A fake network, and a discriminator where it has a say."""
        has_discriminator = self.adversarial_weight > 0 or self.divergence != "reverse_kl"
        return frozenset({"fake", "discriminator"} if has_discriminator else {"fake"})

    @property
    def cost(self) -> Cost:
        """The student's update and those of the others, each on samples of its own."""
        passes, updates = self.samples.passes, self.updates
        has_discriminator = "discriminator" in self.needs
        return Cost(
            student_grad=1,
            student=passes + updates * (passes + 1) * (2 if has_discriminator else 1),
            teacher=1,
            teacher_grad=int(self.adversarial_weight > 0),
            fake=1,
            fake_grad=updates,
            features=(updates * self.adversarial.passes if has_discriminator else 0)
            + int(self.divergence != "reverse_kl"),
        )


VSD = DMDConfig(normalization="none", fake="lora", updates=1)
GAN = DMDConfig(adversarial_weight=3e-3)


@dataclass(frozen=True, kw_only=True)
class DMDLoss:
    """Per-sample losses of the student.

    Attributes:
        loss: ``matching + adversarial_weight adversarial``.
        matching: half the mean squared direction, a value to watch.
        adversarial: the discriminator's term before its weight; zero when it is left out.
        t: times of the noisy samples.
    """

    loss: Float[Tensor, "B"]
    matching: Float[Tensor, "B"]
    adversarial: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


@dataclass(frozen=True, kw_only=True)
class FakeLoss:
    """Per-sample loss of the fake network, and the times of the noisy samples."""

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def distribution_matching_loss(
    samples: Float[Tensor, "..."],
    teacher: VelocityField,
    fake: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    normalization: Literal["dmd", "none"] = "dmd",
    weight: Float[Tensor, "B"] | None = None,
) -> Float[Tensor, "B"]:
    """Move samples ``x`` against ``g = (x0_fake - x0_real) / mean |x - x0_real|`` (DMD, 2311.18828).

    ``x0_real`` and ``x0_fake`` are what the two velocities make of ``x_t``: ``x_t - t v``. Their difference is
    ``t^2 / (1 - t)`` times that of the scores, so descent lowers the reverse KL divergence as far as ``fake`` is the
    velocity of the samples' own marginals.

    Args:
        samples: of the student; the gradient flows through them alone.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        fake: velocity of the samples; evaluated without gradients.
        x_t: the samples, noised.
        t: times in (0, 1).
        layout: how the samples lie in ``samples``.
        normalization: "none" leaves out the division.
        weight: one more factor for each sample.

    Returns:
        ``weight mean(g^2) / 2`` per sample, a value to watch; its gradient is ``weight g`` over the number of elements,
        not that of the value.
    """
    with torch.no_grad():
        time = layout.expand(t, x_t).to(x_t.dtype)
        x_0_real = x_t - time * teacher(x_t, t)
        direction = x_t - time * fake(x_t, t) - x_0_real
        if normalization == "dmd":
            scale = layout.mean((samples - x_0_real).abs()).clamp_min(_MIN_SCALE)
            direction = direction / layout.expand(scale, direction)
    return drive(samples, direction, layout=layout, weight=torch.ones_like(t) if weight is None else weight)


def divergence_weight(logits: Float[Tensor, "B H"], divergence: Divergence) -> Float[Tensor, "B"]:
    """``h(r) = r^2 f''(r)`` for ``r = exp(D)``, the density of real over generated samples (2502.15681).

    The factor that turns the gradient of the reverse KL divergence (``f = -log r``, ``h = 1``) into that of the forward
    one (``f = r log r``, ``h = r``) or of twice Jensen and Shannon's (``h = r / (1 + r)``). ``r`` is at most 10.
    """
    r = logits.detach().mean(1).exp().clamp_max(_MAX_RATIO)
    if divergence == "reverse_kl":
        return torch.ones_like(r)
    return r if divergence == "forward_kl" else r / (1 + r)


def dmd_loss(
    fields: Fields, latents: Latents, *, config: DMDConfig, generator: torch.Generator, step: int = 0
) -> DMDLoss:
    """The student's loss; of the latents only the shape is used.

    The generator is drawn from in the order samples, t, noise, then t and noise of the adversarial term.
    """
    fake, layout = fields.required("fake"), latents.layout
    samples = config.samples.draw(fields.student, latents.x_0, layout=layout, generator=generator)
    t, noise = config.renoise.draw(samples, layout=layout, generator=generator)
    x_t = renoise(samples.detach(), noise, t, layout=layout)
    matching = distribution_matching_loss(
        samples,
        with_guidance(fields.teacher, config.guidance),
        fake,
        x_t,
        t,
        layout=layout,
        normalization=config.normalization,
        weight=_ratio_weight(fields, x_t, t, config.divergence),
    )
    adversarial = torch.zeros_like(matching)
    if config.adversarial_weight > 0:
        adversarial = adversarial_loss(
            fields.required("discriminator"), samples, layout=layout, options=config.adversarial, generator=generator
        ).loss
    loss = matching + config.adversarial_weight * adversarial
    return DMDLoss(loss=loss, matching=matching, adversarial=adversarial, t=t)


def dmd_fake_loss(
    fields: Fields, latents: Latents, *, config: DMDConfig, generator: torch.Generator, step: int = 0
) -> FakeLoss:
    """Flow matching of the fake network on samples of the student: ``mean (v(x_t, t) - (noise - x))^2``.

    The generator is drawn from in the order samples, t, noise.
    """
    fake, layout = fields.required("fake"), latents.layout
    x = _detached_samples(fields, latents, config, generator)
    t, noise = config.renoise.draw(x, layout=layout, generator=generator)
    velocity = fake(renoise(x, noise, t, layout=layout), t)
    return FakeLoss(loss=layout.mean((velocity - LinearPath().velocity(x, noise)) ** 2), t=t)


def dmd_discriminator_loss(
    fields: Fields, latents: Latents, *, config: DMDConfig, generator: torch.Generator, step: int = 0
) -> DiscriminatorLoss:
    """The discriminator's loss, ``latents.x_0`` being what is real."""
    discriminator = fields.required("discriminator")
    x = _detached_samples(fields, latents, config, generator)
    return judge_loss(
        discriminator, latents.x_0, x, layout=latents.layout, options=config.adversarial, generator=generator
    )


def _detached_samples(fields: Fields, latents: Latents, config: DMDConfig, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return config.samples.draw(fields.student, latents.x_0, layout=latents.layout, generator=generator)


def _ratio_weight(fields: Fields, x_t: Tensor, t: Tensor, divergence: Divergence) -> Tensor | None:
    """The factor of f-distill; None saves the discriminator where it is 1."""
    if divergence == "reverse_kl":
        return None
    discriminator = fields.required("discriminator")
    with torch.no_grad():
        return divergence_weight(discriminator(x_t, t), divergence)
