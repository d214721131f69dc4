"""Submanifold sparse convolution: output sites are the input sites."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mdtdist.sparse.resample import subdivide
from mdtdist.sparse.subdivided_conv import subdivided_conv3
from mdtdist.sparse.tensor import SparseTensor, voxel_keys

_CPU_ROWS = 2048  # of the gathered matrix [rows, 27 C]; more of them fall out of the cache
_GATHERED_ELEMENTS = 2**27  # of the gathered matrix on other devices, which want few large products
_PRODUCT_ELEMENTS = 2**27  # bounds the products [N, 27, D] of a narrowing convolution


def neighbor_table(coords: Int[Tensor, "N 4"]) -> Int[Tensor, "N 27"]:
    """Row of each voxel's 27 neighbours in (x, y, z) kernel order, z fastest; N where the neighbour is absent."""
    num = len(coords)
    padded = coords.long().clone()
    padded[:, 1:] += 1
    extent = int(padded[:, 1:].max()) + 2 if num else 2
    keys, order = voxel_keys(padded, extent).sort()
    steps = torch.arange(-1, 2, device=coords.device)
    shifts = (steps[:, None, None] * extent**2 + steps[:, None] * extent + steps).flatten()
    wanted = voxel_keys(padded, extent)[:, None] + shifts
    found = torch.searchsorted(keys, wanted).clamp_max(max(num - 1, 0))
    return torch.where(keys[found] == wanted, order[found], num) if num else wanted


def sparse_conv3_plain(
    feats: Float[Tensor, "N C"], weight: Float[Tensor, "D 3 3 3 C"], table: Int[Tensor, "N 27"]
) -> Float[Tensor, "N D"]:
    """Gather and multiply in one expression: the oracle of ``sparse_conv3``."""
    padded = torch.cat([feats, feats.new_zeros(1, feats.shape[1])])
    return padded[table].flatten(1) @ weight.flatten(1, 3).permute(1, 2, 0).flatten(0, 1)


