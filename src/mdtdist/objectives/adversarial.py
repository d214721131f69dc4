"""Adversarial terms on noisy latents, for every method that has one.

A discriminator gives ``logits(x_t, t)``, one row per sample and one column per head, high for real samples. Heads count
alike, samples too, whatever their size.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, VelocityField, randn_like
from mdtdist.objectives.options import TimeOptions
from mdtdist.objectives.samples import RenoiseOptions, renoise

Kind = Literal["hinge", "softplus"]


@dataclass(frozen=True, kw_only=True)
class AdversarialOptions:
    """How samples are told from real latents.

    Attributes:
        kind: "hinge" (LADD) or "softplus", the non-saturating logistic loss (DMD2), with which the logits are the log
            of the density of real samples over that of the student's.
        renoise: times at which the discriminator looks; the default is LADD's (2403.12015), more noise than
            not, so that it judges shape before detail.
        r1_weight: of the approximate R1 penalty (2501.08316 takes 100); 0 saves its evaluation.
        r1_noise: standard deviation of the perturbation for it, in units of the latent.
        num_heads: blocks of the teacher, evenly spread and with the last, that carry a head.
        head_channels: width of a head.
    """

    kind: Kind = "hinge"
    renoise: RenoiseOptions = RenoiseOptions(
        time=TimeOptions(kind="logit_normal", mean=1.0, std=1.0), low=0.0, high=1.0
    )
    r1_weight: float = 0.0
    r1_noise: float = 0.1
    num_heads: int = 4
    head_channels: int = 64

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        if self.r1_weight < 0:
            raise ValueError(f"r1_weight is {self.r1_weight}; expected a weight of at least 0")
        if self.r1_noise <= 0:
            raise ValueError(f"r1_noise is {self.r1_noise}; expected a positive standard deviation")
        if self.num_heads < 1 or self.head_channels < 1:
            raise ValueError(f"num_heads {self.num_heads} and head_channels {self.head_channels} must be at least 1")

    @property
    def passes(self) -> int:
        """Passes of the teacher in one update of the discriminator: real, generated, and perturbed real samples."""
        return 3 if self.r1_weight > 0 else 2


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """Per-sample loss of a student, and the times of the noisy samples."""

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


@dataclass(frozen=True, kw_only=True)
class DiscriminatorLoss:
    """Per-sample loss of a discriminator.

    Attributes:
        loss: what to minimise.
        real, generated: mean logit of the real and of the student's samples.
        r1: approximate R1 penalty before its weight; zero when it is left out.
        t: times of the noisy samples.
    """

    loss: Float[Tensor, "B"]
    real: Float[Tensor, "B"]
    generated: Float[Tensor, "B"]
    r1: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def generator_loss(logits: Float[Tensor, "B H"], *, kind: Kind = "hinge") -> Float[Tensor, "B"]:
    """What the student minimises for its own samples: ``-D`` (hinge) or ``softplus(-D)``, mean over the heads."""
    _check_kind(kind)
    return (-logits if kind == "hinge" else F.softplus(-logits)).mean(1)


def discriminator_loss(
    real: Float[Tensor, "B H"], generated: Float[Tensor, "B H"], *, kind: Kind = "hinge"
) -> Float[Tensor, "B"]:
    """What the discriminator minimises: ``relu(1 - D(real)) + relu(1 + D(generated))``, or softplus."""
    _check_kind(kind)
    if kind == "hinge":
        return (F.relu(1 - real) + F.relu(1 + generated)).mean(1)
    return (F.softplus(-real) + F.softplus(generated)).mean(1)


def approximate_r1(logits: Float[Tensor, "B H"], perturbed: Float[Tensor, "B H"]) -> Float[Tensor, "B"]:
    """Squared change of the logits under a small noise on real samples (APT, 2501.08316), mean over heads.

    With noise of variance ``s^2`` it tends to ``s^2`` times the squared gradient that R1 penalises, without a second
    backward pass.
    """
    return ((logits - perturbed) ** 2).mean(1)


def adversarial_loss(
    discriminator: VelocityField,
    samples: Float[Tensor, "..."],
    *,
    layout: Layout,
    options: AdversarialOptions,
    generator: torch.Generator,
) -> AdversarialLoss:
    """The student's loss for samples that a discriminator sees noised; gradients flow to ``samples``.

    The generator is drawn from in the order t, noise.
    """
    t, noise = options.renoise.draw(samples, layout=layout, generator=generator)
    logits = discriminator(renoise(samples, noise, t, layout=layout), t)
    return AdversarialLoss(loss=generator_loss(logits, kind=options.kind), t=t)


def judge_loss(
    discriminator: VelocityField,
    real: Float[Tensor, "..."],
    generated: Float[Tensor, "..."],
    *,
    layout: Layout,
    options: AdversarialOptions,
    generator: torch.Generator,
) -> DiscriminatorLoss:
    """The discriminator's loss for real and generated samples, both detached, at the same times and noises.

    The generator is drawn from in the order t, noise, perturbation.
    """
    t, noise = options.renoise.draw(real, layout=layout, generator=generator)
    noisy, fake = (renoise(x.detach(), noise, t, layout=layout) for x in (real, generated))
    return judge_noisy_loss(discriminator, noisy, fake, t, options=options, generator=generator)


def judge_noisy_loss(
    discriminator: VelocityField,
    real: Float[Tensor, "..."],
    generated: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    options: AdversarialOptions,
    generator: torch.Generator,
) -> DiscriminatorLoss:
    """The discriminator's loss for detached samples that are noisy already.

    The generator is drawn from for the perturbation alone.
    """
    real_logits, generated_logits = discriminator(real, t), discriminator(generated, t)
    loss = discriminator_loss(real_logits, generated_logits, kind=options.kind)
    r1 = torch.zeros_like(loss)
    if options.r1_weight > 0:
        perturbation = options.r1_noise * randn_like(real, generator=generator)
        r1 = approximate_r1(real_logits, discriminator(real + perturbation, t))
    return DiscriminatorLoss(
        loss=loss + options.r1_weight * r1,
        real=real_logits.mean(1),
        generated=generated_logits.mean(1),
        r1=r1,
        t=t,
    )


def _check_kind(kind: str) -> None:
    if kind not in ("hinge", "softplus"):
        raise ValueError(f"kind is {kind!r}; expected 'hinge' or 'softplus'")
