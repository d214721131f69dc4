"""Guidance distillation (first stage of Meng et al., 2023, arXiv 2210.03142): one evaluation in place of two.

The student takes the guidance weight as an input and answers with the teacher's guided velocity. It is a velocity
still, for as many steps as the teacher takes, at half their cost; where steps and guidance are hard to learn together
(FlashVDM, arXiv 2503.16302) it is what few-step students start from.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField, randn_like
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import Metric, TimeOptions


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Options of ``guidance_loss``; the range of the weights is the paper's.

    Attributes:
        time: distribution of ``t``.
        w_min, w_max: weights are uniform between them; in ``(1 + w) v_cond - w v_neg``, so 0 is no guidance.
        metric: distance of the two velocities.
    """

    time: TimeOptions = TimeOptions()
    w_min: float = 0.0
    w_max: float = 4.0
    metric: Metric = Metric()

    def __post_init__(self) -> None:
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError(f"w_min is {self.w_min} and w_max {self.w_max}; expected 0 <= w_min <= w_max")

    @property
    def needs(self) -> frozenset[str]:
        """A student that takes ``w``."""
        return frozenset({"guidance"})

    @property
    def cost(self) -> Cost:
        """One pass and the teacher's velocity."""
        return Cost(student_grad=1, teacher=1)


@dataclass(frozen=True, kw_only=True)
class GuidanceLoss:
    """Per-sample loss.

    Attributes:
        loss: distance of the two velocities.
        w: the weights drawn.
        t: the times drawn.
    """

    loss: Float[Tensor, "B"]
    w: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def guided_velocity_distance(
    student: VelocityField,
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    w: Float[Tensor, "B"],
    layout: Layout,
    metric: Metric = Metric(),
) -> Float[Tensor, "B"]:
    """``d(u(x_t, t, w), sg v_w(x_t, t))`` per sample (Eq. 2 of the paper, in velocities).

    Args:
        student: velocity ``u(x, t, w=)``.
        teacher: velocity ``v(x, t, w=)`` guided by ``w`` where it is guided at all: outside its interval of times the
            student learns that ``w`` changes nothing. Evaluated without gradients.
        x_t: samples of the marginal at ``t``.
        t: times; 1 is noise.
        w: guidance weights.
        layout: how the samples lie in ``x_t``.
        metric: distance of the two velocities.
    """
    with torch.no_grad():
        v = teacher(x_t, t, w=w)
    return metric.distance(student(x_t, t, w=w).to(x_t.dtype), v.to(x_t.dtype), layout)


def guidance_loss(
    fields: Fields, latents: Latents, *, config: GuidanceConfig, generator: torch.Generator, step: int = 0
) -> GuidanceLoss:
    """The distance of the student to the teacher guided by a weight of each sample's own.

    The generator is drawn from in the order t, w, z.
    """
    x_0, layout, num = latents.x_0, latents.layout, latents.layout.num_samples
    t = config.time.sample(x_0, num, low=0.0, generator=generator)
    w = (config.w_min + (config.w_max - config.w_min) * torch.rand(num, generator=generator)).to(t)
    z = randn_like(x_0, generator=generator)
    x_t = LinearPath().sample(x_0, z, layout.expand(t, x_0))
    loss = guided_velocity_distance(fields.student, fields.teacher, x_t, t, w=w, layout=layout, metric=config.metric)
    return GuidanceLoss(loss=loss, w=w, t=t)
