"""Pictures of Gaussians for people: turntables, contact sheets and previews."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.render.gaussian_rasterizer import render_gaussians
from mdtdist.representations import Gaussians

FRONT_YAW = -math.pi / 2  # the front of an object is -Y
TRAINED_AT = 128  # image side of the views that the shipped model was trained on, pixels
_FILTER = 0.1  # variance added to splats in training, square pixels
_WHITE = (1.0, 1.0, 1.0)


def turntable(
    gaussians: Gaussians,
    *,
    num_frames: int = 36,
    size: int = 256,
    pitch: float = math.radians(20),
    radius: float = 2.0,
    fov: float = math.radians(40),
    background: tuple[float, float, float] = _WHITE,
    trained_at: int = TRAINED_AT,
) -> UInt8[np.ndarray, "F H W 3"]:
    """One turn of the camera, counter-clockwise seen from above, that starts at the front.

    Args:
        pitch, fov: radians; ``radius`` in object units.
        background: sRGB in [0, 1].
        trained_at: image side, in pixels, at which the Gaussians were trained. Their filter of 0.1 square pixels is
            scaled from there, so that a larger picture shows no gaps.
    """
    yaws = [FRONT_YAW + 2 * math.pi * frame / num_frames for frame in range(num_frames)]
    cameras = [orbit_camera(yaw, pitch, radius=radius, fov=fov) for yaw in yaws]
    return np.stack([_picture(gaussians, camera, size, background, trained_at) for camera in cameras])


def preview(
    gaussians: Gaussians,
    size: int = 512,
    *,
    yaw: float = FRONT_YAW + math.radians(30),
    pitch: float = math.radians(20),
    radius: float = 2.0,
    fov: float = math.radians(40),
    background: tuple[float, float, float] = _WHITE,
    trained_at: int = TRAINED_AT,
) -> UInt8[np.ndarray, "H W 3"]:
    """One picture, by default three-quarters from the front.

    Arguments as for ``turntable``.
    """
    camera = orbit_camera(yaw, pitch, radius=radius, fov=fov)
    return _picture(gaussians, camera, size, background, trained_at)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "H W 3"]] | UInt8[np.ndarray, "F H W 3"], columns: int
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pictures of one size side by side, row by row; what is left of the last row is white.

    Raises:
        InputError: if there are no images or ``columns`` is below 1.
    """
    if len(images) == 0 or columns < 1:
        raise InputError(f"a sheet of {len(images)} images in {columns} columns; expected at least one of both")
    height, width, _ = images[0].shape
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows, columns, height, width, 3), 255, np.uint8)
    sheet.reshape(-1, height, width, 3)[: len(images)] = images
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


@torch.no_grad()
def _picture(
    gaussians: Gaussians, camera: Camera, size: int, background: tuple[float, float, float], trained_at: int
) -> UInt8[np.ndarray, "H W 3"]:
    dilation = _FILTER * (size / trained_at) ** 2
    return _to_uint8(render_gaussians(gaussians, camera, size=size, background=background, dilation=dilation).color)


def _to_uint8(image: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
