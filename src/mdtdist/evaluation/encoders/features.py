"""Feature networks behind Frechet and kernel distances: pictures in, one vector each out.

Distances of two networks, two resizes or two weight files are different quantities; the name of a feature network says
all three and belongs beside every number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdtdist.conditioning import load_efficientnet
from mdtdist.conditioning.dinov2 import IMAGENET_MEAN, IMAGENET_STD, VITL14_REG, DinoVisionTransformer
from mdtdist.conditioning.efficientnet import HEAD_CHANNELS, weights_path
from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import checkpoint_digest, count_blocks, load_exactly, read_checkpoint
from mdtdist.evaluation.encoders.inception import CONVENTIONS, load_inception, to_network

# progress(done, total)

_BATCH = 32  # pictures; larger ones gain nothing on a CPU
_LARGE_BATCH = 8  # of 518 px: a feed-forward layer of ViT-L then holds 0.2 GB
_EFFICIENTNET_SIZE = 224  # pixels, what EfficientNet-lite0 was trained on
_HEAD_WIDTH = 64  # channels of one attention head in every DINOv2
_DINO_SIZES = {(384, 12): "vits14", (768, 12): "vitb14", (1024, 24): "vitl14"}


class FeatureNetwork(Protocol):
    """What a distance needs from a network.

    Attributes:
        name: network, resize and digest of the weights; equal names make comparable numbers.
        channels: length of a feature vector.
    """

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> int: ...

    def __call__(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Features of display-referred sRGB pictures in [0, 1]; works on the network's device and returns to theirs."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """A frozen network with its own way of taking pictures; what ``load_feature_network`` returns.

    Attributes:
        name: network, resize and digest of the weights.
        channels: length of a feature vector.
        network: decides the device.
        extract: from pictures in [0, 1] on that device to features [B, C].
        batch: pictures at a time.
    """

    name: str
    channels: int
    network: nn.Module
    extract: Callable[[Tensor], Tensor]
    batch: int = _BATCH

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Features of sRGB pictures in [0, 1], a batch at a time, in float32 on every device."""
        device = next(self.network.parameters()).device
        # A GPU would round the inputs of convolutions to 10 bits, which moves a distance in its third digit.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            parts = [self.extract(part.to(device)).to(pictures.device) for part in pictures.split(self.batch)]
        return torch.cat(parts) if parts else pictures.new_zeros(0, self.channels)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where the weights of a network are published."""

    file: str
    url: str


SOURCES: Mapping[str, _Source] = {
    "inception": _Source(
        file="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
    ),
    "dinov2": _Source(
        file="dinov2_vitl14_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    ),
    "dinov2_reg": _Source(
        file="dinov2_vitl14_reg4_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth",
    ),
}
NAMES = ("efficientnet", *SOURCES)


def load_feature_network(
    name: str, *, weights: Path | None = None, convention: str = "fidelity", device: torch.device | str = "cpu"
) -> Features:
    """A feature network by name, in evaluation mode.

    Args:
        name: ``efficientnet`` (EfficientNet-lite0, pooled head features, 1280; shipped), ``inception`` (FID Inception,
            2048), ``dinov2`` (ViT-L/14 without registers at 224 px, the primary one of FD_DINOv2) or ``dinov2_reg``
            (with registers at 518 px); of both the class token after the final norm (1024).
        weights: file with the public weights; ``efficientnet`` takes none.
        convention: resize and range of ``inception``, see ``encoders.inception.to_network``; others ignore it.
        device: where the network goes.

    Raises:
        InputError: if the name is unknown, weights are missing (says which file, where it is published, how to pass
            it), are given to a network that has its own, or do not fit.
    """
    if name not in NAMES:
        raise InputError(f"the feature network is {name!r}; expected one of {', '.join(NAMES)}")
    if name == "efficientnet":
        if weights is not None:
            raise InputError(f"weights {weights} are given for 'efficientnet', which brings its own; leave them out")
        return _efficientnet(device)
    if weights is None or not weights.is_file():
        source, found = SOURCES[name], "are not given" if weights is None else f"are not at {weights}"
        raise InputError(
            f"the weights of the feature network '{name}' {found}; download {source.file} from {source.url} "
            f"and pass --weights {name}=FILE"
        )
    if name == "inception":
        return _inception(weights, convention, device)
    return _dinov2(weights, has_registers=name == "dinov2_reg", device=device)


# ------------------------------------------------------------------------------------------------------ the networks


def to_8_bit(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Values 0 to 255 as a picture file would hold them, as float."""
    return (255 * pictures).round().clamp(0, 255)


