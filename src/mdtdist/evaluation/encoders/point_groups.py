"""Point clouds as groups of neighbours: what ULIP and Uni3D see of a shape.

Farthest points become centres, the nearest points of each centre a group, and a small PointNet (Qi et al., 2017) turns
each group into one vector. Public code takes the first two from CUDA kernels (pointnet2); this is plain torch on any
device, with direct differences, so that reduced matmul precision cannot change who is a neighbour.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

# The CUDA kernel never chooses a point whose squared distance from the origin is at most this: it takes it for padding.
NEAR_ORIGIN = 1e-3
_SMALLEST_RADIUS = 1e-6


@dataclass(frozen=True)
class PointGroups:
    """Groups of points.

    Attributes:
        centers: [B, G, 3] points chosen as centres.
        features: [B, G, K, 3 or 6] position relative to the centre and, where given, colour as it is.
    """

    centers: Float[Tensor, "B G 3"]
    features: Float[Tensor, "B G K C"]


def normalize_unit_sphere(points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Move the mean of the points to the origin and the farthest of them to distance 1.

    A cloud that is one point (largest distance below 1e-6) becomes zeros.
    """
    centered = points - points.mean(1, keepdim=True)
    radius = centered.norm(dim=-1).amax(1)[:, None, None]
    return torch.where(radius < _SMALLEST_RADIUS, 0.0, centered / radius.clamp_min(_SMALLEST_RADIUS))


def farthest_points(
    points: Float[Tensor, "B N 3"], count: int, *, skip_origin: bool = True
) -> Int[Tensor, "B {count}"]:
    """Rows chosen one after the other, each the farthest from those before; the first is row 0.

    Args:
        points: any unit.
        count: rows to choose.
        skip_origin: never choose a row with ``x^2 + y^2 + z^2 <= 1e-3`` (but for row 0 as the first), as the CUDA
            kernel of the public code does. Scores are comparable only with it; a cloud that lies inside that ball
            collapses to one centre.

    Returns:
        Row numbers, int64. Of equally far rows the first; row 0 again when no row can be chosen.
    """
    nearest = torch.full(points.shape[:2], 1e10, device=points.device, dtype=points.dtype)
    is_skipped = (points.square().sum(-1) <= NEAR_ORIGIN) & skip_origin
    batch = torch.arange(len(points), device=points.device)
    chosen = [torch.zeros_like(batch)]
    for _ in range(count - 1):
        newest = points[batch, chosen[-1]][:, None]
        nearest = torch.minimum(nearest, (points - newest).square().sum(-1))
        chosen.append(nearest.masked_fill(is_skipped, -1.0).argmax(1))
    return torch.stack(chosen, 1)


def nearest_rows(
    points: Float[Tensor, "B N 3"], centers: Float[Tensor, "B G 3"], count: int
) -> Int[Tensor, "B G {count}"]:
    """Rows of the ``count`` points nearest to each centre, in no particular order."""
    items = []
    for item, item_centers in zip(points, centers, strict=True):  # one at a time: [G, N] is large
        squared = sum((item_centers[:, None, axis] - item[None, :, axis]).square() for axis in range(3))
        items.append(squared.topk(count, dim=1, largest=False, sorted=False).indices)
    return torch.stack(items)


def group_points(
    points: Float[Tensor, "B N 3"],
    colors: Float[Tensor, "B N 3"] | None = None,
    *,
    num_groups: int,
    group_size: int,
    skip_origin: bool = True,
) -> PointGroups:
    """Groups around farthest points. Positions are centred and not scaled; colours are neither.

    Args:
        points: float32; at least ``group_size`` of them.
        colors: of the points; None for networks that see positions only.
        num_groups: G.
        group_size: K; a centre is a member of its own group.
        skip_origin: see :func:`farthest_points`.
    """
    batch = torch.arange(len(points), device=points.device)[:, None]
    centers = points[batch, farthest_points(points, num_groups, skip_origin=skip_origin)]
    members = nearest_rows(points, centers, group_size)
    features = points[batch[..., None], members] - centers[:, :, None]
    if colors is not None:
        features = torch.cat([features, colors[batch[..., None], members]], -1)
    return PointGroups(centers, features)


class GroupEncoder(nn.Module):
    """One vector for each group: a PointNet of two stages, each ending in a maximum over the group.

    The 1x1 convolutions of the public layout are applied as linear layers to rows.

    Args:
        in_channels: 3 (positions) or 6 (and colours).
        channels: of the vector.
        batch_statistics: let the batch norms use mean and biased variance of the cloud at hand, as they do in training
            mode, instead of the stored ones. Each cloud is then normalised alone, so a batch equals one by one.
    """

    def __init__(self, in_channels: int, channels: int, *, batch_statistics: bool = False) -> None:
        super().__init__()
        self.batch_statistics = batch_statistics
        self.first_conv = nn.Sequential(
            nn.Conv1d(in_channels, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, channels, 1)
        )

    def forward(self, groups: Float[Tensor, "B G K C"]) -> Float[Tensor, "B G D"]:
        """Vectors of the groups; the order of the members does not matter."""
        members = self._rows(self.first_conv, groups)
        whole = members.amax(2, keepdim=True).expand_as(members)
        return self._rows(self.second_conv, torch.cat([whole, members], -1)).amax(2)

    def _rows(self, layers: Any, x: Float[Tensor, "B G K C"]) -> Float[Tensor, "B G K D"]:
        x = F.linear(x, layers[0].weight[..., 0], layers[0].bias)
        x = torch.stack([self._norm(layers[1], item) for item in x])
        return F.linear(F.relu(x), layers[3].weight[..., 0], layers[3].bias)

    def _norm(self, norm: nn.BatchNorm1d, x: Float[Tensor, "G K C"]) -> Float[Tensor, "G K C"]:
        stored = (None, None) if self.batch_statistics else (norm.running_mean, norm.running_var)
        rows = F.batch_norm(
            rearrange(x, "g k c -> (g k) c"),
            *stored,
            norm.weight,
            norm.bias,
            training=self.batch_statistics,
            eps=norm.eps,
        )
        return rearrange(rows, "(g k) c -> g k c", g=len(x))
