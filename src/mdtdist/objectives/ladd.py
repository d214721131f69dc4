"""Latent adversarial diffusion distillation (LADD, Sauer et al., 2024, arXiv 2403.12015).

Heads on features of the frozen teacher tell noisy samples of the student from noisy real latents; the student learns
to be taken for real. Real are the data latents, or samples of the teacher in their place, as in the paper.
"""

from dataclasses import dataclass

import torch

from mdtdist.objectives.adversarial import (
    AdversarialLoss,
    AdversarialOptions,
    DiscriminatorLoss,
    adversarial_loss,
    judge_loss,
)
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.samples import SampleOptions


@dataclass(frozen=True, kw_only=True)
class LADDConfig:
    """Options of ``ladd_loss``; the defaults are the paper's, for one step.

    Attributes:
        adversarial: how samples are told from real latents.
        samples: how the student makes them.
        updates: of the discriminator before each of the student.
    """

    adversarial: AdversarialOptions = AdversarialOptions()
    samples: SampleOptions = SampleOptions()
    updates: int = 1

    def __post_init__(self) -> None:
        if self.updates < 1:
            raise ValueError(f"updates is {self.updates}; expected at least 1")

    @property
    def needs(self) -> frozenset[str]:
        """A discriminator."""
        return frozenset({"discriminator"})

    @property
    def cost(self) -> Cost:
        """The student's update and those of the discriminator, each on samples of its own."""
        passes = self.samples.passes
        return Cost(
            student_grad=1,
            student=passes + self.updates * (passes + 1),
            teacher_grad=1,
            features=self.updates * self.adversarial.passes,
        )


def ladd_loss(
    fields: Fields, latents: Latents, *, config: LADDConfig, generator: torch.Generator, step: int = 0
) -> AdversarialLoss:
    """The student's loss; of the latents only the shape is used.

    The generator is drawn from in the order samples, t, noise.
    """
    discriminator, layout = fields.required("discriminator"), latents.layout
    samples = config.samples.draw(fields.student, latents.x_0, layout=layout, generator=generator)
    return adversarial_loss(discriminator, samples, layout=layout, options=config.adversarial, generator=generator)


def ladd_discriminator_loss(
    fields: Fields, latents: Latents, *, config: LADDConfig, generator: torch.Generator, step: int = 0
) -> DiscriminatorLoss:
    """The discriminator's loss, ``latents.x_0`` being what is real.

    The generator is drawn from in the order samples, t, noise, perturbation.
    """
    discriminator, layout = fields.required("discriminator"), latents.layout
    with torch.no_grad():
        samples = config.samples.draw(fields.student, latents.x_0, layout=layout, generator=generator)
    return judge_loss(
        discriminator, latents.x_0, samples, layout=layout, options=config.adversarial, generator=generator
    )
