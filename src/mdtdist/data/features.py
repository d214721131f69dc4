"""What the networks are fed: image features per voxel, and the tokens of the condition views."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mdtdist.conditioning import ImageTokenEncoder, crop_to_object
from mdtdist.data.files import cond_path, feature_path, render_folder, voxel_path, write_npz
from mdtdist.data.views import View, read_views
from mdtdist.data.voxelize import voxel_centers
from mdtdist.render.cameras import Camera

STRIDES = {4: 24, 8: 40, 16: 112}  # stride -> channels of EfficientNet-lite0
NUM_CHANNELS = 3 + 1 + sum(STRIDES.values())
_INPUT_SIZE = 224
_BATCH = 4  # pictures at once; on a CPU larger batches fall out of the cache (30 against 20 ms a picture)


def write_features(root: Path, sha256: str, *, resolution: int = 32) -> None:
    """Write the features and the condition tokens of one asset whose voxels and renders are there."""
    with np.load(voxel_path(root, sha256)) as data:
        indices = data["indices"]
    views = read_views(render_folder(root, sha256))
    encoder = _encoder()
    cond_views = [view for view in views if view.is_cond]
    write_npz(cond_path(root, sha256), is_compressed=False, tokens=cond_tokens(cond_views, encoder).half().numpy())
    centers = torch.from_numpy(voxel_centers(indices, resolution=resolution)).float()
    features = voxel_features(centers, views, encoder, tolerance=3**0.5 / resolution)
    write_npz(feature_path(root, sha256), is_compressed=False, indices=indices, patchtokens=features.half().numpy())


@torch.no_grad()
def cond_tokens(views: list[View], encoder: ImageTokenEncoder) -> Float[Tensor, "V 2 49 C"]:
    """Raw tokens per view, of the picture as seen and of its mirror image (the object mirrored in x)."""
    crops = torch.stack([crop_to_object(Image.fromarray(view.rgba)) for view in views])
    tokens = torch.cat([encoder.raw_tokens(part) for part in torch.split(torch.cat([crops, crops.flip(-1)]), _BATCH)])
    return torch.stack(tokens.chunk(2), dim=1)


@torch.no_grad()
def voxel_features(
    centers: Float[Tensor, "N 3"], views: list[View], encoder: ImageTokenEncoder, *, tolerance: float
) -> Float[Tensor, "N C"]:
    """Mean over the views that see a voxel of what the pictures show there.

    Channels: sRGB colour (3, without the black background), fraction of views that see the voxel (1), then
    EfficientNet-lite0 features of strides 4, 8 and 16 (24 + 40 + 112), bilinear, of the whole premultiplied picture.
    A voxel that no view sees gets the mean over all views.

    Args:
        centers: voxel centres, object space.
        tolerance: a voxel is seen if its centre lies at most this far behind the nearest surface, object units.
    """
    rgba = torch.stack([torch.from_numpy(view.rgba) for view in views]).permute(0, 3, 1, 2).float() / 255
    pictures = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    inputs = F.interpolate(pictures[:, :3], size=(_INPUT_SIZE, _INPUT_SIZE), mode="bilinear", align_corners=False)
    parts = [encoder.trunk(part) for part in torch.split(inputs, _BATCH)]
    trunk = {stride: torch.cat([part[stride] for part in parts]) for stride in STRIDES}
    visible = torch.stack([is_visible(centers, view, tolerance=tolerance) for view in views])
    weights = torch.where(visible.any(dim=0), visible, True).float()[..., None]
    points = torch.stack([project_normalized(centers, view.camera) for view in views])
    color, *features = [
        (sample_image(image, points) * weights).sum(0) / weights.sum(0)
        for image in (pictures, *(trunk[stride] for stride in STRIDES))
    ]
    rgb = color[:, :3] / color[:, 3:].clamp_min(1e-3)
    return torch.cat([rgb.clamp(0, 1), visible.float().mean(0)[:, None], *features], dim=1)


def project_normalized(points: Float[Tensor, "N 3"], camera: Camera) -> Float[Tensor, "N 2"]:
    """Image position (x right, y down), -1 and 1 at the outer edges of the picture."""
    return camera.project(points, 2)[0] - 1


def sample_image(images: Float[Tensor, "V C H W"], points: Float[Tensor, "V N 2"]) -> Float[Tensor, "V N C"]:
    """Bilinear samples at positions in [-1, 1]; the nearest edge value outside."""
    sampled = F.grid_sample(images, points[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0].permute(0, 2, 1)


def is_visible(points: Float[Tensor, "N 3"], view: View, *, tolerance: float) -> Bool[Tensor, "N"]:
    """Whether no surface lies more than ``tolerance`` in front of a point, and the point falls into the picture."""
    size = view.depth.shape[0]
    pixels, depth = view.camera.project(points, size)
    column, row = pixels.floor().long().clamp(0, size - 1).unbind(-1)
    surface = torch.from_numpy(view.depth)[row, column]
    is_inside = ((pixels >= 0) & (pixels < size)).all(dim=1) & (depth > 0)
    return is_inside & ((surface == 0) | (depth <= surface + tolerance))


@cache
def _encoder() -> ImageTokenEncoder:
    """One per process."""
    return ImageTokenEncoder().eval()
