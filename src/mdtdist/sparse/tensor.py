"""A batch of sparse voxel grids: one row of features per active voxel."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.errors import InputError


@dataclass(frozen=True)
class SparseTensor:
    """Features on active voxels.

    Rows of one batch item are contiguous and items ascend; the order inside an item changes no result, and outputs
    keep the order of their inputs.

    Attributes:
        feats: ``[N, ...]`` features.
        coords: int32 ``[N, 4]``, columns batch, x, y, z.
        cache: tables derived from ``coords`` (neighbours, windows), shared by all tensors on the same voxels.
    """

    feats: Float[Tensor, "N ..."]
    coords: Int[Tensor, "N 4"]
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.cache:
            return
        if self.coords.ndim != 2 or self.coords.shape[1] != 4:
            raise InputError(f"coords has shape {tuple(self.coords.shape)}; expected [N, 4] (batch, x, y, z)")
        if len(self.feats) != len(self.coords):
            raise InputError(f"feats has {len(self.feats)} rows and coords {len(self.coords)}; expected the same")
        if len(self.coords) and bool((self.coords[1:, 0] < self.coords[:-1, 0]).any()):
            raise InputError("rows of a batch item are not contiguous and ascending; sort the rows by batch index")
        batch = self.coords[:, 0]
        self.cache["lengths"] = tuple(torch.bincount(batch).tolist()) if len(batch) else ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of voxels of each batch item."""
        return self.cache["lengths"]

    @property
    def batch(self) -> Int[Tensor, "N"]:
        """Batch index of each row."""
        return self.coords[:, 0].long()

    def replace(self, feats: Float[Tensor, "N ..."]) -> "SparseTensor":
        """Other features on the same voxels; derived tables are shared."""
        return SparseTensor(feats, self.coords, self.cache)


def spread_over_rows(values: Float[Tensor, "B ..."], lengths: tuple[int, ...]) -> Float[Tensor, "N ..."]:
    """The value of each item, once for every row of it.

    The gradient is a sum over the rows of an item. That of ``values[batch]`` would be added up row after row: on a GPU
    without parallelism inside an item, and in 16 bits rounded every time.
    """
    parts = [value.expand(num, *value.shape) for value, num in zip(values, lengths, strict=True)]
    return torch.cat([values[:0], *parts])


def sum_over_rows(rows: Float[Tensor, "N ..."], lengths: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """The sum over the rows of each item."""
    return torch.cat([rows[:0], *(part.sum(0, keepdim=True) for part in rows.split(list(lengths)))])


def pack_coords(items: list[Int[Tensor, "N 3"]]) -> Int[Tensor, "M 4"]:
    """Voxel lists of several samples as one int32 coordinate table with a batch column."""
    columns = [torch.full((len(item), 1), i, dtype=torch.int32, device=item.device) for i, item in enumerate(items)]
    return torch.cat([torch.cat([c, item.int()], dim=1) for c, item in zip(columns, items, strict=True)])


def voxel_keys(coords: Int[Tensor, "N 4"], extent: int) -> Int[Tensor, "N"]:
    """One integer per voxel, ascending with (batch, x, y, z); coordinates must lie in [0, extent)."""
    b, x, y, z = coords.long().unbind(1)
    return ((b * extent + x) * extent + y) * extent + z
