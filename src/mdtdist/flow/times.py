"""Time distributions for training and the time grid for sampling."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class TimeDistribution(Protocol):
    """Draws training times in [0, 1]."""

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "num"]: ...


@dataclass(frozen=True, kw_only=True)
class UniformTime:
    """``t ~ U(0, 1)``, the distribution of Algorithm 1 (Zhou et al., 2025)."""

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "num"]:
        return torch.rand(num, generator=generator)


@dataclass(frozen=True, kw_only=True)
class LogitNormalTime:
    """``t = sigmoid(n)``, ``n ~ Normal(mean, std)``; TRELLIS trains its flows with mean 1 and std 1."""

    mean: float = 1.0
    std: float = 1.0

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "num"]:
        return torch.sigmoid(self.mean + self.std * torch.randn(num, generator=generator))


def rescale_time(t: Float[Tensor, "..."], rescale_t: float) -> Float[Tensor, "..."]:
    """Warp times by ``r t / (1 + (r - 1) t)``: ``r > 1`` spends more steps near the noise end; 0 and 1 stay fixed."""
    return rescale_t * t / (1 + (rescale_t - 1) * t)


def time_grid(num_steps: int, *, rescale_t: float = 1.0) -> Float[Tensor, "{num_steps}+1"]:
    """Sampling times from 1 down to 0 in float64, warped by ``rescale_time``.

    Raises:
        ValueError: if ``num_steps`` is below 1 or ``rescale_t`` is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; expected at least 1")
    if rescale_t <= 0:
        raise ValueError(f"rescale_t is {rescale_t}; expected a positive factor")
    return rescale_time(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), rescale_t)
