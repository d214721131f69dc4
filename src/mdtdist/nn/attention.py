"""Multi-head attention over dense or packed tokens, with the key layout of the TRELLIS checkpoints."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.nn.norms import MultiHeadRMSNorm
from mdtdist.sparse import (
    AttentionGroups,
    cross_attention,
    dot_product_attention,
    grouped_attention,
    spread_over_rows,
)


@runtime_checkable
class TokenLayout(Protocol):
    """What an attention block must know of how tokens are laid out: dense ``[B, L, ...]`` or packed ``[N, ...]``."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Self-attention of ``[..., H, d]`` heads."""
        ...

    def attend_to(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of ``[..., H, d]`` queries to condition tokens ``[B, L, H, d]``."""
        ...

    def expand(self, values: Tensor) -> Tensor:
        """Per-sample vectors ``[B, C]`` shaped to broadcast over tokens."""
        ...


class DenseTokens:
    """Tokens ``[B, L, C]``: every token of a sample sees all others."""

    def attend(
        self, q: Float[Tensor, "B L H d"], k: Float[Tensor, "B M H d"], v: Float[Tensor, "B M H d"]
    ) -> Float[Tensor, "B L H d"]:
        heads = [x.transpose(1, 2) for x in (q, k, v)]
        return dot_product_attention(*heads).transpose(1, 2)

    attend_to = attend

    def expand(self, values: Float[Tensor, "B C"]) -> Float[Tensor, "B 1 C"]:
        return values[:, None]


@dataclass(frozen=True)
class PackedTokens:
    """Tokens ``[N, C]`` on active voxels: a token sees the rows of its group.

    Attributes:
        groups: who sees whom in self-attention.
        batch: batch index of each row.
        lengths: rows of each batch item.
    """

    groups: AttentionGroups
    batch: Tensor
    lengths: tuple[int, ...]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return grouped_attention(q, k, v, self.groups)

    def attend_to(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return cross_attention(q, k, v, self.lengths)

    def expand(self, values: Float[Tensor, "B C"]) -> Float[Tensor, "N C"]:
        return spread_over_rows(values, self.lengths)


class SelfAttention(nn.Module):
    """Keys ``to_qkv``, ``to_out`` and, with query/key normalisation, ``{q,k}_rms_norm.gamma``."""

    def __init__(self, channels: int, num_heads: int, *, qk_rms_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.q_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "... C"], tokens: TokenLayout) -> Float[Tensor, "... C"]:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        return self.to_out(tokens.attend(self.q_rms_norm(q), self.k_rms_norm(k), v).flatten(-2))


class CrossAttention(nn.Module):
    """Keys ``to_q``, ``to_kv``, ``to_out``; queries are tokens, keys and values come from the condition."""

    def __init__(self, channels: int, cond_channels: int, num_heads: int, *, qk_rms_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(cond_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.q_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "... C"], cond: Float[Tensor, "B L D"], tokens: TokenLayout
    ) -> Float[Tensor, "... C"]:
        q = self.to_q(x).unflatten(-1, (self.num_heads, -1))
        k, v = self.to_kv(cond).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return self.to_out(tokens.attend_to(self.q_rms_norm(q), self.k_rms_norm(k), v).flatten(-2))
