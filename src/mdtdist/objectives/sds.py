"""Score distillation sampling (SDS, DreamFusion, Poole et al., 2022, arXiv 2209.14988) of a one-step student.

The student's samples move to where the teacher would denoise them. What the student makes is never looked at as a
distribution, so it collapses onto modes of the guided teacher: a baseline for the methods that do look.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, VelocityField
from mdtdist.objectives.mdt import with_guidance
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.residual import drive
from mdtdist.objectives.samples import RenoiseOptions, SampleOptions, renoise


@dataclass(frozen=True, kw_only=True)
class SDSConfig:
    """Options of ``sds_loss``; the defaults are the paper's.

    Attributes:
        guidance: weight w of the teacher; None for its own.
        weighting: of the noise residual, "variance", ``t^2``, or "constant" (the paper found both to do).
        renoise: times at which the teacher looks at the samples.
        samples: how the student makes them.
    """

    guidance: float | None = 100.0
    weighting: Literal["variance", "constant"] = "variance"
    renoise: RenoiseOptions = RenoiseOptions()
    samples: SampleOptions = SampleOptions()

    def __post_init__(self) -> None:
        if self.weighting not in ("variance", "constant"):
            raise ValueError(f"weighting is {self.weighting!r}; expected 'variance' or 'constant'")

    @property
    def needs(self) -> frozenset[str]:
        """Nothing beyond student and teacher."""
        return frozenset()

    @property
    def cost(self) -> Cost:
        """A sample, and one look of the teacher."""
        return Cost(student_grad=1, student=self.samples.passes, teacher=1)


@dataclass(frozen=True, kw_only=True)
class SDSLoss:
    """Per-sample loss.

    Attributes:
        loss: half the weighted mean squared direction, see ``score_distillation_loss``.
        t: times of the noisy samples.
    """

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def score_distillation_loss(
    samples: Float[Tensor, "..."],
    teacher: VelocityField,
    noise: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    weighting: Literal["variance", "constant"] = "variance",
) -> Float[Tensor, "B"]:
    """Move samples ``x`` against ``w(t) (eps(x_t, t) - noise)`` with ``x_t = (1 - t) x + t noise`` (Eq. 3).

    On the linear path the noise prediction of a velocity is ``eps = x_t + (1 - t) v``, which makes the residual
    ``(1 - t) (v - (noise - x))``.

    Args:
        samples: of the student; the gradient flows through them, not through ``x_t``.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        noise: standard normal.
        t: times in (0, 1).
        layout: how the samples lie in ``samples``.
        weighting: of the residual, see ``SDSConfig.weighting``.

    Returns:
        ``w mean(residual^2) / 2`` per sample, a value to watch; its gradient is ``w residual`` over the number of
        elements, not that of the value.
    """
    with torch.no_grad():
        x_t = renoise(samples, noise, t, layout=layout)
        time = layout.expand(t, x_t).to(x_t.dtype)
        residual = x_t + (1 - time) * teacher(x_t, t) - noise
    weight = t**2 if weighting == "variance" else torch.ones_like(t)
    return drive(samples, residual, layout=layout, weight=weight)


def sds_loss(
    fields: Fields, latents: Latents, *, config: SDSConfig, generator: torch.Generator, step: int = 0
) -> SDSLoss:
    """Score distillation of the student's samples; of the latents only the shape is used.

    The generator is drawn from in the order samples, t, noise.
    """
    layout = latents.layout
    samples = config.samples.draw(fields.student, latents.x_0, layout=layout, generator=generator)
    t, noise = config.renoise.draw(samples, layout=layout, generator=generator)
    teacher = with_guidance(fields.teacher, config.guidance)
    loss = score_distillation_loss(samples, teacher, noise, t, layout=layout, weighting=config.weighting)
    return SDSLoss(loss=loss, t=t)
