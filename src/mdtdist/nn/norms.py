"""Normalisations; all compute in float32 and return the incoming dtype."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm32(nn.LayerNorm):
    """LayerNorm over the last axis, computed in at least float32."""

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        if x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class ChannelLayerNorm32(LayerNorm32):
    """LayerNorm over the channels at each voxel of a dense grid ``[B, C, X, Y, Z]``."""

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GroupNorm32(nn.GroupNorm):
    """GroupNorm over a dense grid, computed in at least float32."""

    def forward(self, x: Float[Tensor, "B C ..."]) -> Float[Tensor, "B C ..."]:
        if x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


class MultiHeadRMSNorm(nn.Module):
    """Query/key normalisation: unit L2 norm per head, times ``sqrt(d)``, times a learned gain.

    The epsilon bounds the L2 norm (1e-12), not the mean square, as the TRELLIS checkpoints expect.
    """

    def __init__(self, head_channels: int, num_heads: int) -> None:
        super().__init__()
        self.scale = head_channels**0.5
        self.gamma = nn.Parameter(torch.ones(num_heads, head_channels))

    def forward(self, x: Float[Tensor, "... H d"]) -> Float[Tensor, "... H d"]:
        wide = x if x.dtype == torch.float64 else x.float()
        return (F.normalize(wide, dim=-1) * self.gamma * self.scale).to(x.dtype)
