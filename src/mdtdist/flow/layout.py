"""How the samples of a batch are laid out in a plain tensor.

Objectives and time schedules see a latent as a tensor plus one of these; nothing else tells dense from sparse.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Layout(Protocol):
    """Per-sample operations on a batch of latents."""

    @property
    def num_samples(self) -> int: ...

    def expand(self, values: Float[Tensor, "B"], like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Per-sample values shaped to broadcast against ``like``."""
        ...

    def mean(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        """Mean over all elements of each sample."""
        ...

    def rms(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        """Root mean square over all elements of each sample: a norm that does not grow with the sample."""
        ...

    def norm(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        """Euclidean norm over all elements of each sample."""
        ...


def randn_like(x: Float[Tensor, "..."], *, generator: torch.Generator | None = None) -> Float[Tensor, "..."]:
    """Standard normal noise shaped like ``x``, drawn on the device of the generator: a seed means the same anywhere."""
    device = generator.device if generator is not None else x.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


@dataclass(frozen=True)
class DenseLayout:
    """One sample per row: latents ``[B, ...]``."""

    num_samples: int

    def expand(self, values: Float[Tensor, "B"], like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return values.reshape(-1, *[1] * (like.ndim - 1))

    def mean(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        return x.flatten(1).mean(1)

    def rms(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        return self.mean(x**2).sqrt()

    def norm(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        return x.flatten(1).norm(dim=1)


@dataclass(frozen=True)
class PackedLayout:
    """Rows of one sample contiguous: latents ``[N, ...]`` with ``lengths[i]`` rows of sample ``i``."""

    lengths: tuple[int, ...]

    @property
    def num_samples(self) -> int:
        return len(self.lengths)

    def row_samples(self, device: torch.device) -> Int[Tensor, "N"]:
        """The sample index of each row."""
        lengths = torch.tensor(self.lengths, device=device)
        return torch.repeat_interleave(torch.arange(len(self.lengths), device=device), lengths)

    def expand(self, values: Float[Tensor, "B"], like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return values[self.row_samples(like.device)].reshape(-1, *[1] * (like.ndim - 1))

    def mean(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        return self._sum(x) / (x.new_tensor(self.lengths) * math.prod(x.shape[1:]))

    def rms(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        return self.mean(x**2).sqrt()

    def norm(self, x: Float[Tensor, "..."]) -> Float[Tensor, "B"]:
        return self._sum(x**2).sqrt()

    def _sum(self, x: Tensor) -> Tensor:
        rows = x.flatten(1).sum(1)
        return rows.new_zeros(self.num_samples).index_add(0, self.row_samples(x.device), rows)
