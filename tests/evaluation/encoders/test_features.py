"""Feature networks: what they take, what they give, and what they say about missing or wrong weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdtdist.conditioning import load_efficientnet
from mdtdist.conditioning.dinov2 import DinoVisionTransformer
from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import checkpoint_digest
from mdtdist.evaluation.encoders.features import (
    NAMES,
    _dino_args,
    dino_extractor,
    load_feature_network,
    to_8_bit,
)
from mdtdist.evaluation.encoders.inception import FidInceptionV3, load_inception, to_network
from mdtdist.evaluation.model_benchmark.benchmark import pooled_features

DINO = {"img_size": 518, "patch_size": 14, "embed_dim": 64, "depth": 1, "num_heads": 1}
OLDER = {"num_register_tokens": 0, "interpolate_antialias": False, "interpolate_offset": 0.1}
NEWER = {"num_register_tokens": 4, "interpolate_antialias": True, "interpolate_offset": 0.0}


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def dino(**changes) -> DinoVisionTransformer:
    torch.manual_seed(3)
    network = DinoVisionTransformer(**{**DINO, **OLDER, **changes})
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Small networks under the names of the public files."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    inception = FidInceptionV3(width_divisor=16, num_classes=7)
    for key, value in inception.state_dict().items():
        if key.endswith("conv.weight"):  # the default shrinks the signal to nothing over so many layers
            torch.nn.init.kaiming_normal_(value)
    networks = {
        "inception": inception,
        "dinov2": dino(),
        "dinov2_reg": dino(**NEWER),
    }
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in networks}


def load(name: str, weights: dict[str, Path], **options):
    return load_feature_network(name, weights=weights.get(name), **options)


def test_efficientnet_is_the_network_of_the_benchmark():
    shown = pictures(2, 3, 64, 64)
    network = load_feature_network("efficientnet")
    found = network(shown)
    assert np.array_equal(found.double().numpy(), pooled_features(load_efficientnet(), shown))
    assert found.shape == (2, network.channels) and network.name.startswith("efficientnet-lite0-bilinear224-")


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_pictures_one_by_one(weights, name):
    network, shown = load(name, weights), pictures(3, 3, 40, 50)
    found = network(shown)
    assert found.shape == (3, network.channels) and found.dtype == torch.float32 and not found.requires_grad
    one_by_one = torch.cat([network(picture[None]) for picture in shown])
    torch.testing.assert_close(found, one_by_one, atol=1e-5, rtol=1e-5)
    assert network(shown[:0]).shape == (0, network.channels)


@pytest.mark.parametrize("name", ["inception", "dinov2", "dinov2_reg"])
def test_pictures_are_those_a_file_would_hold(weights, name):
    network, shown = load(name, weights), pictures(1, 3, 30, 30)
    stored = torch.from_numpy(np.asarray(Image.fromarray(to_8_bit(shown)[0].byte().permute(1, 2, 0).numpy())).copy())
    again = stored.permute(2, 0, 1)[None].float() / 255
    assert not torch.equal(again, shown)
    torch.testing.assert_close(network(shown), network(again), atol=1e-6, rtol=0)
    torch.testing.assert_close(network(shown - 1), network(torch.zeros_like(shown)), atol=1e-6, rtol=0)


def test_inception_takes_the_convention_it_names(weights):
    shown, trunk = pictures(2, 3, 40, 50), load_inception(weights["inception"])
    found = {}
    for convention in ("fidelity", "pytorch_fid", "clean"):
        network = load("inception", weights, convention=convention)
        found[convention] = network(shown)
        expected = trunk(to_network((255 * shown).round(), convention=convention))["2048"]
        torch.testing.assert_close(found[convention], expected)
        assert network.name == f"inception-v3-{convention}299-{checkpoint_digest(weights['inception'])}"
    assert (found["fidelity"] - found["pytorch_fid"]).abs().max() > 1e-4
    assert (found["fidelity"] - found["clean"]).abs().max() > 1e-4
    with pytest.raises(InputError, match="'half'; expected one of fidelity"):
        load("inception", weights, convention="half")


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """By the mean and deviation of ImageNet."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)


def resized_by_pillow(picture: torch.Tensor, size: int) -> torch.Tensor:
    """The 8-bit picture, resized bicubically in floating point."""
    planes = (255 * picture).round().numpy()
    resized = [np.array(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC)) for plane in planes]
    return torch.from_numpy(np.stack(resized)) / 255


@pytest.mark.parametrize(("name", "size"), [("dinov2", 224), ("dinov2_reg", 518)])
def test_dinov2_gives_the_class_token_after_the_norm(weights, name, size):
    network, shown = load(name, weights), pictures(1, 3, 60, 60)
    trunk = dino(**(NEWER if name == "dinov2_reg" else OLDER))
    tokens = trunk.norm(trunk(normalised(resized_by_pillow(shown[0], size))[None]))
    torch.testing.assert_close(network(shown), tokens[:, 0], atol=2e-4, rtol=0)  # observed 1e-5
    assert network.name.startswith(f"dinov2-vit64x1{'-reg' * (size == 518)}-bicubic{size}-cls-")


