"""Group normalisation of sparse grids."""

import torch
from torch import nn

from mdtdist.sparse.tensor import SparseTensor


class SparseGroupNorm(nn.GroupNorm):
    """Statistics per batch item over (all its voxels) x (the channels of a group); float32 inside."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        rows = x.feats if x.feats.dtype == torch.float64 else x.feats.float()
        rows = rows.unflatten(1, (self.num_groups, -1))
        counts = rows.new_tensor(x.lengths)[:, None] * rows.shape[2]
        zeros = rows.new_zeros(len(x.lengths), self.num_groups)
        mean = zeros.index_add(0, x.batch, rows.sum(2)) / counts
        centred = rows - mean[x.batch][..., None]
        variance = zeros.index_add(0, x.batch, (centred**2).sum(2)) / counts
        normed = (centred * torch.rsqrt(variance + self.eps)[x.batch][..., None]).flatten(1)
        return x.replace((normed * self.weight + self.bias).to(x.feats.dtype))
