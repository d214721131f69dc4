"""Where to keep one value per grid point when only a thin part of the grid is in use."""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

_BITS = 3
_SIDE = 1 << _BITS
_HALO = 2


class PagedGrid:
    """Addresses for the grid points within two steps of given points, in pages of 8^3.

    A *field*, one value per grid point, is then a flat tensor of ``size`` entries, and memory follows the part of the
    grid that is in use. An address costs a few operations on int32, where a sorted list would cost a search.

    Attributes:
        size: number of addresses.
    """

    def __init__(self, points: Int[Tensor, "N 3"]) -> None:
        self._origin = (points.amin(0) if len(points) else points.new_zeros(3)).int() - _HALO
        low = points.int() - self._origin - _HALO
        span = (int(low.max()) if len(points) else 0) + 2 * _HALO + 1
        self._pages_per_axis = (span - 1) // _SIDE + 1
        ends = torch.stack([low, low + 2 * _HALO]) >> _BITS  # a page is longer than the reach, so there are two at most
        used = torch.zeros(self._pages_per_axis**3, dtype=torch.bool, device=points.device)
        for corner in range(8):
            used[self._page_number(*(ends[corner >> axis & 1, :, axis] for axis in range(3))).long()] = True
        self._pages = used.nonzero()[:, 0].int()
        self._places = torch.where(used, used.cumsum(0, dtype=torch.int32) - 1, len(self._pages))
        self.size = len(self._pages) * _SIDE**3

    def addresses(self, points: Int[Tensor, "... 3"]) -> Int[Tensor, "..."]:
        """Address of each point; the points must be within two steps of the points of the grid, along every axis."""
        axes = (points.int() - self._origin).unbind(-1)
        x, y, z = (axis & _SIDE - 1 for axis in axes)
        page = self._page_number(*(axis >> _BITS for axis in axes))
        place = self._places.index_select(0, page.flatten()).view(page.shape)
        return place << 3 * _BITS | x << 2 * _BITS | y << _BITS | z

    def points(self, addresses: Int[Tensor, "M"]) -> Int[Tensor, "M 3"]:
        """The points at some addresses."""
        addresses = addresses.int()
        pages = self._page_coords(self._pages.index_select(0, addresses >> 3 * _BITS))
        inner = torch.stack([addresses >> shift & _SIDE - 1 for shift in (2 * _BITS, _BITS, 0)], dim=1)
        return (pages << _BITS | inner) + self._origin

    def shifted(self, field: Shaped[Tensor, "size"], axis: int, step: int) -> Shaped[Tensor, "size"]:
        """For each address the value one step further up (1) or down (-1) an axis; 0 where there is no address."""
        pages = field.view(-1, _SIDE, _SIDE, _SIDE)
        border = pages.narrow(axis + 1, 0 if step > 0 else _SIDE - 1, 1)
        border = torch.cat([border, torch.zeros_like(border[:1])]).index_select(0, self._next_places(axis, step))
        kept = pages.narrow(axis + 1, 1 if step > 0 else 0, _SIDE - 1)
        return torch.cat([kept, border] if step > 0 else [border, kept], dim=axis + 1).flatten()

    def _next_places(self, axis: int, step: int) -> Int[Tensor, "P"]:
        """Place of the page beside every page; the number of pages where there is none."""
        beside = self._page_coords(self._pages)
        beside[:, axis] += step
        in_range = (beside[:, axis] >= 0) & (beside[:, axis] < self._pages_per_axis)
        number = self._page_number(*beside.unbind(1)).where(in_range, 0)
        return self._places.index_select(0, number).where(in_range, len(self._pages))

    def _page_number(self, x: Int[Tensor, "..."], y: Int[Tensor, "..."], z: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        return (x * self._pages_per_axis + y) * self._pages_per_axis + z

    def _page_coords(self, number: Int[Tensor, "M"]) -> Int[Tensor, "M 3"]:
        n = self._pages_per_axis
        return torch.stack([number // n**2, number // n % n, number % n], dim=1)


class PointRows:
    """Finds the row of a grid point in a list of distinct points.

    Attributes:
        grid: the addresses around the points.
    """

    def __init__(self, points: Int[Tensor, "N 3"]) -> None:
        self.grid = PagedGrid(points)
        rows = torch.arange(len(points), dtype=torch.int32, device=points.device)
        absent = torch.full((self.grid.size,), -1, dtype=torch.int32, device=points.device)
        self._rows = absent.index_copy_(0, self.grid.addresses(points).long(), rows)

    def find(self, points: Int[Tensor, "... 3"]) -> tuple[Int[Tensor, "..."], Bool[Tensor, "..."]]:
        """Row of each point within two steps of the listed ones, and whether it is there; 0 for an absent one."""
        addresses = self.grid.addresses(points)
        rows = self._rows.index_select(0, addresses.flatten()).view(addresses.shape)
        return rows.clamp_min(0).long(), rows >= 0