@pytest.mark.parametrize("side", [60, 300])
def test_pictures_for_dinov2_are_resized_as_by_pillow(side):
    trunk, shown, seen = dino(), pictures(1, 3, side, side), []
    trunk.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    dino_extractor(trunk, size=224)(shown)
    # Observed 6e-5; without antialias, and with the kernel torch then takes, 0.4 and more.
    torch.testing.assert_close(seen[0][0], normalised(resized_by_pillow(shown[0], 224)), atol=1e-3, rtol=0)


def test_a_picture_of_the_right_size_is_not_resampled():
    trunk, shown = dino(), to_8_bit(pictures(1, 3, 224, 224)) / 255
    expected = trunk.norm(trunk(normalised(shown))[:, 0])
    torch.testing.assert_close(dino_extractor(trunk, size=224)(shown), expected)


def cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' kernel, as torch has it without antialias."""
    x = np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x <= 1, near, np.where(x < 2, a * (x**3 - 5 * x**2 + 8 * x - 4), 0))


def test_positions_are_resampled_by_the_factor_with_a_tenth_added(weights):
    """Row i of h reads the 37 trained rows at ``(i + 0.5) * 37 / (h + 0.1) - 0.5``."""
    network = load("dinov2", weights).network
    table = network.pos_embed[0, 1:, 0].double().reshape(37, 37).numpy()

    def weights_of(size: int, offset: float) -> np.ndarray:
        source = (np.arange(size) + 0.5) * 37 / (size + offset) - 0.5
        taps = np.floor(source)[:, None] + np.arange(-1, 3)
        matrix = np.zeros((size, 37))
        for row, at, points in zip(matrix, source, taps, strict=True):
            np.add.at(row, points.clip(0, 36).astype(int), cubic(at - points))
        return matrix

    found = network.positions(16, 20)[0, 1:, 0].reshape(16, 20).numpy()
    expected = weights_of(16, 0.1) @ table @ weights_of(20, 0.1).T
    np.testing.assert_allclose(found, expected, atol=3e-6)  # observed 7e-7
    assert np.abs(found - weights_of(16, 0.0) @ table @ weights_of(20, 0.0).T).max() > 1e-2


def test_missing_weights_say_which_file_where_it_is_and_how_to_pass_it(tmp_path):
    with pytest.raises(InputError, match="dinov2_vitl14_pretrain.pth from https://dl.fbaipublicfiles.com/.*=FILE"):
        load_feature_network("dinov2")
    with pytest.raises(InputError, match="'dinov2_reg' are not given; download dinov2_vitl14_reg4_pretrain.pth"):
        load_feature_network("dinov2_reg")
    with pytest.raises(InputError, match="are not at .*nothing.pth; download pt_inception-2015-12-05-6726825d.pth"):
        load_feature_network("inception", weights=tmp_path / "nothing.pth")
    with pytest.raises(InputError, match="--weights inception=FILE"):
        load_feature_network("inception")
    with pytest.raises(InputError, match="'vgg'; expected one of efficientnet, inception, dinov2, dinov2_reg"):
        load_feature_network("vgg")


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(InputError, match="brings its own"):
        load_feature_network("efficientnet", weights=weights["dinov2"])
    with pytest.raises(InputError, match="the other kind of DINOv2; expected dinov2_vitl14_pretrain.pth"):
        load_feature_network("dinov2", weights=weights["dinov2_reg"])
    with pytest.raises(InputError, match="the other kind of DINOv2; expected dinov2_vitl14_reg4_pretrain.pth"):
        load_feature_network("dinov2_reg", weights=weights["dinov2"])
    with pytest.raises(InputError, match="no DINOv2 in the layout of the original release"):
        load_feature_network("dinov2", weights=weights["inception"])


def test_the_name_tells_weight_files_apart(tmp_path, weights):
    other = torch.load(weights["dinov2"], weights_only=True)
    torch.save({**other, "cls_token": other["cls_token"] + 1}, tmp_path / "other.pth")
    names = {load_feature_network("dinov2", weights=path).name for path in (weights["dinov2"], tmp_path / "other.pth")}
    assert len(names) == 2


@pytest.mark.parametrize(("channels", "depth", "heads"), [(384, 12, 6), (768, 12, 12), (1024, 24, 16)])
def test_architecture_of_a_published_size(channels, depth, heads):
    for has_registers, wanted in ((True, NEWER), (False, OLDER)):
        args = _dino_args(channels, depth, has_registers=has_registers)
        sizes = {"img_size": 518, "patch_size": 14, "embed_dim": channels, "depth": depth, "num_heads": heads}
        assert args == {**sizes, **wanted}
