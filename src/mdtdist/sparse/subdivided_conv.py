"""The 3x3x3 convolution of a grid whose voxels were just split into eight copies, without making the copies."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# Which of an axis' three taps fall on the lower and on the upper of the two parents that a child meets.
_LOWER_CHILD = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))
_UPPER_CHILD = ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_CHILDREN = tuple((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))


def subdivided_neighbors(table: Int[Tensor, "N 27"]) -> Int[Tensor, "8N 27"]:
    """``neighbor_table(subdivide(x).coords)`` from the table of x, without a search; 8 N where absent."""
    num = len(table)
    steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=table.device)] * 3)
    moved = torch.tensor(_CHILDREN, device=table.device)[:, None] + steps  # [8, 27, 3], in halves of a voxel
    parent = _number(moved.div(2, rounding_mode="floor") + 1, 3)
    child = _number(moved % 2, 2)
    neighbor = table[:, parent.flatten()].view(num, 8, 27)
    return torch.where(neighbor < num, 8 * neighbor + child, 8 * num).view(8 * num, 27)


def subdivided_conv3(
    feats: Float[Tensor, "N C"], weight: Float[Tensor, "D 3 3 3 C"], table: Int[Tensor, "N 27"]
) -> Float[Tensor, "8N D"]:
    """``sparse_conv3`` of the subdivided features, in the row order of ``subdivide``; forward and backward.

    A child meets only 2x2x2 parents with its 27 taps, so the taps that meet the same parent are added up first: 64
    products per parent instead of 216.

    Args:
        feats: features of the parents.
        weight: kernel on the grid of the children.
        table: ``neighbor_table`` of the parents.
    """
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, weight = feats.to(dtype), weight.to(dtype)
    return _Convolution.apply(feats, _parent_kernels(weight), table)


def _parent_kernels(weight: Float[Tensor, "D 3 3 3 C"]) -> Float[Tensor, "8 C 8 D"]:
    """Per child the kernel over its 2x2x2 parents."""
    sums = weight.new_tensor([_LOWER_CHILD, _UPPER_CHILD])
    kernels = torch.einsum("dxyzc,iax,jby,kez->ijkcabed", weight, sums, sums, sums)
    return kernels.reshape(8, weight.shape[4], 8, weight.shape[0])


def _number(digits: Int[Tensor, "... 3"], base: int) -> Int[Tensor, "..."]:
    return (digits[..., 0] * base + digits[..., 1]) * base + digits[..., 2]


def _parents(child: int, device: torch.device) -> Int[Tensor, "8"]:
    """Columns of the neighbour table: the 2x2x2 parents that a child meets, in ascending order."""
    return _number(torch.tensor(_CHILDREN, device=device) + torch.tensor(_CHILDREN[child], device=device), 3)


class _Convolution(torch.autograd.Function):
    """One child at a time, which bounds the memory to eight products per voxel."""

    @staticmethod
    def forward(ctx: Any, feats: Tensor, kernels: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(feats, kernels, table)
        num, out = len(feats), kernels.shape[3]
        taps = torch.arange(8, device=table.device)
        children = []
        for child, kernel in enumerate(kernels):
            neighbor = table[:, _parents(child, table.device)]
            bags = torch.where(neighbor < num, 8 * neighbor + taps, 8 * num)
            products = (feats @ kernel.flatten(1)).view(8 * num, out)
            products = torch.cat([products, products.new_zeros(1, out)])
            children.append(F.embedding_bag(bags, products, mode="sum"))
        return torch.stack(children, dim=1).view(8 * num, out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        feats, kernels, table = ctx.saved_tensors
        num, out = len(feats), kernels.shape[3]
        grad_feats, grad_kernels = torch.zeros_like(feats), []
        for child, kernel in enumerate(kernels):
            # If q is neighbour k of p, then p is neighbour 26 - k of q: the parents that a voxel's products went to.
            neighbor = table[:, 26 - _parents(child, table.device)]
            rows = torch.cat([grad.view(num, 8, out)[:, child], grad.new_zeros(1, out)])
            products = rows.index_select(0, neighbor.flatten()).view(num, 8 * out)
            grad_feats += products @ kernel.flatten(1).T
            grad_kernels.append((feats.T @ products).view_as(kernel))
        return grad_feats, torch.stack(grad_kernels), None
