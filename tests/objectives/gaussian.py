"""A teacher known in closed form: data N(mean, std^2 I) under the linear path, in any layout."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mdtdist.flow import DenseLayout, Layout, VelocityField


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    mean: float | Tensor = 0.7
    std: float = 0.5
    layout: Layout = field(default_factory=lambda: DenseLayout(6))

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The marginal velocity: ``E[z - x_0 | x_t = x]``."""
        t = self.layout.expand(t, x)
        gain = (t - (1 - t) * self.std**2) / self._variance(t)
        return gain * (x - (1 - t) * self.mean) - self.mean

    def endpoint(self, x: Tensor, t: Tensor) -> Tensor:
        """Where the trajectory through ``(x, t)`` ends at time 0."""
        t = self.layout.expand(t, x)
        return self.mean + self.std / self._variance(t).sqrt() * (x - (1 - t) * self.mean)

    def phi(self, x: Tensor, t: Tensor) -> Tensor:
        """The average velocity from ``t`` to 0: the ideal student."""
        return (x - self.endpoint(x, t)) / self.layout.expand(t, x)

    def average_velocity(self, x: Tensor, t: Tensor, *, r: Tensor) -> Tensor:
        """The average velocity from ``t`` down to ``r``: ``(x - x_r) / (t - r)``, without dividing by zero."""
        t, r = self.layout.expand(t, x), self.layout.expand(r, x)
        s_t, s_r = self._variance(t).sqrt(), self._variance(r).sqrt()
        # x_r = (1 - r) mean + s_r / s_t (x - (1 - t) mean), and s_t^2 - s_r^2 has the factor t - r.
        gain = (t + r - (2 - t - r) * self.std**2) / (s_t * (s_t + s_r))
        return gain * (x - (1 - t) * self.mean) - self.mean

    def _variance(self, t: Tensor) -> Tensor:
        return (1 - t) ** 2 * self.std**2 + t**2


def latents(layout: Layout, *, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random float64 states ``[rows, 3]`` and times in [0.3, 0.95]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    t = 0.3 + 0.65 * torch.rand(layout.num_samples, generator=generator, dtype=torch.float64)
    return x, t


def constant_field(field_: VelocityField, offset: Tensor) -> VelocityField:
    """A field plus a constant."""
    return lambda x, t: field_(x, t) + offset


class Network(torch.nn.Module):
    """A small random network ``v(x, t)`` on rows of three numbers."""

    def __init__(self, layout: Layout, *, seed: int = 0) -> None:
        super().__init__()
        self.layout = layout
        generator = torch.Generator().manual_seed(seed)
        self.hidden = torch.nn.Parameter(torch.randn(5, 16, generator=generator, dtype=torch.float64) / 2)
        self.out = torch.nn.Parameter(torch.randn(16, 3, generator=generator, dtype=torch.float64) / 4)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.layout.expand(t, x).to(x.dtype).expand(len(x), 1)
        inputs = torch.cat([x, time, torch.ones_like(time)], dim=1)
        return torch.tanh(inputs @ self.hidden.to(x.dtype)) @ self.out.to(x.dtype)
