"""Time and position embeddings."""

import math

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn


def sinusoid(positions: Num[Tensor, "..."], num_frequencies: int) -> Float[Tensor, "... {num_frequencies}"]:
    """Angles ``p w_i`` with ``w_i = 10000^(-i / num_frequencies)``, the base of both embeddings; at least float32."""
    dtype = torch.promote_types(positions.dtype, torch.float32)
    exponents = torch.arange(num_frequencies, dtype=dtype, device=positions.device) / num_frequencies
    return positions[..., None].to(dtype) * torch.exp(-math.log(10000.0) * exponents)


class TimestepEmbedder(nn.Module):
    """Cosine-sine features of the raw network time (``1000 t`` for TRELLIS) through a two-layer MLP."""

    def __init__(self, channels: int, num_frequencies: int = 128) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * num_frequencies, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B C"]:
        angles = sinusoid(t, self.num_frequencies)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(next(self.mlp.parameters()).dtype))


def absolute_position_embedding(coords: Int[Tensor, "N 3"], channels: int) -> Float[Tensor, "N {channels}"]:
    """Sine then cosine features of raw integer coordinates, axis blocks in order x, y, z, zero-padded at the end."""
    num_frequencies = channels // 3 // 2
    angles = sinusoid(coords, num_frequencies)
    embedding = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return torch.nn.functional.pad(embedding, (0, channels - embedding.shape[1]))


def dense_grid_coords(resolution: int) -> Int[Tensor, "{resolution}**3 3"]:
    """All integer coordinates of a cube in x-major order (z fastest)."""
    axis = torch.arange(resolution)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
