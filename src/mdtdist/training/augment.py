"""Changes of condition pictures that a training must not mind: colour, light, framing, cut-out and sharpness.

All functions take premultiplied RGBA crops in [0, 1] and give back such; each sample is changed by draws of its own.
A strength of 0 gives back the crops themselves.
"""

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Crops = Float[Tensor, "B 4 H W"]

# The ranges at strength 1.
_GAIN, _BRIGHTNESS, _CONTRAST, _SATURATION = 0.3, 0.15, 0.4, 0.6
_RAMP = 0.5  # natural logarithm of the light at the brightest edge over that in the middle
_SMALLEST, _LARGEST, _SHIFT = 0.9, 1.15, 0.05  # zoom, and share of the side
_EDGE = 2  # pixels that the cut-out may be too wide or too narrow
_EDGE_CELL = 16  # pixels over which it changes from the one to the other
_NOISE = 0.03  # standard deviation, of the full range
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much the pictures of a training are changed; strengths from 0, as they are, to 1.

    For the structure stage all of them are of use. The latent stage has to learn the colours of the picture: give it a
    much smaller ``color``, about 0.1.

    Attributes:
        color: at 1, a gain of each channel of 0.7 to 1.3, brightness of +-0.15, contrast of 0.6 to 1.4 about the mean
            of the object, saturation of 0.4 to 1.6.
        light: at 1, a smooth fall of the light across the picture, up to 1.6 times at one edge and 0.6 at the other.
        frame: at 1, a zoom of 0.9 to 1.15 and a shift of up to 5 % of the side.
        edge: at 1, a cut-out that is in places up to 2 pixels too wide, filled with a random colour as a bad matting
            leaves it, and in others too narrow.
        blur: at 1, up to a binomial blur of 5 pixels, and noise of a standard deviation of up to 0.03.
    """

    color: float = 0.0
    light: float = 0.0
    frame: float = 0.0
    edge: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        for name, strength in asdict(self).items():
            if not 0 <= strength <= 1:
                raise ValueError(f"{name} is {strength}; expected a strength from 0 to 1")


def augment(crops: Crops, options: Augmentation, *, generator: torch.Generator) -> Crops:
    """All changes with the strengths of ``options``.

    Args:
        crops: premultiplied RGBA in [0, 1], display-referred.
        options: strengths.
        generator: on the CPU. It gives one number, from which all draws follow on the device of the crops: noise of
            every pixel would take longer on the CPU than a step of the training on a GPU.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    local = torch.Generator(crops.device).manual_seed(seed)
    crops = change_frame(crops, options.frame, generator=local)
    crops = change_edge(crops, options.edge, generator=local)
    crops = change_color(crops, options.color, generator=local)
    crops = change_light(crops, options.light, generator=local)
    return change_sharpness(crops, options.blur, generator=local)


def change_color(crops: Crops, strength: float, *, generator: torch.Generator) -> Crops:
    """Contrast about the mean colour of the object, saturation, gain of each channel and brightness; see ``color``."""
    if not strength:
        return crops
    rgb, alpha = crops[:, :3], crops[:, 3:]
    mean = rgb.sum((-2, -1), keepdim=True) / alpha.sum((-2, -1), keepdim=True).clamp_min(1e-6)
    # Of premultiplied colours every constant is a multiple of alpha.
    rgb = mean * alpha + (1 + _spread(crops, strength * _CONTRAST, generator)) * (rgb - mean * alpha)
    grey = torch.einsum("bchw,c->bhw", rgb, rgb.new_tensor(_LUMINANCE))[:, None]
    rgb = grey + (1 + _spread(crops, strength * _SATURATION, generator)) * (rgb - grey)
    gain = 1 + _spread(crops, strength * _GAIN, generator, num=3)
    return _joined(gain * rgb + _spread(crops, strength * _BRIGHTNESS, generator) * alpha, alpha)


def change_light(crops: Crops, strength: float, *, generator: torch.Generator) -> Crops:
    """Colours times a ramp ``exp(a d)``, d from -1 to 1 across the picture in a random direction; see ``light``."""
    if not strength:
        return crops
    angle = math.pi * _spread(crops, 1.0, generator)
    amount = strength * _RAMP * _share(crops, generator)
    y, x = (_centres(size, crops) for size in crops.shape[-2:])
    ramp = amount * (angle.cos() * x + angle.sin() * y[:, None])
    return _joined(crops[:, :3] * ramp.exp(), crops[:, 3:])


