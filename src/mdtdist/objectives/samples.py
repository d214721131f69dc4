"""Samples of the student and their noisy versions: what score distillation and adversarial methods start from."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField, randn_like, time_grid
from mdtdist.objectives.options import TimeOptions


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How the student makes the samples it is judged by.

    Attributes:
        steps: of the sampler the student is trained for. Above 1, a batch starts at one of the ``steps`` times of the
            grid, each as likely as the other, at a state that the student made itself: the backward simulation of DMD2
            (2405.14867).
        simulation: how the student gets to that state, "renoise" as DMD2 samples (the sample, noised afresh) or
            "euler" as ``EulerSampler`` does (no new noise).
        rescale_t: of the time grid.
    """

    steps: int = 1
    simulation: Literal["renoise", "euler"] = "renoise"
    rescale_t: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if self.simulation not in ("renoise", "euler"):
            raise ValueError(f"simulation is {self.simulation!r}; expected 'renoise' or 'euler'")
        if self.rescale_t <= 0:
            raise ValueError(f"rescale_t is {self.rescale_t}; expected a positive factor")

    def draw(
        self, student: VelocityField, like: Float[Tensor, "..."], *, layout: Layout, generator: torch.Generator
    ) -> Float[Tensor, "..."]:
        """Samples shaped like ``like``; a gradient flows through the last call of the student alone.

        With one step ``z - phi(z, 1)``. The generator is drawn from in the order z, where to start, new noises.
        """
        state = randn_like(like, generator=generator)
        times = time_grid(self.steps, rescale_t=self.rescale_t).tolist()
        start = int(torch.randint(self.steps, (), generator=generator)) if self.steps > 1 else 0
        with torch.no_grad():
            for t, t_next in zip(times[:start], times[1 : start + 1], strict=True):
                x = jump(student, state, t, layout=layout)
                # A straight line keeps the noise prediction: Euler's step to t_next ends at the same noise.
                noise = randn_like(like, generator=generator) if self.simulation == "renoise" else _noise(state, x, t)
                state = (1 - t_next) * x + t_next * noise
        return jump(student, state, times[start], layout=layout)

    @property
    def passes(self) -> int:
        """Calls of the student before the last, at most."""
        return self.steps - 1


def jump(student: VelocityField, x_t: Float[Tensor, "..."], t: float, *, layout: Layout) -> Float[Tensor, "..."]:
    """The student's sample ``x_t - t phi(x_t, t)`` from states that are all at time ``t``."""
    dtype = torch.promote_types(x_t.dtype, torch.float32)
    return x_t - t * student(x_t, torch.full((layout.num_samples,), t, device=x_t.device, dtype=dtype))


def _noise(x_t: Tensor, x: Tensor, t: float) -> Tensor:
    """The noise that a straight line from ``x`` through ``x_t`` ends at."""
    return (x_t - (1 - t) * x) / t


@dataclass(frozen=True, kw_only=True)
class RenoiseOptions:
    """The noisy times at which samples are compared.

    Attributes:
        time: their distribution before it is squeezed into [low, high].
        low, high: first and last time. Near 0 the networks tell nothing of the sample as a whole, at 1 they see none
            of it (DreamFusion and DMD2 take 0.02 and 0.98).
    """

    time: TimeOptions = TimeOptions()
    low: float = 0.02
    high: float = 0.98

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high are {self.low} and {self.high}; expected 0 <= low < high <= 1")

    def draw(
        self, like: Float[Tensor, "..."], *, layout: Layout, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "..."]]:
        """Times and noise for samples shaped like ``like``, drawn in that order."""
        t = self.time.sample(like, layout.num_samples, low=0.0, generator=generator)
        return self.low + (self.high - self.low) * t, randn_like(like, generator=generator)


def renoise(
    x: Float[Tensor, "..."], noise: Float[Tensor, "..."], t: Float[Tensor, "B"], *, layout: Layout
) -> Float[Tensor, "..."]:
    """``x_t = (1 - t) x + t noise``; gradients flow to ``x``."""
    return LinearPath().sample(x, noise, layout.expand(t, x).to(x.dtype))
