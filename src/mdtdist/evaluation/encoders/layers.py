"""Transformer parts that several evaluation networks share, under the names that their checkpoints use."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.nn.vision import attend


class EvaAttention(nn.Module):
    """Self-attention of EVA (Fang et al., 2023): query and value have a bias, the key has none.

    Fused layouts keep the two biases beside one matrix (``q_bias``, ``v_bias``), split ones have three layers.
    """

    def __init__(self, channels: int, num_heads: int, *, fused: bool) -> None:
        super().__init__()
        self.num_heads, self.fused = num_heads, fused
        if fused:
            self.qkv = nn.Linear(channels, 3 * channels, bias=False)
            self.q_bias = nn.Parameter(torch.zeros(channels))
            self.v_bias = nn.Parameter(torch.zeros(channels))
        else:
            self.q_proj = nn.Linear(channels, channels)
            self.k_proj = nn.Linear(channels, channels, bias=False)
            self.v_proj = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        if self.fused:
            q, k, v = self.qkv(x).chunk(3, -1)
            q, v = q + self.q_bias, v + self.v_bias
        else:
            q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.proj(attend(q, k, v, num_heads=self.num_heads))


class PackedGatedFeedForward(nn.Module):
    """SwiGLU (Shazeer, 2020) with gate and value in one layer: the first half is the gate."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 2 * hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        gate, value = self.fc1(x).chunk(2, -1)
        return self.fc2(F.silu(gate) * value)


class NormedGatedFeedForward(nn.Module):
    """SwiGLU with two layers and a norm before the output (EVA-02, Fang et al., 2023)."""

    def __init__(self, channels: int, hidden: int, *, eps: float) -> None:
        super().__init__()
        self.fc1_g = nn.Linear(channels, hidden)
        self.fc1_x = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        return self.fc2(self.norm(F.silu(self.fc1_g(x)) * self.fc1_x(x)))


class PreNormBlock(nn.Module):
    """``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``."""

    def __init__(self, channels: int, attn: nn.Module, mlp: nn.Module, *, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = mlp

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PostNormBlock(PreNormBlock):
    """``x + norm1(attn(x))``, then ``x + norm2(mlp(x))``: residual post-norm (EVA02-E, Sun et al., 2023)."""

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


def embed_patches(conv: nn.Conv2d, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L C"]:
    """Patches in row-major order through a convolution whose stride is its size, applied as a linear layer.

    A GPU may run a convolution in reduced precision (TF32) by default, a matrix product not.
    """
    size = conv.kernel_size[0]
    patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=size, q=size)
    return F.linear(patches, conv.weight.flatten(1), conv.bias)
