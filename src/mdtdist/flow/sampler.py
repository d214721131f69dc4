"""Samplers that take a velocity field, or a few-step student, from noise (t = 1) to data (t = 0)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow.guidance import Guidance, VelocityField
from mdtdist.flow.layout import randn_like
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
class Sampler(ABC):
    """Steps along a grid of times from 1 to 0; one evaluation a step, two where guidance is active.

    Attributes:
        steps: number of steps.
        rescale_t: time warp, see ``flow.rescale_time``.
        guidance: classifier-free guidance; needs a negative field when it is active.
        path: defines the reported data prediction.
        takes: what the field is told beside ``x`` and ``t``: "interval", the time ``r`` at which its mean velocity is
            to end; "guidance", the weight ``w``, which takes the place of the negative field at every time.
    """

    steps: int
    rescale_t: float = 1.0
    guidance: Guidance = field(default_factory=Guidance)
    path: LinearPath = field(default_factory=LinearPath)
    takes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.takes - {"interval", "guidance"}:
            raise ValueError(f"takes has {sorted(unknown)[0]!r}; expected 'interval' or 'guidance'")

    def sample(
        self,
        velocity: VelocityField,
        noise: Float[Tensor, "..."],
        *,
        num_samples: int,
        negative: VelocityField | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
        generator: torch.Generator | None = None,
    ) -> Trajectory:
        """Go from ``noise`` at t = 1 to t = 0.

        Args:
            velocity: conditional field ``v(x, t)``.
            noise: initial state, dense or packed.
            num_samples: samples in the batch; the field gets a time for each, float32.
            negative: field under the negative condition.
            callback: called after every step, for progress.
            generator: of the noise that a stochastic sampler adds; nothing is drawn by the others.

        Raises:
            ValueError: if guidance is active somewhere and ``negative`` is missing, or noise is and ``generator``.
        """
        x, steps = noise, []
        times = time_grid(self.steps, rescale_t=self.rescale_t).tolist()
        for t, t_next in zip(times[:-1], times[1:], strict=True):
            v, num_evaluations = self._velocity(velocity, negative, x, t, self._end(t_next), num_samples)
            x_0 = self.path.x_0_from_velocity(x, v, torch.as_tensor(t, dtype=x.dtype, device=x.device))
            x = self._step(x, v, t, t_next, generator)
            steps.append(SamplerStep(t=t, t_next=t_next, x=x, x_0=x_0, num_evaluations=num_evaluations))
            if callback is not None:
                callback(steps[-1])
        return Trajectory(x=x, steps=tuple(steps))

    @abstractmethod
    def _step(self, x: Tensor, v: Tensor, t: float, t_next: float, generator: torch.Generator | None) -> Tensor:
        """The state at ``t_next``."""

    @abstractmethod
    def _end(self, t_next: float) -> float:
        """Where the interval ends whose mean velocity the step needs."""

    def _velocity(
        self, velocity: VelocityField, negative: VelocityField | None, x: Tensor, t: float, r: float, num_samples: int
    ) -> tuple[Tensor, int]:
        def per_sample(value: float) -> Tensor:
            return torch.full((num_samples,), value, dtype=torch.float32, device=x.device)

        batch_t = per_sample(t)
        told = {"r": per_sample(r)} if "interval" in self.takes else {}
        if "guidance" in self.takes:
            return velocity(x, batch_t, w=per_sample(self.guidance.w), **told), 1
        v_cond = velocity(x, batch_t, **told)
        if not self.guidance.is_active(t):
            return v_cond, 1
        if negative is None:
            raise ValueError(f"guidance w = {self.guidance.w} needs a negative velocity field; none was given")
        return self.guidance.combine(v_cond, negative(x, batch_t, **told)), 2


@dataclass(frozen=True, kw_only=True)
class EulerSampler(Sampler):
    """Explicit Euler steps, first order, deterministic.

    With a field that takes the interval, a step follows the mean velocity between its two times, and is as exact as the
    field is.
    """

    def _step(self, x: Tensor, v: Tensor, t: float, t_next: float, generator: torch.Generator | None) -> Tensor:
        return x - (t - t_next) * v

    def _end(self, t_next: float) -> float:
        return t_next


@dataclass(frozen=True, kw_only=True)
class ConsistencySampler(Sampler):
    """Jumps to the data, ``x - t phi(x, t)``, and adds new noise for the next time; stochastic from two steps up.

    Algorithm 1 of consistency models (Song et al., 2023, arXiv 2303.01469). For students that know nothing but jumps to
    the data; with one step it is the Euler sampler.
    """

    def _step(self, x: Tensor, v: Tensor, t: float, t_next: float, generator: torch.Generator | None) -> Tensor:
        x_0 = x - t * v
        if t_next == 0:
            return x_0
        if generator is None:
            raise ValueError(f"a consistency sampler of {self.steps} steps adds noise; give it a generator")
        return self.path.sample(x_0, randn_like(x, generator=generator), torch.as_tensor(t_next).to(x))

    def _end(self, t_next: float) -> float:
        return 0.0
