"""Group normalisation of sparse grids."""

import torch
from torch import nn

from mdtdist.sparse.tensor import SparseTensor, spread_over_rows, sum_over_rows


class SparseGroupNorm(nn.GroupNorm):
    """Statistics per batch item over (all its voxels) x (the channels of a group); float32 inside."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        rows = x.feats if x.feats.dtype == torch.float64 else x.feats.float()
        rows = rows.unflatten(1, (self.num_groups, -1))
        counts = rows.new_tensor(x.lengths)[:, None] * rows.shape[2]
        mean = sum_over_rows(rows.sum(2), x.lengths) / counts
        centred = rows - spread_over_rows(mean, x.lengths)[..., None]
        variance = sum_over_rows((centred**2).sum(2), x.lengths) / counts
        scale = spread_over_rows(torch.rsqrt(variance + self.eps), x.lengths)
        normed = (centred * scale[..., None]).flatten(1)
        return x.replace((normed * self.weight + self.bias).to(x.feats.dtype))
