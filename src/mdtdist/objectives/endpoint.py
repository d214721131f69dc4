"""Endpoint regression: the student's one-step sample against the teacher's many-step sample from the same noise.

Knowledge distillation of a sampler (Luhman and Luhman, 2021, arXiv 2101.02388), for one step at t = 1. It needs no
derivative, but a whole teacher trajectory per target, which is why targets are worth keeping.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import EulerSampler, Layout, VelocityField, randn_like


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Options of ``endpoint_loss``.

    Attributes:
        steps: Euler steps of the teacher.
        rescale_t: time warp of these steps.
    """

    steps: int = 12
    rescale_t: float = 3.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class EndpointLoss:
    """Per-sample loss.

    Attributes:
        loss: mean squared distance of the two samples.
        t: the times, all 1.
        targets: the teacher's samples, for keeping.
    """

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]
    targets: Float[Tensor, "..."]


def endpoint_loss(
    student: VelocityField,
    teacher: VelocityField,
    x_0: Float[Tensor, "..."],
    *,
    layout: Layout,
    config: EndpointConfig,
    generator: torch.Generator,
    targets: Float[Tensor, "..."] | None = None,
) -> EndpointLoss:
    """``|| z - phi(z, 1) - x ||^2``, averaged over the elements, with ``x`` the teacher's sample from ``z``.

    Args:
        student: average velocity ``phi(x, t)``.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        x_0: data latents; only their shape and place are used.
        layout: how the samples lie in ``x_0``.
        config: options.
        generator: on the CPU; the noise is all that is drawn.
        targets: the teacher's samples from the noise that this generator draws, from an earlier call.
    """
    noise = randn_like(x_0, generator=generator)
    if targets is None:
        sampler = EulerSampler(steps=config.steps, rescale_t=config.rescale_t)
        with torch.no_grad():
            targets = sampler.sample(teacher, noise, num_samples=layout.num_samples).x.to(x_0.dtype)
    t = torch.ones(layout.num_samples, dtype=torch.float32, device=x_0.device)
    error = noise - student(noise, t) - targets
    return EndpointLoss(loss=layout.mean(error.float() ** 2), t=t, targets=targets)
