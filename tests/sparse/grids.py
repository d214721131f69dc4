"""Random sparse grids for tests, and their dense twins."""

import torch
from torch import Tensor

from mdtdist.sparse import SparseTensor


def random_grid(
    lengths: tuple[int, ...], *, channels: int, resolution: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64
) -> SparseTensor:
    """Distinct voxels in random row order, ``lengths[i]`` of them in item i, with normal features."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for item, length in enumerate(lengths):
        flat = torch.randperm(resolution**3, generator=generator)[:length]
        x, y, z = flat // resolution**2, flat // resolution % resolution, flat % resolution
        items.append(torch.stack([torch.full_like(x, item), x, y, z], dim=1))
    feats = torch.randn(sum(lengths), channels, generator=generator, dtype=dtype)
    return SparseTensor(feats, torch.cat(items).int())


def dense_twin(x: SparseTensor, resolution: int) -> Tensor:
    """``[B, C, R, R, R]``, zero where no voxel is."""
    dense = x.feats.new_zeros(len(x.lengths), resolution, resolution, resolution, x.feats.shape[1])
    dense[tuple(x.coords.long().T)] = x.feats
    return dense.movedim(-1, 1)


def at_voxels(dense: Tensor, x: SparseTensor) -> Tensor:
    """The rows of a dense grid ``[B, C, R, R, R]`` at the voxels of ``x``."""
    return dense.movedim(1, -1)[tuple(x.coords.long().T)]


def shuffled(x: SparseTensor, *, seed: int = 1) -> tuple[SparseTensor, Tensor]:
    """The same grid with rows permuted inside each item, and the permutation."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.tensor([0, *x.lengths]).cumsum(0).tolist()
    order = torch.cat(
        [start + torch.randperm(n, generator=generator) for start, n in zip(starts, x.lengths, strict=False)]
    )
    return SparseTensor(x.feats[order], x.coords[order]), order


def items(x: SparseTensor) -> list[SparseTensor]:
    """Each batch item as a grid of its own."""
    grids = []
    for feats, coords in zip(x.feats.split(x.lengths), x.coords.split(x.lengths), strict=True):
        coords = coords.clone()
        coords[:, 0] = 0
        grids.append(SparseTensor(feats, coords))
    return grids