def _efficientnet(device: torch.device | str) -> Features:
    network = load_efficientnet(device)
    size = (_EFFICIENTNET_SIZE, _EFFICIENTNET_SIZE)

    def extract(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1280"]:
        # As in the benchmark of the shipped model: not rounded to 8 bits, without antialias.
        return network.pooled(F.interpolate(pictures, size=size, mode="bilinear", align_corners=False))

    name = f"efficientnet-lite0-bilinear{_EFFICIENTNET_SIZE}-{checkpoint_digest(weights_path())}"
    return Features(name=name, channels=HEAD_CHANNELS, network=network, extract=extract)


def _inception(weights: Path, convention: str, device: torch.device | str) -> Features:
    if convention not in CONVENTIONS:
        raise InputError(f"the Inception input convention is {convention!r}; expected one of {', '.join(CONVENTIONS)}")
    network = load_inception(weights, device=device)

    def extract(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        return network(to_network(to_8_bit(pictures), convention=convention))["2048"]

    name = f"inception-v3-{convention}299-{checkpoint_digest(weights)}"
    return Features(name=name, channels=network.channels, network=network, extract=extract)


def _dinov2(weights: Path, *, has_registers: bool, device: torch.device | str) -> Features:
    network, kind = _load_dinov2(weights, has_registers=has_registers)
    network = network.to(device)
    size = 518 if has_registers else 224
    extract = dino_extractor(network, size=size)
    name = f"dinov2-{kind}{'-reg' if has_registers else ''}-bicubic{size}-cls-{checkpoint_digest(weights)}"
    channels, batch = network.cls_token.shape[-1], _LARGE_BATCH if has_registers else _BATCH
    return Features(name=name, channels=channels, network=network, extract=extract, batch=batch)


def dino_extractor(network: DinoVisionTransformer, *, size: int) -> Callable[[Tensor], Tensor]:
    """Class token after the final norm of pictures brought to ``size`` pixels, bicubic with antialias (EDM2's rule)."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def extract(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        pixels = to_8_bit(pictures) / 255
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        tokens = network((pixels - mean.to(pixels)) / std.to(pixels))
        return network.norm(tokens[:, 0])

    return extract


def _load_dinov2(path: Path, *, has_registers: bool) -> tuple[DinoVisionTransformer, str]:
    """A DINOv2 of any size with plain feed-forward layers, in the layout of the original release, and its size."""
    weights = read_checkpoint(path)
    table, wanted = weights.get("pos_embed"), SOURCES["dinov2_reg" if has_registers else "dinov2"].file
    if table is None or table.ndim != 3 or ("register_tokens" in weights) != has_registers:
        kind = "DINOv2 in the layout of the original release" if table is None else "the other kind of DINOv2"
        raise InputError(f"{path} holds {'no ' if table is None else ''}{kind}; expected {wanted}")
    channels, depth = table.shape[-1], count_blocks(weights, "blocks.")
    with torch.device("meta"):
        network = DinoVisionTransformer(**_dino_args(channels, depth, has_registers=has_registers))
    load_exactly(network, weights, path=path)
    return network, _DINO_SIZES.get((channels, depth), f"vit{channels}x{depth}")


def _dino_args(channels: int, depth: int, *, has_registers: bool) -> dict[str, Any]:
    """Without registers the position table is resampled by the older rule of a factor (n + 0.1) / 37."""
    args = {**VITL14_REG, "embed_dim": channels, "depth": depth, "num_heads": max(channels // _HEAD_WIDTH, 1)}
    older = {"num_register_tokens": 0, "interpolate_antialias": False, "interpolate_offset": 0.1}
    return args if has_registers else {**args, **older}
