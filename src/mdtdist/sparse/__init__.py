"""Sparse voxel grids and their operators, in plain torch."""

from mdtdist.sparse.attention import (
    AttentionGroups,
    batch_groups,
    cross_attention,
    dot_product_attention,
    group_rows,
    grouped_attention,
    window_groups,
)
from mdtdist.sparse.conv import SparseConv3d, neighbor_table, sparse_conv3, sparse_conv3_plain
from mdtdist.sparse.norm import SparseGroupNorm
from mdtdist.sparse.resample import downsample, subdivide, upsample
from mdtdist.sparse.tensor import SparseTensor, pack_coords, spread_over_rows, sum_over_rows

__all__ = [
    "AttentionGroups",
    "SparseConv3d",
    "SparseGroupNorm",
    "SparseTensor",
    "batch_groups",
    "cross_attention",
    "dot_product_attention",
    "downsample",
    "group_rows",
    "grouped_attention",
    "neighbor_table",
    "pack_coords",
    "sparse_conv3",
    "sparse_conv3_plain",
    "spread_over_rows",
    "subdivide",
    "sum_over_rows",
    "upsample",
    "window_groups",
]
