"""The Inception-v3 network of Frechet distances (Szegedy et al., 2015; Heusel et al., 2017).

The weights are those of TensorFlow's 2015 classifier, converted by ``pytorch-fid`` and ``torch-fidelity`` into one key
layout. That network is not torchvision's: every average pool leaves the padding out of its count, the last mixed block
pools by the maximum, there are 1008 classes and no auxiliary head, and the batch norms have an eps of 1e-3.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import load_exactly, read_checkpoint

INPUT_SIZE = 299  # pixels a side
FEATURE_CHANNELS = 2048
_STEM_CHANNELS = 32  # of the first convolution at full width
_TORCHVISION_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class _Conv:
    """One convolution of a branch: output channels at full width, kernel (height, width), stride."""

    channels: int
    kernel: tuple[int, int]
    stride: int = 1

    def padding(self) -> tuple[int, int]:
        """Inside the mixed blocks a stride of 1 keeps the size and a stride of 2 pads nothing."""
        return (self.kernel[0] // 2, self.kernel[1] // 2) if self.stride == 1 else (0, 0)


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """A chain of convolutions; an entry that is a pair of convolutions reads one input and joins both outputs."""

    name: str
    convs: tuple[_Conv | tuple[_Conv, _Conv], ...] = ()
    pool: str = ""  # what comes first: "average", "maximum", "shrink" (maximum with stride 2) or nothing


def _conv(channels: int, height: int, width: int | None = None, *, stride: int = 1) -> _Conv:
    return _Conv(channels=channels, kernel=(height, width or height), stride=stride)


def _mixed_a(pool_channels: int) -> tuple[_Branch, ...]:
    return (
        _Branch(name="branch1x1", convs=(_conv(64, 1),)),
        _Branch(name="branch5x5", convs=(_conv(48, 1), _conv(64, 5))),
        _Branch(name="branch3x3dbl", convs=(_conv(64, 1), _conv(96, 3), _conv(96, 3))),
        _Branch(name="branch_pool", convs=(_conv(pool_channels, 1),), pool="average"),
    )


def _mixed_b() -> tuple[_Branch, ...]:
    return (
        _Branch(name="branch3x3", convs=(_conv(384, 3, stride=2),)),
        _Branch(name="branch3x3dbl", convs=(_conv(64, 1), _conv(96, 3), _conv(96, 3, stride=2))),
        _Branch(name="branch_pool", pool="shrink"),
    )


def _mixed_c(inner: int) -> tuple[_Branch, ...]:
    wide, tall = _conv(inner, 1, 7), _conv(inner, 7, 1)
    return (
        _Branch(name="branch1x1", convs=(_conv(192, 1),)),
        _Branch(name="branch7x7", convs=(_conv(inner, 1), wide, _conv(192, 7, 1))),
        _Branch(name="branch7x7dbl", convs=(_conv(inner, 1), tall, wide, tall, _conv(192, 1, 7))),
        _Branch(name="branch_pool", convs=(_conv(192, 1),), pool="average"),
    )


def _mixed_d() -> tuple[_Branch, ...]:
    chain = (_conv(192, 1), _conv(192, 1, 7), _conv(192, 7, 1), _conv(192, 3, stride=2))
    return (
        _Branch(name="branch3x3", convs=(_conv(192, 1), _conv(320, 3, stride=2))),
        _Branch(name="branch7x7x3", convs=chain),
        _Branch(name="branch_pool", pool="shrink"),
    )


def _mixed_e(pool: str) -> tuple[_Branch, ...]:
    fork = (_conv(384, 1, 3), _conv(384, 3, 1))
    return (
        _Branch(name="branch1x1", convs=(_conv(320, 1),)),
        _Branch(name="branch3x3", convs=(_conv(384, 1), fork)),
        _Branch(name="branch3x3dbl", convs=(_conv(448, 1), _conv(384, 3), fork)),
        _Branch(name="branch_pool", convs=(_conv(192, 1),), pool=pool),
    )


_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
MIXED_BLOCKS: Mapping[str, tuple[_Branch, ...]] = {
    "Mixed_5b": _mixed_a(32),
    "Mixed_5c": _mixed_a(64),
    "Mixed_5d": _mixed_a(64),
    "Mixed_6a": _mixed_b(),
    "Mixed_6b": _mixed_c(128),
    "Mixed_6c": _mixed_c(160),
    "Mixed_6d": _mixed_c(160),
    "Mixed_6e": _mixed_c(192),
    "Mixed_7a": _mixed_d(),
    "Mixed_7b": _mixed_e("average"),
    "Mixed_7c": _mixed_e("maximum"),  # the one place where the original graph pools differently
}

_POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    "average": lambda x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
    "maximum": lambda x: F.max_pool2d(x, 3, stride=1, padding=1),
    "shrink": lambda x: F.max_pool2d(x, 3, stride=2),
}


class _ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, channels: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return F.relu(self.bn(self.conv(x)), inplace=not self.training)


class _Mixed(nn.Module):
    """Branches side by side, joined over channels; its convolutions are named as in the public files."""

    def __init__(self, in_channels: int, branches: tuple[_Branch, ...], divisor: int) -> None:
        super().__init__()
        self.chains: list[tuple[str, list[list[str]]]] = []
        self.out_channels = 0
        for branch in branches:
            names, channels = [], in_channels
            for number, step in enumerate(branch.convs, 1):
                fork = step if isinstance(step, tuple) else (step,)
                suffixes = ["", ""] if len(fork) == 1 else ["a", "b"]
                stem = branch.name if len(branch.convs) == 1 else f"{branch.name}_{number}"
                names.append([stem + suffix for suffix in suffixes[: len(fork)]])
                for name, conv in zip(names[-1], fork, strict=True):
                    width = conv.channels // divisor
                    self.add_module(name, _ConvNorm(channels, width, conv.kernel, conv.stride, conv.padding()))
                channels = sum(conv.channels // divisor for conv in fork)
            self.chains.append((branch.pool, names))
            self.out_channels += channels

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        joined = []
        for pool, names in self.chains:
            h = _POOLS[pool](x)
            for fork in names:
                parts = [getattr(self, name)(h) for name in fork]
                h = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            joined.append(h)
        return torch.cat(joined, 1)


class FidInceptionV3(nn.Module):
    """The classifier behind the Frechet inception distance; 23 850 960 parameters at full width.

    Args:
        width_divisor: every channel count but the three of the input is divided by it, a divisor of 16; for tests.
        num_classes: rows of the last linear layer.
    """

    def __init__(self, *, width_divisor: int = 1, num_classes: int = 1008) -> None:
        super().__init__()
        widths = [3, *(channels // width_divisor for channels in (_STEM_CHANNELS, 32, 64, 80, 192))]
        for name, kernel, stride, padding, in_channels, channels in zip(
            _STEM, (3, 3, 3, 1, 3), (2, 1, 1, 1, 1), (0, 0, 1, 0, 0), widths[:-1], widths[1:], strict=True
        ):
            self.add_module(name, _ConvNorm(in_channels, channels, (kernel, kernel), stride, (padding, padding)))
        channels = widths[-1]
        for name, branches in MIXED_BLOCKS.items():
            block = _Mixed(channels, branches, width_divisor)
            self.add_module(name, block)
            channels = block.out_channels
        self.channels = channels
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Float[Tensor, "B 3 299 299"]) -> dict[str, Float[Tensor, "B C"]]:
        """Features averaged over the image, named by their channels at full width, and the logits.

        Args:
            x: pictures in about [-1, 1], from ``to_network``.

        Returns:
            ``64``, ``192``, ``768``, ``2048``, ``logits_unbiased`` (without the bias of ``fc``) and ``logits``.
        """
        features: dict[str, Tensor] = {}
        for output, names in (("64", _STEM[:3]), ("192", _STEM[3:])):
            for name in names:
                x = getattr(self, name)(x)
            x = _POOLS["shrink"](x)
            features[output] = x
        for name in MIXED_BLOCKS:
            x = getattr(self, name)(x)
            if name == "Mixed_6e":
                features["768"] = x
        features["2048"] = x
        pooled = {name: value.mean((-2, -1)) for name, value in features.items()}
        unbiased = pooled["2048"] @ self.fc.weight.T
        return {**pooled, "logits_unbiased": unbiased, "logits": unbiased + self.fc.bias}


# ------------------------------------------------------------------------------------------------ input conventions


def resize_tensorflow1(pictures: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C size size"]:
    """Bilinear resize as in TensorFlow 1: source ``i * L / size`` without the half-pixel shift, no antialias.

    The output is shifted by up to half a source pixel against the usual rule; the published Inception distances were
    made with it.
    """
    for axis in (-2, -1):
        length = pictures.shape[axis]
        source = torch.arange(size, device=pictures.device, dtype=torch.float64) * (length / size)
        first = source.floor().long().clamp_max(length - 1)
        share = (source - first).to(pictures.dtype)
        share = share[:, None] if axis == -2 else share
        low = pictures.index_select(axis, first)
        high = pictures.index_select(axis, (first + 1).clamp_max(length - 1))
        pictures = low + (high - low) * share
    return pictures


def _fidelity(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 299 299"]:
    return (resize_tensorflow1(pictures, INPUT_SIZE) - 128) / 128


def _pytorch_fid(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 299 299"]:
    size = (INPUT_SIZE, INPUT_SIZE)
    return 2 * F.interpolate(pictures / 255, size=size, mode="bilinear", align_corners=False) - 1


def _clean(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 299 299"]:
    # With antialias, torch's bicubic is Pillow's on float pictures (a = -0.5, support scaled when shrinking); in
    # float64, because Pillow's source coordinates are.
    size = (INPUT_SIZE, INPUT_SIZE)
    resized = F.interpolate(pictures.double(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return ((resized.clamp(0, 255) - 128) / 128).to(pictures.dtype)


CONVENTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "fidelity": _fidelity,
    "pytorch_fid": _pytorch_fid,
    "clean": _clean,
}


def to_network(pictures: Float[Tensor, "B 3 H W"], *, convention: str = "fidelity") -> Float[Tensor, "B 3 299 299"]:
    """Pictures as the network takes them. Distances of two conventions are not comparable: state the one used.

    Args:
        pictures: 8-bit values 0 to 255, stored as float.
        convention: ``fidelity`` (torch-fidelity, closest to the original: TensorFlow-1 bilinear, ``(x - 128) / 128``),
            ``pytorch_fid`` (half-pixel bilinear without antialias, ``(x - 127.5) / 127.5``) or ``clean``
            (Parmar et al., 2022: Pillow's antialiased bicubic, ``(x - 128) / 128``).

    Raises:
        InputError: for another convention.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"the Inception input convention is {convention!r}; expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention](pictures)


def load_inception(path: Path, *, device: torch.device | str = "cpu") -> FidInceptionV3:
    """The network with weights in the layout of ``pytorch-fid`` and ``torch-fidelity``, in evaluation mode.

    Raises:
        InputError: if the file is damaged or does not fit; torchvision's classifier does not, it has 1000 classes.
    """
    weights = read_checkpoint(path)
    first, last = (weights.get(key) for key in ("Conv2d_1a_3x3.conv.weight", "fc.weight"))
    if first is None or last is None or len(last) == _TORCHVISION_CLASSES:
        found = "another network" if first is None or last is None else "torchvision's own classifier"
        raise InputError(f"{path} holds {found}; expected the FID weights pt_inception-2015-12-05-6726825d.pth")
    with torch.device("meta"):
        network = FidInceptionV3(width_divisor=max(_STEM_CHANNELS // max(len(first), 1), 1), num_classes=len(last))
    # Some files lack the step counters of the batch norms; inference does not read them.
    counters = {key: torch.zeros((), dtype=torch.long) for key in network.state_dict() if key.endswith("_tracked")}
    load_exactly(network, {**counters, **weights}, path=path)
    return network.to(device)
