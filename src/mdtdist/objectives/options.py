"""Options that methods share: when, how derivatives are taken, how residuals are scaled and measured."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LogitNormalTime, UniformTime


@dataclass(frozen=True, kw_only=True)
class TimeOptions:
    """How training times are drawn.

    Attributes:
        kind: "uniform" or "logit_normal".
        mean, std: parameters of "logit_normal" (TRELLIS and the released MDT-dist trainer: 1 and 1; MeanFlow: -0.4, 1).
        p_noise: share of samples whose time is 1, the only one that a one-step sampler visits.
    """

    kind: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = 1.0
    std: float = 1.0
    p_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("uniform", "logit_normal"):
            raise ValueError(f"kind of time is {self.kind!r}; expected 'uniform' or 'logit_normal'")
        if self.std <= 0:
            raise ValueError(f"std is {self.std}; expected a positive number")
        if not 0 <= self.p_noise <= 1:
            raise ValueError(f"p_noise is {self.p_noise}; expected a share in [0, 1]")

    def sample(self, like: Float[Tensor, "..."], num: int, *, low: float, generator: torch.Generator) -> Tensor:
        """``num`` times in [low, 1], on the device of ``like`` and in at least float32, which half types are too
        coarse for; drawn on the CPU."""
        kind = UniformTime() if self.kind == "uniform" else LogitNormalTime(mean=self.mean, std=self.std)
        t = low + (1 - low) * kind.sample(num, generator=generator)
        t = torch.where(torch.rand(num, generator=generator) < self.p_noise, 1.0, t)
        return t.to(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


@dataclass(frozen=True, kw_only=True)
class DerivativeOptions:
    """How the total derivative of the student along the teacher is taken.

    Attributes:
        kind: "backward" (difference, Eq. 14 of MDT-dist; one more pass), "central" (difference; two more, error of
            second order) or "jvp" (exact, forward-mode; about two).
        delta_t: step of the differences, in units of ``t``; times are drawn from there up for every kind.
    """

    kind: Literal["backward", "central", "jvp"] = "backward"
    delta_t: float = 1e-2

    def __post_init__(self) -> None:
        if self.kind not in ("backward", "central", "jvp"):
            raise ValueError(f"kind of derivative is {self.kind!r}; expected 'backward', 'central' or 'jvp'")
        if not 0 < self.delta_t < 1:
            raise ValueError(f"delta_t is {self.delta_t}; expected a step in (0, 1)")

    @property
    def passes(self) -> int:
        """Passes of the student without gradients."""
        return 1 if self.kind == "backward" else 2


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How a residual is scaled before it becomes a gradient, per sample.

    Attributes:
        kind: "none"; "residual" divides by ``rms(R) + offset``; "derivative" divides the derivative alone by
            ``norm(d phi / dt) + offset``, as the released MDT-dist trainer does. That norm grows with the latent, so
            that the derivative all but vanishes.
        offset: keeps small ones small, in units of velocity.
    """

    kind: Literal["none", "residual", "derivative"] = "none"
    offset: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in ("none", "residual", "derivative"):
            raise ValueError(f"kind of normalization is {self.kind!r}; expected 'none', 'residual' or 'derivative'")
        if self.offset <= 0:
            raise ValueError(f"offset is {self.offset}; expected a positive number")

    def weight(self, residual: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "B"]:
        """The factor on the gradient of each sample; detached."""
        if self.kind != "residual":
            return residual.new_ones(layout.num_samples)
        return 1 / (layout.rms(residual.detach()) + self.offset)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Distance of two latents, per sample.

    Attributes:
        kind: "l2", the mean square, or "huber", ``sqrt(mean square + c^2) - c``: an RMS whose gradient fades below c.
        c: RMS at which "huber" turns from quadratic to linear (a latent of D numbers: the published constants on
            norms, over ``sqrt(D)``).
    """

    kind: Literal["l2", "huber"] = "l2"
    c: float = 1e-3

    def __post_init__(self) -> None:
        if self.kind not in ("l2", "huber"):
            raise ValueError(f"kind of metric is {self.kind!r}; expected 'l2' or 'huber'")
        if self.c <= 0:
            raise ValueError(f"c is {self.c}; expected a positive number")

    def distance(self, a: Float[Tensor, "..."], b: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "B"]:
        """The distance of each pair of samples."""
        square = layout.mean((a - b) ** 2)
        return square if self.kind == "l2" else (square + self.c**2).sqrt() - self.c
