"""Boxes as model files, a protocol that measures them in no time, and a network for it."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

NAMES = ("box", "plank", "post", "slab")
EXTENTS = {"box": (1.0, 0.8, 0.6), "plank": (1.0, 0.3, 0.2), "post": (0.2, 1.0, 0.3), "slab": (0.9, 0.1, 1.0)}

PROTOCOL = """
id = "small"
title = "boxes"
objects = "boxes"
metrics = ["fd_efficientnet", "kd_efficientnet", "clip", "chamfer", "f_score", "normal_consistency", "iou", "psnr",
           "ssim", "psnr_normal", "ssim_normal", "coverage", "diversity"]

[[networks]]
name = "efficientnet"

[pictures]
size = 24
background = 1.0
frechet = { yaws = [0, -90] }
clip = { yaws = [0] }

[points]
size = 24
count = 300
tau = 0.1
iou_resolution = 8
rings = [{ yaws = [0, 90, 180, 270], radius = 2.6 }]

[bootstrap]
resamples = 20
frechet_resamples = 5
"""


def write_box(path: Path, name: str, *, grow: float = 1.0, color: tuple[int, int, int] | None = (200, 60, 30)) -> Path:
    """A box on the axes of the file, its longest side 1 or scaled by ``grow``; in one half another colour."""
    mesh = trimesh.creation.box(extents=np.array(EXTENTS[name]) * grow).subdivide()
    if color is not None:
        colors = np.full((len(mesh.vertices), 4), 255, np.uint8)
        colors[:, :3] = np.where(mesh.vertices[:, :1] > 0, color, (20, 90, 220))
        mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh.export(path)
    return path


def write_boxes(folder: Path, *, suffix: str = ".glb", names: tuple[str, ...] = NAMES, **options: object) -> Path:
    """One file per name."""
    for name in names:
        write_box(folder / f"{name}{suffix}", name, **options)  # type: ignore[arg-type]
    return folder


def write_images(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """A condition picture per name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGBA", (20, 20), (200, 60, 30, 255)).save(folder / f"{name}.png")
    return folder


def write_protocol(folder: Path, text: str = PROTOCOL) -> Path:
    """The protocol as a file."""
    path = folder / "small.toml"
    path.write_text(text)
    return path


class ColorNetwork:
    """The mean colour of a picture, and how it varies."""

    name, channels = "mean-colour-1", 6

    def __call__(self, pictures):
        return torch.cat([pictures.mean((2, 3)), pictures.std((2, 3))], dim=1)
