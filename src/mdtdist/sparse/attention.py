"""Attention among the rows of a sparse batch, through scaled dot-product attention on padded groups."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdtdist.sparse.tensor import SparseTensor


@dataclass(frozen=True)
class AttentionGroups:
    """Rows grouped for unmasked attention inside each group; groups of similar size share one padded call.

    Attributes:
        rows: one ``[groups, length]`` table of row numbers per call, padded with row 0.
        valid: which entries of ``rows`` are real.
        is_padded: which calls have entries that are not.
        places: where each row stands in all tables, flat and one after the other.
    """

    rows: tuple[Int[Tensor, "_ _"], ...]
    valid: tuple[Bool[Tensor, "_ _"], ...]
    is_padded: tuple[bool, ...]
    places: Int[Tensor, "N"]


def group_rows(labels: Int[Tensor, "N"]) -> AttentionGroups:
    """Group equal labels; a call pads its groups to the next power of two, so less than half of it is padding."""
    _, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    order = torch.argsort(inverse, stable=True)
    starts = counts.cumsum(0) - counts
    sizes = torch.ceil(torch.log2(counts.double())).long()
    rows, valid = [], []
    for size in sizes.unique().tolist():
        chosen = (sizes == size).nonzero()[:, 0]
        offsets = torch.arange(int(counts[chosen].max()), device=labels.device)
        mask = offsets < counts[chosen][:, None]
        rows.append(order[(starts[chosen][:, None] + offsets) * mask])
        valid.append(mask)
    is_padded = tuple(not bool(mask.all()) for mask in valid)
    return AttentionGroups(tuple(rows), tuple(valid), is_padded, _places(rows, valid, like=order))


def _places(rows: list[Tensor], valid: list[Tensor], *, like: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    if not rows:
        return like
    places = torch.cat([mask.flatten() for mask in valid]).nonzero()[:, 0]
    return torch.empty_like(like).scatter_(0, torch.cat([table.flatten() for table in rows])[places], places)


def window_labels(coords: Int[Tensor, "N 4"], window: int, shift: int) -> Int[Tensor, "N"]:
    """One label per (batch, window); windows are cubes of ``window`` voxels displaced by ``shift``, not rolled."""
    cells = torch.div(coords[:, 1:].long() + shift, window, rounding_mode="floor")
    extent = int(cells.max()) + 1
    return ((coords[:, 0].long() * extent + cells[:, 0]) * extent + cells[:, 1]) * extent + cells[:, 2]


def batch_groups(x: SparseTensor) -> AttentionGroups:
    """Groups for full attention inside each batch item."""
    if "attention_full" not in x.cache:
        x.cache["attention_full"] = group_rows(x.batch)
    return x.cache["attention_full"]


def window_groups(x: SparseTensor, window: int, shift: int) -> AttentionGroups:
    """Groups for windowed attention."""
    key = ("attention_window", window, shift)
    if key not in x.cache:
        x.cache[key] = group_rows(window_labels(x.coords, window, shift))
    return x.cache[key]


def dot_product_attention(
    q: Float[Tensor, "B H L d"],
    k: Float[Tensor, "B H M d"],
    v: Float[Tensor, "B H M d"],
    mask: Bool[Tensor, "B 1 1 M"] | None = None,
) -> Float[Tensor, "B H L d"]:
    """Softmax attention, scale ``1 / sqrt(d)``.

    On a CPU 16-bit inputs are widened: the backward pass of the 16-bit kernel there is several times slower.
    """
    if q.device.type == "cpu" and q.dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", enabled=False):  # autocast would narrow them again
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def grouped_attention(
    q: Float[Tensor, "N H d"], k: Float[Tensor, "N H d"], v: Float[Tensor, "N H d"], groups: AttentionGroups
) -> Float[Tensor, "N H d"]:
    """Softmax attention, scale ``1 / sqrt(d)``, of every row to all rows of its group.

    Rows are taken by ``index_select``: on a GPU the gradient of ``x[rows]`` goes through equal rows one after the
    other, and all of the padding is row 0.
    """
    outs = []
    for rows, valid, is_padded in zip(groups.rows, groups.valid, groups.is_padded, strict=True):
        heads = [x.index_select(0, rows.flatten()).unflatten(0, rows.shape).transpose(1, 2) for x in (q, k, v)]
        mask = valid[:, None, None, :] if is_padded else None
        outs.append(dot_product_attention(*heads, mask=mask).transpose(1, 2).flatten(0, 1))
    return torch.cat(outs).index_select(0, groups.places)


def cross_attention(
    q: Float[Tensor, "N H d"], k: Float[Tensor, "B L H d"], v: Float[Tensor, "B L H d"], lengths: tuple[int, ...]
) -> Float[Tensor, "N H d"]:
    """Attention of the rows of each batch item to the tokens of that item; an item may have no rows."""
    outs = []
    for rows, keys, values in zip(q.split(list(lengths)), k, v, strict=True):
        heads = [x.transpose(0, 1)[None] for x in (rows, keys, values)]
        outs.append(dot_product_attention(*heads)[0].transpose(0, 1))
    return torch.cat(outs)
