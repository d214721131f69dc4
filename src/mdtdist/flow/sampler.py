"""Samplers that integrate a velocity field from noise (t = 1) to data (t = 0)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow.guidance import Guidance, VelocityField
from mdtdist.flow.path import LinearPath
from mdtdist.flow.times import time_grid


@dataclass(frozen=True, kw_only=True)
class SamplerStep:
    """One step of a sampler.

    Attributes:
        t: time before the step.
        t_next: time after the step.
        x: state after the step.
        x_0: data prediction from the (guided) velocity before the step.
        num_evaluations: network evaluations (NFE) of this step, per sample.
    """

    t: float
    t_next: float
    x: Float[Tensor, "..."]
    x_0: Float[Tensor, "..."]
    num_evaluations: int


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The result of a sampler: the final state and the record of its steps."""

    x: Float[Tensor, "..."]
    steps: tuple[SamplerStep, ...]

    @property
    def num_evaluations(self) -> int:
        """Network evaluations (NFE) per sample, guidance included."""
        return sum(step.num_evaluations for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class EulerSampler:
    """Explicit Euler steps, first order, deterministic; one evaluation a step, two where guidance is active.

    Attributes:
        steps: number of steps.
        rescale_t: time warp, see ``flow.rescale_time``.
        guidance: classifier-free guidance; needs a negative field when it is active.
        path: defines the reported data prediction; the step itself does not use ``sigma_min``.
    """

    steps: int
    rescale_t: float = 1.0
    guidance: Guidance = field(default_factory=Guidance)
    path: LinearPath = field(default_factory=LinearPath)

    def sample(
        self,
        velocity: VelocityField,
        noise: Float[Tensor, "..."],
        *,
        num_samples: int,
        negative: VelocityField | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
    ) -> Trajectory:
        """Integrate from ``noise`` at t = 1 to t = 0.

        Args:
            velocity: conditional field ``v(x, t)``.
            noise: initial state, dense or packed.
            num_samples: samples in the batch; the field gets a time for each, float32.
            negative: field under the negative condition.
            callback: called after every step, for progress.

        Raises:
            ValueError: if guidance is active somewhere and ``negative`` is missing.
        """
        x, steps = noise, []
        times = time_grid(self.steps, rescale_t=self.rescale_t).tolist()
        for t, t_next in zip(times[:-1], times[1:], strict=True):
            v, num_evaluations = self._velocity(velocity, negative, x, t, num_samples)
            x_0 = self.path.x_0_from_velocity(x, v, torch.as_tensor(t, dtype=x.dtype, device=x.device))
            x = x - (t - t_next) * v
            steps.append(SamplerStep(t=t, t_next=t_next, x=x, x_0=x_0, num_evaluations=num_evaluations))
            if callback is not None:
                callback(steps[-1])
        return Trajectory(x=x, steps=tuple(steps))

    def _velocity(
        self, velocity: VelocityField, negative: VelocityField | None, x: Tensor, t: float, num_samples: int
    ) -> tuple[Tensor, int]:
        batch_t = torch.full((num_samples,), t, dtype=torch.float32, device=x.device)
        v_cond = velocity(x, batch_t)
        if not self.guidance.is_active(t):
            return v_cond, 1
        if negative is None:
            raise ValueError(f"guidance w = {self.guidance.w} needs a negative velocity field; none was given")
        return self.guidance.combine(v_cond, negative(x, batch_t)), 2
