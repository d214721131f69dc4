"""Learned perceptual similarity, LPIPS v0.1 (Zhang et al., 2018, arXiv 1801.03924, Eq. 1).

A classifier's features at five depths, normalised per pixel over the channels, compared with one learned weight per
channel. The classifier weights are torchvision's public files, the channel weights those of the ``lpips`` package.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import checkpoint_digest, load_exactly, read_checkpoint

# Of pictures in [-1, 1]: the ImageNet statistics in that range.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10  # added to the norm, outside its root


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """The layers up to one of the compared ReLUs: convolutions by their index in torchvision's ``features``."""

    convs: tuple[int, ...]
    channels: int
    is_pooled: bool = True  # a max pool comes first


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A classifier up to its last compared layer.

    Attributes:
        kernels: kernel, stride and padding of each convolution by its index; 3, 1, 1 where absent.
        slices: what lies between the compared layers.
        pool: kernel of the max pools, stride 2, no padding.
        smallest: pixels a side that leave a pixel at every depth.
        file: name of torchvision's weights.
    """

    slices: tuple[_Slice, ...]
    kernels: Mapping[int, tuple[int, int, int]]
    pool: int
    smallest: int
    file: str


TRUNKS: Mapping[str, Trunk] = {
    "vgg": Trunk(
        slices=(
            _Slice(convs=(0, 2), channels=64, is_pooled=False),
            _Slice(convs=(5, 7), channels=128),
            _Slice(convs=(10, 12, 14), channels=256),
            _Slice(convs=(17, 19, 21), channels=512),
            _Slice(convs=(24, 26, 28), channels=512),
        ),
        kernels={},
        pool=2,
        smallest=16,
        file="vgg16-397923af.pth",
    ),
    "alex": Trunk(
        slices=(
            _Slice(convs=(0,), channels=64, is_pooled=False),
            _Slice(convs=(3,), channels=192),
            _Slice(convs=(6,), channels=384),
            _Slice(convs=(8,), channels=256, is_pooled=False),
            _Slice(convs=(10,), channels=256, is_pooled=False),
        ),
        kernels={0: (11, 4, 2), 3: (5, 1, 2)},
        pool=3,
        smallest=31,
        file="alexnet-owt-7be5be79.pth",
    ),
}


class _Features(nn.Module):
    """The classifier's features at the five compared layers."""

    def __init__(self, trunk: Trunk, width_divisor: int) -> None:
        super().__init__()
        self.trunk, in_channels = trunk, 3
        for number, part in enumerate(trunk.slices, 1):
            convs, channels = nn.ModuleDict(), part.channels // width_divisor
            for index in part.convs:
                kernel, stride, padding = trunk.kernels.get(index, (3, 1, 1))
                convs[str(index)] = nn.Conv2d(in_channels, channels, kernel, stride, padding)
                in_channels = channels
            self.add_module(f"slice{number}", convs)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        features = []
        for number, part in enumerate(self.trunk.slices, 1):
            if part.is_pooled:
                x = F.max_pool2d(x, self.trunk.pool, stride=2)
            for conv in getattr(self, f"slice{number}").values():
                x = F.relu(conv(x))
            features.append(x)
        return features


class _Normalize(nn.Module):
    """Pictures in [-1, 1] to what the classifier was trained on."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return (x - self.shift) / self.scale


class LPIPS(nn.Module):
    """Perceptual distance of two pictures; 0 for equal ones, symmetric, smaller is more alike.

    Args:
        net: the trunk, ``alex`` (the package's default) or ``vgg``.
        width_divisor: every channel count is divided by it; for tests.

    Attributes:
        name: trunk and version, to state beside a number; the loader adds the digests of the files.
    """

    def __init__(self, net: str = "alex", *, width_divisor: int = 1) -> None:
        super().__init__()
        if net not in TRUNKS:
            raise InputError(f"the LPIPS trunk is {net!r}; expected one of {', '.join(TRUNKS)}")
        self.trunk, self.name = TRUNKS[net], f"lpips-v0.1-{net}"
        self.scaling_layer = _Normalize()
        self.net = _Features(self.trunk, width_divisor)
        for layer, part in enumerate(self.trunk.slices):
            weights = nn.Conv2d(part.channels // width_divisor, 1, 1, bias=False)
            self.add_module(f"lin{layer}", nn.ModuleDict({"model": nn.ModuleDict({"1": weights})}))

    def features(self, pictures: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        """What the trunk gives at its five compared layers for sRGB pictures in [0, 1]."""
        return self.net(self.scaling_layer(2 * pictures - 1))

    def layers(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "5 B"]:
        """What each layer adds to the distance.

        Raises:
            InputError: if the pictures differ in shape or are too small for the trunk.
        """
        if a.shape != b.shape or min(a.shape[-2:]) < self.trunk.smallest:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise InputError(f"pictures of shapes {shapes}; expected equal shapes, {self.trunk.smallest} px or more")
        distances = []
        for layer, pair in enumerate(zip(self.features(a), self.features(b), strict=True)):
            gap = (_unit_length(pair[0]) - _unit_length(pair[1])).square()
            distances.append(getattr(self, f"lin{layer}")["model"]["1"](gap).mean((-3, -2, -1)))
        return torch.stack(distances)

    def forward(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
        """Distance of each pair of sRGB pictures in [0, 1]."""
        return self.layers(a, b).sum(0)


def _unit_length(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    return features / (features.square().sum(1, keepdim=True).sqrt() + _EPS)


def load_lpips(net: str = "alex", *, trunk: Path, linear: Path, device: torch.device | str = "cpu") -> LPIPS:
    """The network with public weights, in evaluation mode.

    Args:
        net: ``alex`` or ``vgg``.
        trunk: torchvision's ImageNet classifier (``features.<index>.weight``), or a state dict of the package.
        linear: the channel weights (``lin<k>.model.1.weight``), ``weights/v0.1/<net>.pth`` of the package ``lpips``.
        device: where the weights go.

    Raises:
        InputError: if a file is damaged or does not fit; names the file and where the right one is published.
    """
    with torch.device("meta"):
        known = LPIPS(net)  # refuses an unknown name
    slices = list(enumerate(known.trunk.slices, 1))
    names = {f"features.{index}.": f"net.slice{number}.{index}." for number, part in slices for index in part.convs}
    stored = read_checkpoint(trunk, prefixes=("features.", "net."))
    stored = {_renamed(key, names): value for key, value in stored.items()}
    channels = read_checkpoint(linear, prefixes=("lin",))
    _check_keys(known, "net.", stored, trunk, f"{known.trunk.file} of torchvision")
    _check_keys(known, "lin", channels, linear, f"weights/v0.1/{net}.pth of the package lpips")
    width = len(stored["net.slice1.0.weight"])
    with torch.device("meta"):
        network = LPIPS(net, width_divisor=max(known.trunk.slices[0].channels // max(width, 1), 1))
    constants = {f"scaling_layer.{key}": value for key, value in _Normalize().state_dict().items()}
    load_exactly(network, {**constants, **stored, **channels}, path=trunk)
    network.name += f"-{checkpoint_digest(trunk)}-{checkpoint_digest(linear)}"
    return network.to(device)


def _renamed(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _check_keys(known: LPIPS, half: str, found: Mapping[str, Tensor], path: Path, wanted: str) -> None:
    """A file has all tensors of its half of the network and no others."""
    expected = {key for key in known.state_dict() if key.startswith(half)}
    if found.keys() != expected:
        wrong = sorted(expected ^ found.keys())[0]
        raise InputError(f"{path} does not fit {known.name} (see {wrong!r}); expected {wanted}")
