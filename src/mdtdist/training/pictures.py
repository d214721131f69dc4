"""Small pictures of samples, kept with the run."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from mdtdist.files import appear_whole
from mdtdist.render.cameras import orbit_camera
from mdtdist.render.gaussian_rasterizer import render_gaussians
from mdtdist.sparse import SparseTensor

PICTURE_CAMERA = orbit_camera(math.radians(-55), math.radians(20))


def voxel_picture(grid: Bool[Tensor, "R R R"], *, scale: int = 3) -> UInt8[np.ndarray, "H W"]:
    """Front (-Y) and right (+X) view of a grid as depth maps side by side, near is bright."""
    views = []
    for volume in (grid.permute(1, 0, 2), grid.flip(0)):
        depth = torch.where(volume.any(0), volume.float().argmax(0), len(volume)).float()
        shade = torch.where(volume.any(0), 1 - 0.75 * depth / len(volume), 0.0)
        views.append(shade.T.flip(0))
    picture = (255 * torch.cat(views, dim=1)).byte().numpy()
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def save_structure_grid(path: Path, rows: Sequence[Bool[Tensor, "B R R R"]]) -> None:
    """One row of voxel pictures per batch of grids."""
    lines = [np.concatenate([np.pad(voxel_picture(grid), 2) for grid in row], axis=1) for row in rows]
    _save_png(path, np.concatenate(lines))


def save_image_grid(path: Path, rows: Sequence[Sequence[Float[Tensor, "3 H W"]]]) -> None:
    """Rows of display-referred sRGB pictures of one size."""
    lines = [torch.cat(list(row), dim=2) for row in rows]
    pixels = (torch.cat(lines, dim=1).clamp(0, 1) * 255).byte().permute(1, 2, 0)
    _save_png(path, pixels.cpu().numpy())


def _save_png(path: Path, pixels: UInt8[np.ndarray, "H W ..."]) -> None:
    with appear_whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")


def save_latent_grid(
    path: Path, decoder: nn.Module, coords: Int[Tensor, "N 4"], latents: Sequence[Float[Tensor, "N C"]]
) -> dict[str, float]:
    """Render decoded latents, one row each; returns the mean absolute difference between the first and each other."""
    rows = []
    for feats in latents:
        rows.append(
            [
                render_gaussians(gaussians, PICTURE_CAMERA, size=128, background=(1.0, 1.0, 1.0)).color.clamp(0, 1)
                for gaussians in decoder(SparseTensor(feats, coords))
            ]
        )
    save_image_grid(path, rows)
    first = torch.stack(rows[0])
    return {f"render_l1_{i}": (torch.stack(row) - first).abs().mean().item() for i, row in enumerate(rows[1:], 1)}
