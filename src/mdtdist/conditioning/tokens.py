"""Image tokens of a small frozen encoder: what the flows of the shipped small models are conditioned on."""

import json
import math
import os
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mdtdist.conditioning.efficientnet import load_efficientnet
from mdtdist.errors import InputError
from mdtdist.files import appear_whole

GRID = 7  # cells a side
NUM_TOKENS = GRID * GRID
TOKEN_CHANNELS = 896
_INPUT_SIZE = 224  # pixels, GRID times the largest stride
_EIGENVALUE_FLOOR = 1e-6  # of the largest eigenvalue: below it a direction is rounding noise


class ImageTokenEncoder(nn.Module):
    """Tokens of a 7 x 7 grid over the cropped picture of one object.

    Per cell: EfficientNet-lite0 features of stride 16 (4 x 112 channels) and stride 32 (320), each group normalised
    over its channels; the alpha mask at 56 px (64); the premultiplied colours at 28 px (48); a fixed 2-D position code
    (16). An optional projection (:func:`fit_projection`) whitens the 896 channels and keeps the first ``rank``.

    Args:
        rank: channels after the projection; None leaves the raw tokens.
    """

    mean: Tensor
    components: Tensor
    position: Tensor

    def __init__(self, *, rank: int | None = None) -> None:
        super().__init__()
        self.rank = rank
        self.trunk = load_efficientnet()
        self.register_buffer("position", _position_code(), persistent=False)
        if rank is not None:
            self.register_buffer("mean", torch.zeros(TOKEN_CHANNELS))
            self.register_buffer("components", torch.eye(TOKEN_CHANNELS, rank))

    @property
    def channels(self) -> int:
        """Channels per token."""
        return TOKEN_CHANNELS if self.rank is None else self.rank

    @classmethod
    def with_projection(cls, mean: Float[Tensor, "896"], components: Float[Tensor, "896 R"]) -> "ImageTokenEncoder":
        """An encoder with the projection that :func:`fit_projection` returned."""
        encoder = cls(rank=components.shape[1])
        encoder.mean.copy_(mean)
        encoder.components.copy_(components)
        return encoder

    @torch.no_grad()
    def forward(self, crops: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 49 C"]:
        """Condition tokens; ``crops`` as :func:`raw_tokens` takes them."""
        return self.project(self.raw_tokens(crops))

    @torch.no_grad()
    def raw_tokens(self, crops: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 49 896"]:
        """Tokens before the projection, cells in row-major order.

        Args:
            crops: premultiplied RGBA in [0, 1], display-referred, from ``crop_to_object``.
        """
        rgb, alpha = crops[:, :3], crops[:, 3:]
        resized = F.interpolate(rgb, size=(_INPUT_SIZE, _INPUT_SIZE), mode="bilinear", align_corners=False)
        features = self.trunk(resized)
        groups = [
            _layer_norm(_cells(features[16])),
            _layer_norm(_cells(features[32])),
            2 * _cells(F.interpolate(alpha, size=(8 * GRID, 8 * GRID), mode="area")) - 1,
            2 * _cells(F.interpolate(rgb, size=(4 * GRID, 4 * GRID), mode="area")) - 1,
            self.position.expand(len(crops), -1, -1),
        ]
        return torch.cat(groups, dim=-1)

    def project(self, tokens: Float[Tensor, "*B 896"]) -> Float[Tensor, "*B C"]:
        """Whiten raw tokens; without a projection they are returned as they are."""
        return tokens if self.rank is None else (tokens - self.mean) @ self.components

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path.json`` (class and arguments) and ``path.safetensors`` (the projection; the trunk is shipped)."""
        base = Path(path)
        base.parent.mkdir(parents=True, exist_ok=True)
        tensors = {} if self.rank is None else {"mean": self.mean.cpu(), "components": self.components.cpu()}
        with appear_whole(f"{base}.safetensors") as partial:
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
        with appear_whole(f"{base}.json") as partial:
            partial.write_text(json.dumps({"name": "ImageTokenEncoder", "args": {"rank": self.rank}}, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ImageTokenEncoder":
        """Read what :meth:`save` wrote; ``path`` without a suffix.

        Raises:
            InputError: if a file is missing, or describes another class.
        """
        for suffix in (".json", ".safetensors"):
            if not Path(f"{path}{suffix}").is_file():
                raise InputError(f"{path}{suffix} does not exist; expected the two files of an image token encoder")
        config = json.loads(Path(f"{path}.json").read_text())
        if config.get("name") != cls.__name__:
            raise InputError(f"{path}.json describes {config.get('name')!r}; expected {cls.__name__!r}")
        encoder = cls(**config["args"])
        if encoder.rank is not None:
            tensors = load_file(f"{path}.safetensors")
            encoder.mean.copy_(tensors["mean"])
            encoder.components.copy_(tensors["components"])
        return encoder


def fit_projection(
    tokens: Float[Tensor, "M 896"], *, rank: int = 256
) -> tuple[Float[Tensor, "896"], Float[Tensor, "896 R"]]:
    """Principal component analysis with whitening.

    Args:
        tokens: raw tokens of the training split.
        rank: directions to keep, those of the largest variance.

    Returns:
        ``mean`` and ``components`` such that ``(tokens - mean) @ components`` has uncorrelated channels of unit
        variance, in order of falling variance of the raw direction. Directions of (almost) no variance are not
        blown up: their scale stops at 1e-6 of the largest variance.

    Raises:
        InputError: if there are fewer tokens than directions.
    """
    if len(tokens) <= rank:
        raise InputError(f"a projection to {rank} channels was asked from {len(tokens)} tokens; expected more tokens")
    mean = tokens.mean(0, dtype=torch.float64)
    covariance = torch.zeros(tokens.shape[1], tokens.shape[1], dtype=torch.float64)
    for chunk in tokens.split(65536):  # in chunks: the float64 copy of all tokens can be large
        centred = chunk.double() - mean
        covariance += centred.T @ centred
    variances, directions = torch.linalg.eigh(covariance / (len(tokens) - 1))
    variances, directions = variances.flip(0)[:rank], directions.flip(1)[:, :rank]
    # The sign of an eigenvector is arbitrary; its largest entry is made positive, so that a refit gives the same code.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    components = directions * largest.sign() / variances.clamp_min(_EIGENVALUE_FLOOR * variances[0]).sqrt()
    return mean.float(), components.float()


def _cells(grid: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 49 D"]:
    """Space to depth: the pixels of a cell side by side (channel outermost, then row, then column)."""
    return rearrange(grid, "b c (h p) (w q) -> b (h w) (c p q)", h=GRID, w=GRID)


def _layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


def _position_code() -> Float[Tensor, "1 49 16"]:
    """Sines, then cosines, of the cell centre (x, then y, in [0, 1]) at 1/4, 1/2, 1 and 2 periods over the image."""
    centres = (torch.arange(GRID, dtype=torch.float32) + 0.5) / GRID
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    angles = torch.stack([x, y], -1)[..., None] * math.pi * torch.tensor([0.5, 1.0, 2.0, 4.0])
    return rearrange(torch.stack([angles.sin(), angles.cos()]), "f h w a k -> 1 (h w) (f a k)")
