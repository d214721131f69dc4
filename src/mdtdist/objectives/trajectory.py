"""Trajectory regression: the student jumps from any state of a teacher's trajectory to where that trajectory ended.

Knowledge distillation of a sampler (Luhman and Luhman, 2021, arXiv 2101.02388), over whole trajectories as in CMT
(Hu et al., 2025, arXiv 2509.24526). It needs no derivative, no data beyond the conditions, and no teacher once the
trajectories are there: they are worth keeping. Good as a warm start, and alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import Metric


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """Options of ``trajectory_loss``.

    Attributes:
        p_noise: share of the batch that starts at the noise, the only state a one-step sampler sees; the others start
            at any state but the last, each as likely as the other.
        metric: distance of the two end points.
    """

    p_noise: float = 0.5
    metric: Metric = Metric()

    def __post_init__(self) -> None:
        if not 0 <= self.p_noise <= 1:
            raise ValueError(f"p_noise is {self.p_noise}; expected a share in [0, 1]")

    @property
    def needs(self) -> frozenset[str]:
        """The teacher's states."""
        return frozenset({"trajectory"})

    @property
    def cost(self) -> Cost:
        """One pass; the teacher's samples are not counted, being made once."""
        return Cost(student_grad=1)


@dataclass(frozen=True, kw_only=True)
class TrajectoryLoss:
    """Per-sample loss.

    Attributes:
        loss: distance of the two end points.
        t: time of the state each sample started from.
    """

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def trajectory_loss(
    fields: Fields, latents: Latents, *, config: TrajectoryConfig, generator: torch.Generator, step: int = 0
) -> TrajectoryLoss:
    """``d(x_t - t phi(x_t, t), x)`` with ``x_t`` a state of the teacher's trajectory and ``x`` its last.

    Raises:
        ValueError: if the latents have no trajectory.
    """
    if latents.trajectory is None:
        raise ValueError("trajectory regression needs the teacher's states; the latents have none")
    layout, states = latents.layout, latents.trajectory.states
    # The index of a state for each sample; 0 is the noise.
    index = torch.randint(len(states) - 1, (layout.num_samples,), generator=generator)
    at_noise = torch.rand(layout.num_samples, generator=generator) < config.p_noise
    index = torch.where(at_noise, 0, index).to(states[0].device)
    x_t = states[0]
    for i, state in enumerate(states[1:-1], start=1):
        x_t = torch.where(layout.expand(index == i, state), state, x_t)
    # Half types are too coarse for times and for what is left of a distance.
    dtype = torch.promote_types(x_t.dtype, torch.float32)
    t = torch.tensor(latents.trajectory.times, device=index.device, dtype=dtype)[index]
    endpoint = x_t - layout.expand(t, x_t) * fields.student(x_t, t)
    return TrajectoryLoss(loss=config.metric.distance(endpoint.to(dtype), states[-1].to(dtype), layout), t=t)
