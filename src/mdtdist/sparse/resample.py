"""Changing the resolution of sparse grids by a factor of two."""

import torch
from torch import Tensor

from mdtdist.sparse.subdivided_conv import subdivided_neighbors
from mdtdist.sparse.tensor import SparseTensor, voxel_keys


def downsample(x: SparseTensor) -> SparseTensor:
    """Average pooling onto the grid of half the resolution, dividing by (number of children + 1).

    The extra one is how the published checkpoints were trained. Coarse rows ascend by (batch, x, y, z); the result
    remembers its children for ``upsample``.
    """
    if "coarse" not in x.cache:
        coarse = x.coords.clone()
        coarse[:, 1:] = torch.div(coarse[:, 1:], 2, rounding_mode="floor")
        extent = int(coarse[:, 1:].max()) + 1
        _, parent, counts = torch.unique(voxel_keys(coarse, extent), return_inverse=True, return_counts=True)
        coords = torch.empty(len(counts), 4, dtype=coarse.dtype, device=coarse.device)
        coords[parent] = coarse
        x.cache["coarse"] = SparseTensor(coords.new_zeros(len(coords), 0, dtype=torch.float32), coords), parent, counts
    sites, parent, counts = x.cache["coarse"]
    sums = x.feats.new_zeros(len(counts), *x.feats.shape[1:]).index_add(0, parent, x.feats)
    return sites.replace(sums / (counts + 1).to(sums.dtype)[:, None])


def upsample(x: SparseTensor, fine: SparseTensor) -> SparseTensor:
    """The inverse site map of ``downsample(fine)``: every fine row copies its coarse row.

    Args:
        x: features on the sites of ``downsample(fine)``.
        fine: the tensor that was down-sampled; its voxels and row order are restored.
    """
    _, parent, _ = fine.cache["coarse"]
    return fine.replace(x.feats[parent])


def subdivide(x: SparseTensor) -> SparseTensor:
    """Split each voxel into eight: coordinates ``2 c + (i, j, k)``, children in a row, k fastest, features copied.

    If the neighbours of the voxels are known, those of the children follow from them.
    """
    bits = torch.arange(2, dtype=x.coords.dtype, device=x.coords.device)
    offsets: Tensor = torch.cartesian_prod(bits, bits, bits)
    coords = x.coords.repeat_interleave(8, dim=0)
    coords[:, 1:] = 2 * coords[:, 1:] + offsets.repeat(len(x.coords), 1)
    children = SparseTensor(x.feats.repeat_interleave(8, dim=0), coords)
    if "neighbors" in x.cache:
        children.cache["neighbors"] = subdivided_neighbors(x.cache["neighbors"])
    return children
