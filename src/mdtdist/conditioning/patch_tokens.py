"""Image tokens of a fine grid, partly learned: what the flows of the shipped model ``small`` are conditioned on."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdtdist.conditioning.efficientnet import EfficientNetLite0, load_efficientnet
from mdtdist.errors import InputError
from mdtdist.models.registry import NetworkFiles, write_files
from mdtdist.models.weights import check_fit, read_header, read_tensors

GRID = 14  # cells a side
NUM_TOKENS = GRID * GRID
INPUT_SIZE = 224  # pixels, GRID times the stride of a cell
FIXED_CHANNELS = 80  # rgb 48, alpha 16, position 16
_FROZEN_CHANNELS = 4 * 40 + 112 + 320  # of EfficientNet-lite0 at strides 8, 16 and 32
_NUM_STEM_LAYERS = 4  # each halves the picture: 224 to 14
_POSITION_STD = 0.02  # of the learned position code at the start


class PatchTokenEncoder(nn.Module):
    """Tokens of a 14 x 14 grid over the cropped picture of one object.

    A cell sees frozen EfficientNet-lite0 features of strides 8 (4 x 40 channels), 16 (112) and 32 (320, enlarged
    twice), each group normalised over its channels; what a stem of four convolutions, learned with the flow, makes of
    the picture; and the fixed channels. A linear map of these, a learned position code and a layer norm make all
    channels but the last 80. Those are fixed: premultiplied colours at 56 px (48, channel outermost, then row, then
    column), alpha at 56 px (16), both from -1 to 1, and a 2-D position code (16). So a later stage, trained under the
    frozen encoder of an earlier one, finds the colours whatever that one cared for.

    The frozen trunk goes where the module goes, but none of its tensors is a parameter or in the state dict: it is
    shipped once.

    Args:
        channels: per token; more than 80.
        stem_channels: outputs of the four convolutions of the stem.

    Raises:
        InputError: if there are too few channels, or not four layers of the stem.
    """

    position_code: Tensor
    pixels: Tensor

    def __init__(self, *, channels: int = 320, stem_channels: Sequence[int] = (32, 64, 96, 128)) -> None:
        super().__init__()
        _check(channels, stem_channels)
        self.channels, self.stem_channels = channels, tuple(stem_channels)
        self._trunk = (load_efficientnet(),)  # a tuple hides it from torch
        self.register_buffer("position_code", _position_code(), persistent=False)
        self.register_buffer("pixels", _pixel_coordinates(), persistent=False)
        self.stem = nn.Sequential(*_stem_layers(self.stem_channels))
        learned = channels - FIXED_CHANNELS
        self.mix = nn.Linear(_FROZEN_CHANNELS + FIXED_CHANNELS + self.stem_channels[-1], learned)
        self.position = nn.Parameter(_POSITION_STD * torch.randn(NUM_TOKENS, learned))
        self.norm = nn.LayerNorm(learned)

    @classmethod
    def from_args(cls, args: Mapping[str, Any], *, where: str) -> Self:
        """An encoder of the given arguments, from a file or a config.

        Args:
            args: of the constructor.
            where: what has them, for messages.

        Raises:
            InputError: if they do not fit.
        """
        try:
            return cls(**args)
        except (TypeError, InputError) as err:
            raise InputError(f"{where} does not describe a {cls.__name__}: {err}") from err

    @property
    def trunk(self) -> EfficientNetLite0:
        """The frozen network."""
        return self._trunk[0]

    def forward(self, crops: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 196 C"]:
        """Condition tokens in float32, cells in row-major order.

        Args:
            crops: premultiplied RGBA in [0, 1], display-referred, from ``crop_to_object``; 224 px, or resized to that.
        """
        picture = F.interpolate(crops, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        # What is fixed stays the same whatever the precision of a training.
        with torch.no_grad(), torch.autocast(crops.device.type, enabled=False):
            fixed = self._fixed(crops)
            frozen = self._frozen(picture)
        pixels = self.pixels.expand(len(crops), -1, -1, -1)
        stem = rearrange(self.stem(torch.cat([2 * picture - 1, pixels], 1)), "b c h w -> b (h w) c")
        learned = self.norm(self.mix(torch.cat([frozen, fixed, stem.float()], -1)) + self.position)
        return torch.cat([learned.float(), fixed], -1)

    def _fixed(self, crops: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 196 80"]:
        small = F.interpolate(crops, size=(4 * GRID, 4 * GRID), mode="area")
        return torch.cat([2 * _cells(small) - 1, self.position_code.expand(len(crops), -1, -1)], -1)

    def _frozen(self, picture: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B 196 592"]:
        features = self.trunk(picture[:, :3])
        coarse = F.interpolate(features[32], scale_factor=2, mode="bilinear", align_corners=False)
        groups = [_cells(features[8]), _cells(features[16]), _cells(coarse)]
        return torch.cat([F.layer_norm(group, group.shape[-1:], eps=1e-5) for group in groups], -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``to`` does to a module and the modules in it."""
        self.trunk._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path.json`` (class and arguments) and ``path.safetensors`` (what is learned)."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        args = {"channels": self.channels, "stem_channels": list(self.stem_channels)}
        write_files(NetworkFiles.at(path), {"name": type(self).__name__, "args": args}, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote; ``path`` without a suffix.

        Raises:
            InputError: if a file is missing or damaged, or describes another class.
        """
        files = NetworkFiles.at(Path(path))
        config = files.read_config()
        if config["name"] != cls.__name__:
            raise InputError(f"{files.config} describes {config['name']!r}; expected {cls.__name__!r}")
        with torch.random.fork_rng(devices=[]):  # its random start is replaced at once
            encoder = cls.from_args(config["args"], where=str(files.config))
        expected = encoder.state_dict()
        check_fit(read_header(files.weights), expected, files.weights)
        encoder.load_state_dict(read_tensors(files.weights, {key: value.dtype for key, value in expected.items()}))
        return encoder


def _check(channels: int, stem_channels: Sequence[int]) -> None:
    if channels <= FIXED_CHANNELS:
        raise InputError(f"channels is {channels}; expected more than the {FIXED_CHANNELS} that are fixed")
    if len(stem_channels) != _NUM_STEM_LAYERS or min(stem_channels) < 1:
        raise InputError(f"stem_channels is {list(stem_channels)}; expected {_NUM_STEM_LAYERS} numbers from 1 up")


def _stem_layers(channels: Sequence[int]) -> list[nn.Module]:
    """From RGBA and the place of each pixel to the cells of the grid.

    An even kernel looks as far to the left of a cell as to its right; an odd one with this stride does not.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in zip((6, *channels[:-1]), channels, strict=True):
        convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        layers += [convolution, nn.GroupNorm(math.gcd(8, outputs), outputs), nn.GELU()]
    return layers


def _cells(grid: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 196 D"]:
    """Space to depth: the pixels of a cell side by side (channel outermost, then row, then column)."""
    return rearrange(grid, "b c (h p) (w q) -> b (h w) (c p q)", h=GRID, w=GRID)


def _pixel_coordinates() -> Float[Tensor, "1 2 S S"]:
    """x (to the right) and y (down) of the pixel centres, from -1 to 1 at the edges of the picture."""
    centres = (2 * torch.arange(INPUT_SIZE, dtype=torch.float32) + 1) / INPUT_SIZE - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y])[None]


def _position_code() -> Float[Tensor, "1 196 16"]:
    """Sines, then cosines, of the cell centre (x, then y, in [0, 1]) at 1/4, 1/2, 1 and 2 periods; unit mean square."""
    centres = (torch.arange(GRID, dtype=torch.float32) + 0.5) / GRID
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    angles = torch.stack([x, y], -1)[..., None] * math.pi * torch.tensor([0.5, 1.0, 2.0, 4.0])
    code = math.sqrt(2) * torch.stack([angles.sin(), angles.cos()])
    return rearrange(code, "f h w a k -> 1 (h w) (f a k)")
