"""Figures and pictures of samples that both kinds of data share."""

from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from mdtdist.evaluation.metrics.geometry import surface_f1
from mdtdist.training.pictures import save_structure_grid

_PICTURES = 8


def judge_structures(
    path: Path, occupied: Bool[Tensor, "B R R R"], truth: Bool[Tensor, "B R R R"] | None = None
) -> dict[str, float]:
    """Agreement with the truth where there is one, and the number of voxels; a picture, the truth in its first row."""
    rows = [occupied[:_PICTURES]] if truth is None else [truth[:_PICTURES], occupied[:_PICTURES]]
    save_structure_grid(path, rows)
    figures: dict[str, float] = {}
    if truth is not None:
        union = (occupied | truth).flatten(1).sum(1).clamp_min(1)
        f1 = [surface_f1(a, b) for a, b in zip(occupied, truth, strict=True)]
        figures["iou"] = ((occupied & truth).flatten(1).sum(1) / union).mean().item()
        figures["f1"] = torch.tensor(f1).mean().item()
    return figures | {"voxels": occupied.flatten(1).sum(1).float().mean().item()}
