"""Transformer blocks and the sparse residual block."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.nn.attention import CrossAttention, SelfAttention, TokenLayout
from mdtdist.nn.norms import LayerNorm32
from mdtdist.sparse import SparseConv3d, SparseTensor, downsample, spread_over_rows, upsample


class FeedForward(nn.Module):
    """Linear, GELU (tanh approximation), Linear; keys ``mlp.0`` and ``mlp.2``."""

    def __init__(self, channels: int, mlp_ratio: int | float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU("tanh"), nn.Linear(hidden, channels))

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        return self.mlp(x)


class TransformerBlock(nn.Module):
    """``x + Attn(norm1 x)``, then ``x + MLP(norm2 x)``; norms without affine, eps 1e-6."""

    def __init__(
        self, channels: int, num_heads: int, *, mlp_ratio: int | float = 4.0, qk_rms_norm: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=1e-6, elementwise_affine=False)
        self.attn = SelfAttention(channels, num_heads, qk_rms_norm=qk_rms_norm)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Float[Tensor, "... C"], tokens: TokenLayout) -> Float[Tensor, "... C"]:
        x = x + self.attn(self.norm1(x), tokens)
        return x + self.mlp(self.norm2(x))


def modulation(channels: int) -> nn.Sequential:
    """SiLU and Linear to (shift, scale, gate) of attention, then of the MLP; zero at the start of training."""
    linear = nn.Linear(channels, 6 * channels)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


class ModulatedCrossBlock(nn.Module):
    """Self-attention and MLP modulated by time (AdaLN), plain cross-attention to the condition between them."""

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        num_heads: int,
        *,
        mlp_ratio: int | float = 4.0,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        share_mod: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=1e-6)
        self.norm3 = LayerNorm32(channels, eps=1e-6, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, num_heads, qk_rms_norm=qk_rms_norm)
        self.cross_attn = CrossAttention(channels, cond_channels, num_heads, qk_rms_norm=qk_rms_norm_cross)
        self.mlp = FeedForward(channels, mlp_ratio)
        if not share_mod:
            self.adaLN_modulation = modulation(channels)
        self.share_mod = share_mod

    def forward(
        self, x: Float[Tensor, "... C"], mod: Float[Tensor, "B M"], cond: Float[Tensor, "B L D"], tokens: TokenLayout
    ) -> Float[Tensor, "... C"]:
        """``mod`` is the time embedding, or with ``share_mod`` the six modulation vectors of the model."""
        six = mod if self.share_mod else self.adaLN_modulation(mod)
        shift1, scale1, gate1, shift2, scale2, gate2 = tokens.expand(six).chunk(6, dim=-1)
        x = x + gate1 * self.self_attn(self.norm1(x) * (1 + scale1) + shift1, tokens)
        x = x + self.cross_attn(self.norm2(x), cond, tokens)
        return x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)


class SparseResBlock(nn.Module):
    """Time-modulated residual block of two sparse convolutions that may halve or double the resolution first."""

    def __init__(
        self, channels: int, emb_channels: int, out_channels: int, *, down: bool = False, up: bool = False
    ) -> None:
        super().__init__()
        self.down, self.up = down, up
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels, 3)
        self.conv2 = SparseConv3d(out_channels, out_channels, 3)
        nn.init.zeros_(self.conv2.conv.weight)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Linear(channels, out_channels)

    def forward(self, x: SparseTensor, emb: Float[Tensor, "B E"], fine: SparseTensor | None = None) -> SparseTensor:
        """``fine`` gives the voxels to restore when the block doubles the resolution."""
        if self.down:
            x = downsample(x)
        elif self.up:
            assert fine is not None
            x = upsample(x, fine)
        scale, shift = spread_over_rows(self.emb_layers(emb), x.lengths).chunk(2, dim=-1)
        h = self.conv1(x.replace(F.silu(self.norm1(x.feats))))
        h = self.conv2(h.replace(F.silu(self.norm2(h.feats) * (1 + scale) + shift)))
        return h.replace(h.feats + self.skip_connection(x.feats))