def change_frame(crops: Crops, strength: float, *, generator: torch.Generator) -> Crops:
    """Zoom about the middle and shift, bilinear, with nothing around the picture; see ``frame``."""
    if not strength:
        return crops
    zoom = 1 + strength * (_SMALLEST - 1 + (_LARGEST - _SMALLEST) * _share(crops, generator)).flatten()
    shift = 2 * _spread(crops, strength * _SHIFT, generator, num=2).flatten(1)  # the side is 2 long here
    matrix = torch.eye(2, dtype=crops.dtype, device=crops.device) / zoom[:, None, None]
    theta = torch.cat([matrix, -shift[..., None] / zoom[:, None, None]], -1)
    grid = F.affine_grid(theta, list(crops.shape), align_corners=False)
    moved = F.grid_sample(crops, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return _joined(moved[:, :3], moved[:, 3:].clamp(0, 1))


def change_edge(crops: Crops, strength: float, *, generator: torch.Generator) -> Crops:
    """Widen the cut-out in some places, with a fringe of one random colour, and narrow it in others; see ``edge``."""
    if not strength:
        return crops
    rgb, alpha = crops[:, :3], crops[:, 3:]
    size = 2 * _EDGE + 1
    grown = F.max_pool2d(alpha, size, stride=1, padding=_EDGE)
    shrunk = 1 - F.max_pool2d(1 - alpha, size, stride=1, padding=_EDGE)
    field = strength * _share(crops, generator) * _smooth_noise(crops, generator)
    changed = alpha + field.clamp_min(0) * (grown - alpha) + field.clamp_max(0) * (alpha - shrunk)
    kept = (changed / alpha.clamp_min(1e-6)).clamp_max(1)
    fringe = torch.rand(len(crops), 3, 1, 1, generator=generator, device=crops.device)
    return _joined(rgb * kept + fringe * (changed - alpha).clamp_min(0), changed.clamp(0, 1))


def change_sharpness(crops: Crops, strength: float, *, generator: torch.Generator) -> Crops:
    """A share of a binomial blur, and grey noise on the object; see ``blur``."""
    if not strength:
        return crops
    crops = crops + strength * _share(crops, generator) * (_blurred(crops) - crops)
    alpha = crops[:, 3:].clamp(0, 1)
    noise = torch.randn(alpha.shape, generator=generator, device=crops.device)
    return _joined(crops[:, :3] + strength * _NOISE * _share(crops, generator) * noise * alpha, alpha)


def _joined(rgb: Float[Tensor, "B 3 H W"], alpha: Float[Tensor, "B 1 H W"]) -> Crops:
    """Colours cut off where they would no longer be premultiplied ones."""
    return torch.cat([torch.minimum(rgb.clamp_min(0), alpha), alpha], 1)


def _share(crops: Crops, generator: torch.Generator) -> Float[Tensor, "B 1 1 1"]:
    """A uniform number from 0 to 1 for each sample."""
    return torch.rand(len(crops), 1, 1, 1, generator=generator, device=crops.device)


def _spread(crops: Crops, width: float, generator: torch.Generator, *, num: int = 1) -> Float[Tensor, "B n 1 1"]:
    """Uniform numbers from ``-width`` to ``width``."""
    return width * (2 * torch.rand(len(crops), num, 1, 1, generator=generator, device=crops.device) - 1)


def _centres(size: int, crops: Crops) -> Float[Tensor, "S"]:
    """Pixel centres from -1 to 1 at the edges of the picture."""
    return (2 * torch.arange(size, dtype=crops.dtype, device=crops.device) + 1) / size - 1


def _smooth_noise(crops: Crops, generator: torch.Generator) -> Float[Tensor, "B 1 H W"]:
    """From -1 to 1, alike over some pixels."""
    height, width = crops.shape[-2:]
    cells = (len(crops), 1, -(-height // _EDGE_CELL) + 1, -(-width // _EDGE_CELL) + 1)
    coarse = 2 * torch.rand(cells, generator=generator, device=crops.device) - 1
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)


def _blurred(crops: Crops) -> Crops:
    """A binomial filter of 5 pixels, along rows and columns; around the picture there is nothing."""
    kernel = crops.new_tensor(_BINOMIAL).expand(4, 1, 1, -1)
    across = F.conv2d(crops, kernel, padding=(0, 2), groups=4)
    return F.conv2d(across, kernel.mT, padding=(2, 0), groups=4)
