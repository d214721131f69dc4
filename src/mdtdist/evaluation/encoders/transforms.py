"""What happens to a picture before an image tower sees it: background, size, normalisation. Pillow resamples.

The numbers are those of torchvision's ``Resize`` and ``CenterCrop`` on a Pillow image, which the published models used.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """Picture to normalised tensor.

    Attributes:
        resize: the shorter side becomes this many pixels (bicubic with antialiasing).
        crop: pixels a side of the square then cut from the middle.
        mean: subtracted from the colours in [0, 1].
        std: divides them after that.
        background: grey value in [0, 1] under transparent pixels. None drops the transparency, so that the colours
            hidden there appear, as ``convert("RGB")`` does.
    """

    resize: int = 224
    crop: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    background: float | None = 1.0

    def __call__(self, picture: Image.Image) -> Float[Tensor, "3 S S"]:
        """One picture of any mode and size, as the tower wants it."""
        picture = _resize_shorter_side(self._opaque(picture), self.resize)
        left, top = (round((side - self.crop) / 2) for side in picture.size)
        picture = picture.crop((left, top, left + self.crop, top + self.crop))
        values = torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1) / 255
        return (values - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def _opaque(self, picture: Image.Image) -> Image.Image:
        if self.background is None or not picture.has_transparency_data:
            return picture.convert("RGB")
        rgba = picture.convert("RGBA")
        below = Image.new("RGBA", rgba.size, (round(255 * self.background),) * 3 + (255,))
        return Image.alpha_composite(below, rgba).convert("RGB")


def to_pictures(pictures: Float[Tensor, "B 3 H W"]) -> list[Image.Image]:
    """Display-referred colours in [0, 1], rounded to 8 bits as in a file."""
    values = (255 * pictures.detach().clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(value) for value in values]


def _resize_shorter_side(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    shorter = min(width, height)
    if shorter == size:
        return picture
    scaled = (int(size * width / shorter), int(size * height / shorter))  # the longer side is cut off, not rounded
    return picture.resize(scaled, Image.Resampling.BICUBIC)
