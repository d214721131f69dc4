"""Parts of vision transformers, under the names that public checkpoints use."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


def attend(
    q: Float[Tensor, "B L C"], k: Float[Tensor, "B L C"], v: Float[Tensor, "B L C"], *, num_heads: int
) -> Float[Tensor, "B L C"]:
    """Softmax attention with the scale ``head_dim ** -0.5``; heads are contiguous blocks of channels."""
    q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=num_heads) for x in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


class FusedAttention(nn.Module):
    """Self-attention with one projection for query, key and value (timm, DINOv2, PointBERT)."""

    def __init__(self, channels: int, num_heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        return self.proj(attend(*self.qkv(x).chunk(3, -1), num_heads=self.num_heads))


class GeluFeedForward(nn.Module):
    """Two layers with the exact GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        return self.fc2(F.gelu(self.fc1(x)))