class _SparseConv3(torch.autograd.Function):
    """Gathers again in the backward pass instead of keeping 27 copies of the features or scattering gradients.

    The neighbour relation is symmetric: if q is neighbour k of p, then p is neighbour 26 - k of q. The gradient of the
    input is therefore the same convolution of the gradient of the output with the kernel turned around. In forward mode
    the derivative is the convolution of the derivative.
    """

    @staticmethod
    def forward(feats: Tensor, weight: Tensor, table: Tensor) -> Tensor:
        return _convolve(feats, weight.flatten(1, 3).permute(1, 2, 0), table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        feats, weight, table = inputs
        ctx.save_for_backward(feats, weight, table)
        ctx.save_for_forward(weight, table)  # not feats, which would outlive the backward pass
        ctx.set_materialize_grads(False)  # so that in forward mode a constant weight has None, not zeros

    @staticmethod
    def jvp(ctx: Any, feats: Tensor, weight: Tensor | None, table: None) -> Tensor:
        if weight is not None:
            raise NotImplementedError("the weight of a sparse convolution has no forward-mode derivative")
        return _SparseConv3.apply(feats, *ctx.saved_tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad is None:
            return None, None, None
        feats, weight, table = ctx.saved_tensors
        grad_feats = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_feats = _convolve(grad, weight.flatten(1, 3).flip(1).permute(1, 0, 2), table)
        if ctx.needs_input_grad[1]:
            # The narrower side is the one to gather: sum_p g[p] x[p + o] = sum_q g[q - o] x[q].
            if feats.shape[1] <= grad.shape[1]:
                grad_weight = _correlate(grad, feats, table)
            else:
                grad_weight = _correlate(feats, grad, table.flip(1)).permute(2, 1, 0)
            grad_weight = grad_weight.reshape(weight.shape)
        return grad_feats, grad_weight, None


def _convolve(x: Float[Tensor, "N C"], kernel: Float[Tensor, "27 C D"], table: Int[Tensor, "N 27"]) -> Tensor:
    """Moves 27 rows per voxel, of the input before the product or of the output after it, whichever is narrower."""
    num, (channels, out) = len(x), kernel.shape[1:]
    if channels < 2 * out:
        padded = torch.cat([x, x.new_zeros(1, channels)])
        return torch.cat([_gather(padded, part) @ kernel.flatten(0, 1) for part in table.split(_rows_at_once(x))])
    bags = torch.where(table == num, 27 * num, 27 * table + torch.arange(27, device=table.device))
    width = max(1, _PRODUCT_ELEMENTS // (27 * max(num, 1)))
    parts = []
    for part in kernel.permute(1, 0, 2).split(width, dim=2):
        products = (x @ part.flatten(1)).view(27 * num, -1)
        products = torch.cat([products, products.new_zeros(1, products.shape[1])])
        parts.append(F.embedding_bag(bags, products, mode="sum"))
    return torch.cat(parts, dim=1)


def _correlate(a: Float[Tensor, "N A"], b: Float[Tensor, "N B"], table: Int[Tensor, "N 27"]) -> Float[Tensor, "A 27 B"]:
    """``sum_p a[p] b[table[p, o]]``."""
    padded, num = torch.cat([b, b.new_zeros(1, b.shape[1])]), _rows_at_once(b)
    parts = [rows.T @ _gather(padded, part) for rows, part in zip(a.split(num), table.split(num), strict=True)]
    return torch.stack(parts).sum(0).view(a.shape[1], 27, b.shape[1])


def _rows_at_once(x: Float[Tensor, "N C"]) -> int:
    """Rows of the gathered matrix that are made at the same time."""
    return _CPU_ROWS if x.device.type == "cpu" else max(1, _GATHERED_ELEMENTS // (27 * x.shape[1]))


def _gather(padded: Tensor, table: Tensor) -> Tensor:
    """``padded[table].flatten(1)``; on the CPU ``index_select`` copies whole rows and is five times faster."""
    return padded.index_select(0, table.flatten()).view(len(table), -1)


def sparse_conv3(
    feats: Float[Tensor, "N C"], weight: Float[Tensor, "D 3 3 3 C"], table: Int[Tensor, "N 27"]
) -> Float[Tensor, "N D"]:
    """``y[p] = sum_o W[:, o] x[p + o]`` over the active neighbours, o in {-1, 0, 1}^3; forward and backward."""
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, weight = feats.to(dtype), weight.to(dtype)
    return _SparseConv3.apply(feats, weight, table)


class _ConvParameters(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, kernel_size, kernel_size, kernel_size, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if not self.weight.is_meta:  # normal_ imports torch's compiler there, which takes seconds
            nn.init.normal_(self.weight, std=(in_channels * kernel_size**3) ** -0.5)


class SparseConv3d(nn.Module):
    """Submanifold convolution with kernel size 1 or 3; keys ``conv.weight`` ``[D, k, k, k, C]`` and ``conv.bias``.

    A kernel of size 1 is stored as ``[D, 1, 1, 1, C]`` but read as the same memory block in the shape ``[C, D]``, not
    transposed: that is how the library behind the published checkpoints evaluates it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size is {kernel_size}; expected 1 or 3")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.conv = _ConvParameters(in_channels, out_channels, kernel_size)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if self.kernel_size == 1:
            matrix = self.conv.weight.reshape(self.in_channels, self.out_channels)
            return x.replace(x.feats @ matrix + self.conv.bias)
        y = sparse_conv3(x.feats, self.conv.weight, _neighbors(x))
        return x.replace(y + self.conv.bias.to(y.dtype))

    def on_children(self, x: SparseTensor) -> SparseTensor:
        """``self(subdivide(x))`` at less than a third of the cost; for a kernel of size 3."""
        y = subdivided_conv3(x.feats, self.conv.weight, _neighbors(x))
        return subdivide(x.replace(x.feats[:, :0])).replace(y + self.conv.bias.to(y.dtype))


def _neighbors(x: SparseTensor) -> Int[Tensor, "N 27"]:
    if "neighbors" not in x.cache:
        x.cache["neighbors"] = neighbor_table(x.coords)
    return x.cache["neighbors"]
