"""Image features per voxel, fused from many views without asking which of them sees the voxel, as TRELLIS does."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mdtdist.conditioning import load_efficientnet
from mdtdist.conditioning.dinov2 import DinoImageEncoder
from mdtdist.data.features import STRIDES, project_normalized
from mdtdist.data.files import write_npz
from mdtdist.data.sources import Asset
from mdtdist.data.trellis.paths import feature_path, renders_folder, voxel_path
from mdtdist.data.trellis.ply import read_voxels
from mdtdist.data.trellis.renders import read_transforms
from mdtdist.data.trellis.settings import TrellisSettings
from mdtdist.data.voxelize import voxel_centers
from mdtdist.errors import InputError
from mdtdist.models.registry import NetworkFiles
from mdtdist.render.cameras import Camera

_SMALL_SIZE = 224  # pixels, as the small encoder was trained


class FeatureMaps(Protocol):
    """An image encoder whose features have a place in the picture.

    Attributes:
        image_size: pixels a side of the pictures it takes.
    """

    image_size: int

    def __call__(self, pictures: Float[Tensor, "B 4 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Maps that cover the picture, each of its own size; their channels follow each other.

        Args:
            pictures: premultiplied RGBA in [0, 1].
        """
        ...


class DinoMaps:
    """Patch tokens of a DINOv2 network before its final norm (37 x 37 x 1024 for ViT-L/14 at 518 px)."""

    def __init__(self, encoder: DinoImageEncoder) -> None:
        self._encoder, self.image_size = encoder, encoder.image_size

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "B 4 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        trunk = self._encoder.trunk
        tokens = trunk((pictures[:, :3] - self._encoder.mean) / self._encoder.std)[:, trunk.num_prefix_tokens :]
        return [rearrange(tokens, "b (h w) c -> b c h w", h=pictures.shape[-2] // trunk.patch_size)]


class EfficientNetMaps:
    """Colour (3), alpha (1), EfficientNet-lite0 features of strides 4, 8 and 16 (24 + 40 + 112): 180 channels."""

    def __init__(self, *, device: str = "cpu") -> None:
        self._trunk, self.image_size = load_efficientnet().eval().to(device), _SMALL_SIZE

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "B 4 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        maps = self._trunk(pictures[:, :3])
        return [pictures, *(maps[stride] for stride in STRIDES)]


def write_features(asset: Asset, out: Path, settings: TrellisSettings) -> None:
    """``features/<encoder>/<sha256>.npz`` of an asset whose feature views and voxels are there.

    Raises:
        InputError: if its views, voxels or the encoder cannot be read.
    """
    indices = read_voxels(voxel_path(out, asset.sha256), resolution=settings.resolution)
    centers = torch.from_numpy(voxel_centers(indices, resolution=settings.resolution)).float()
    encoder = load_maps(settings.image_encoder, settings.device)
    frames = read_transforms(renders_folder(out, asset.sha256))
    tokens = mean_features(centers.to(settings.device), frames, encoder, batch=settings.feature_batch)
    write_npz(
        feature_path(out, settings.feature_name, asset.sha256), indices=indices, patchtokens=tokens.half().cpu().numpy()
    )


@torch.no_grad()
def mean_features(
    centers: Float[Tensor, "N 3"], frames: Sequence[tuple[Path, Camera]], encoder: FeatureMaps, *, batch: int = 4
) -> Float[Tensor, "N C"]:
    """Mean over all views of the bilinear sample of the feature maps where a voxel's centre is projected to.

    No visibility test; zero where the centre falls outside a picture.

    Args:
        centers: voxel centres, object space.
        frames: picture and camera of every view.
        encoder: makes the maps.
        batch: pictures at once in the encoder.
    """
    total = torch.zeros(())
    for start in range(0, len(frames), batch):
        part = frames[start : start + batch]
        pictures = torch.stack([read_premultiplied(path, size=encoder.image_size) for path, _ in part])
        for maps, (_, camera) in zip(_by_picture(encoder(pictures.to(centers.device))), part, strict=True):
            points = project_normalized(centers, camera)[None, None]
            sampled = [F.grid_sample(one, points, mode="bilinear", align_corners=False)[0, :, 0].T for one in maps]
            total = total + torch.cat(sampled, dim=1)
    return total / len(frames)


def read_premultiplied(path: Path, *, size: int) -> Float[Tensor, "4 S S"]:
    """An RGBA picture resized (Lanczos), then its colour times alpha, and alpha, in [0, 1].

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            rgba = np.array(image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255
    except (OSError, ValueError, SyntaxError) as err:  # as the readers of Pillow have it
        raise InputError(f"the view {path} cannot be read ({err}); render the asset again.") from err
    rgba[..., :3] *= rgba[..., 3:]
    return torch.from_numpy(rgba).permute(2, 0, 1)


@lru_cache(maxsize=1)
def load_maps(path: Path | None, device: str) -> FeatureMaps:
    """One encoder per process: DINOv2 at ``path`` (without suffix), or the small one."""
    if path is None:
        return EfficientNetMaps(device=device)
    return DinoMaps(DinoImageEncoder.load(NetworkFiles.at(path), device=device))


def _by_picture(maps: list[Float[Tensor, "B _ _ _"]]) -> Iterator[list[Float[Tensor, "1 _ _ _"]]]:
    """The maps of a batch, picture by picture."""
    return (list(parts) for parts in zip(*(one.split(1) for one in maps), strict=True))
