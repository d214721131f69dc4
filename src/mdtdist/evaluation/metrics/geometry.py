"""Agreement of voxel shapes: intersection over union, F1 at a distance, Chamfer distance."""

import numpy as np
import torch
from jaxtyping import Bool
from scipy.ndimage import distance_transform_edt
from torch import Tensor


def voxel_iou(a: Bool[Tensor, "R R R"], b: Bool[Tensor, "R R R"]) -> float:
    """Intersection over union of occupied voxels; 1 when both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def surface_distances(a: Bool[Tensor, "R R R"], b: Bool[Tensor, "R R R"]) -> np.ndarray:
    """Distance from every occupied voxel of ``a`` to the nearest of ``b``, in voxels between centres.

    An empty ``b`` counts as the diagonal of the grid away.
    """
    inside = a.cpu().numpy()
    if not bool(b.any()):
        return np.full(int(inside.sum()), np.sqrt(3.0) * len(a))
    return distance_transform_edt(~b.cpu().numpy())[inside]


def surface_f1(a: Bool[Tensor, "R R R"], b: Bool[Tensor, "R R R"], *, distance: float = 1.0) -> float:
    """Harmonic mean of the shares of ``a`` within ``distance`` voxels of ``b`` and of ``b`` within it of ``a``.

    1 when both are empty, 0 when one is.
    """
    to_b, to_a = surface_distances(a, b), surface_distances(b, a)
    if not (len(to_b) and len(to_a)):
        return float(len(to_b) == len(to_a))
    precision, recall = float((to_b <= distance).mean()), float((to_a <= distance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def chamfer_distance(a: Bool[Tensor, "R R R"], b: Bool[Tensor, "R R R"]) -> float:
    """Mean of the two mean nearest distances, in object units (the cube has side 1); 1 when only one is empty."""
    to_b, to_a = surface_distances(a, b), surface_distances(b, a)
    if not (len(to_b) and len(to_a)):
        return float(len(to_b) != len(to_a))
    return float(to_b.mean() + to_a.mean()) / 2 / len(a)


def downsample_grid(a: Bool[Tensor, "R R R"]) -> Bool[Tensor, "R/2 R/2 R/2"]:
    """Half the resolution: occupied where any of the eight children is."""
    return torch.nn.functional.max_pool3d(a[None, None].float(), 2)[0, 0] > 0
