"""Sparse-structure VAE: a dense occupancy grid to and from a small dense latent (TRELLIS names and key layout)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.nn import ChannelLayerNorm32, GroupNorm32, narrow, set_torso_dtype


class ResBlock3d(nn.Module):
    """``x + conv2(SiLU(norm2(conv1(SiLU(norm1 x)))))`` with channel LayerNorm, whatever ``norm_type`` says."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.norm1 = ChannelLayerNorm32(channels)
        self.norm2 = ChannelLayerNorm32(out_channels)
        self.conv1 = nn.Conv3d(channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv3d(channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C2 X Y Z"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.skip_connection(x)


class DownsampleBlock3d(nn.Module):
    """Halves the grid with a strided convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 2, stride=2)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C2 X/2 Y/2 Z/2"]:
        return self.conv(x)


class UpsampleBlock3d(nn.Module):
    """Doubles the grid with a convolution and a 3D pixel shuffle (channel outermost, then x, y, z offsets)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C2 2*X 2*Y 2*Z"]:
        return rearrange(self.conv(x), "b (c i j k) x y z -> b c (x i) (y j) (z k)", i=2, j=2, k=2)


def _output_head(norm_type: str, channels: int, out_channels: int) -> nn.Sequential:
    norm = GroupNorm32(32, channels) if norm_type == "group" else ChannelLayerNorm32(channels)
    return nn.Sequential(norm, nn.SiLU(), nn.Conv3d(channels, out_channels, 3, padding=1))


class SparseStructureEncoder(nn.Module):
    """Occupancy ``[B, 1, R, R, R]`` to the mean and log-variance of a latent ``[B, latent_channels, r, r, r]``."""

    def __init__(
        self,
        *,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResBlock3d(width) for _ in range(num_res_blocks)]
            if level < len(channels) - 1:
                blocks.append(DownsampleBlock3d(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        self.middle_block = nn.Sequential(*[ResBlock3d(channels[-1]) for _ in range(num_res_blocks_middle)])
        self.out_layer = _output_head(norm_type, channels[-1], 2 * latent_channels)
        if use_fp16:
            set_torso_dtype(self, torch.float16)

    def forward(self, x: Float[Tensor, "B 1 R R R"]) -> tuple[Float[Tensor, "B C r r r"], Float[Tensor, "B C r r r"]]:
        """Mean and log-variance."""
        h = narrow(self, self.input_layer(x))
        for block in self.blocks:
            h = block(h)
        mean, logvar = self.out_layer(self.middle_block(h).to(x.dtype)).chunk(2, dim=1)
        return mean, logvar


class SparseStructureDecoder(nn.Module):
    """Latent ``[B, latent_channels, r, r, r]`` to occupancy logits ``[B, 1, R, R, R]``; occupied where > 0."""

    def __init__(
        self,
        *,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*[ResBlock3d(channels[0]) for _ in range(num_res_blocks_middle)])
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResBlock3d(width) for _ in range(num_res_blocks)]
            if level < len(channels) - 1:
                blocks.append(UpsampleBlock3d(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        self.out_layer = _output_head(norm_type, channels[-1], out_channels)
        if use_fp16:
            set_torso_dtype(self, torch.float16)

    def forward(self, x: Float[Tensor, "B C r r r"]) -> Float[Tensor, "B 1 R R R"]:
        h = self.middle_block(narrow(self, self.input_layer(x)))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(x.dtype))


def sample_posterior(
    mean: Float[Tensor, "..."], logvar: Float[Tensor, "..."], *, generator: torch.Generator | None = None
) -> Float[Tensor, "..."]:
    """``mean + exp(logvar / 2) eps``."""
    eps = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
    return mean + torch.exp(0.5 * logvar) * eps
