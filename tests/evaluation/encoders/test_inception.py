"""FID Inception: input conventions in closed form, pools, files. Its numbers are the parity case eval_inception."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders import inception
from mdtdist.evaluation.encoders.inception import FidInceptionV3, load_inception, resize_tensorflow1, to_network

SMALL = {"width_divisor": 16, "num_classes": 5}


@pytest.fixture(scope="module")
def network() -> FidInceptionV3:
    torch.manual_seed(0)
    small = FidInceptionV3(**SMALL)
    for name, value in small.state_dict().items():
        if name.endswith("conv.weight"):  # the default shrinks the signal to nothing over so many layers
            torch.nn.init.kaiming_normal_(value)
        if name.endswith(("running_mean", "bn.bias")):
            value.normal_(0, 0.3)
    return small.eval().requires_grad_(False)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).float()


def test_keys_and_shapes_are_those_of_the_public_file():
    with torch.device("meta"):
        full = FidInceptionV3()
    lines = sorted(f"{key} {list(value.shape)}" for key, value in full.state_dict().items())
    assert len(lines) == 566 and sum(value.numel() for value in full.parameters()) == 23_850_960
    # Of the state dict of torch_fidelity 0.4.0, FeatureExtractorInceptionV3.
    digest = "8cdd2faeb41211e17f0fb47e66168d0cb1f981aa773b5f44e5b9cc93857fe492"
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


def test_tensorflow_resize_starts_at_the_first_pixel():
    row = torch.tensor([0.0, 10.0]).expand(1, 1, 2, 2)
    assert resize_tensorflow1(row, 4)[0, 0, 2].tolist() == [0, 5, 10, 10]  # half-pixel: 0, 2.5, 7.5, 10


def test_tensorflow_resize_of_a_ramp_is_its_value_at_the_source():
    ramp = torch.arange(40, dtype=torch.float64)[None, None, :, None] * torch.tensor([1.0, 0.5]).double()
    found = resize_tensorflow1(ramp.expand(1, 1, 40, 2), 299)[0, 0, :, 0]
    expected = (np.arange(299) * 40 / 299).clip(max=39)  # no half-pixel shift, the last row repeats
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_tensorflow_resize_takes_every_second_pixel_when_halving():
    picture = noise(1, 3, 8, 8)
    assert torch.equal(resize_tensorflow1(picture, 4), picture[:, :, ::2, ::2])  # no antialias


@pytest.mark.parametrize(("convention", "black", "white"), [("fidelity", -1, 127 / 128), ("pytorch_fid", -1, 1)])
def test_range_of_a_convention(convention, black, white):
    for value, expected in ((0.0, black), (255.0, white)):
        found = to_network(torch.full((1, 3, 50, 60), value), convention=convention)
        assert found.shape == (1, 3, 299, 299)
        torch.testing.assert_close(found, torch.full_like(found, expected), atol=1e-6, rtol=0)


def test_half_pixel_resize_of_a_ramp():
    ramp = torch.arange(100.0)[:, None].expand(1, 3, 100, 20)
    found = (to_network(ramp, convention="pytorch_fid")[0, 0, :, 0] + 1) * 127.5
    expected = ((np.arange(299) + 0.5) * 100 / 299 - 0.5).clip(0, 99)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 80), (512, 400)])
def test_clean_resize_is_that_of_pillow(size):
    picture = noise(3, *size)
    found = to_network(picture[None], convention="clean")[0] * 128 + 128
    for channel, plane in zip(picture, found, strict=True):
        image = Image.fromarray(channel.numpy()).resize((299, 299), Image.Resampling.BICUBIC)
        # Observed 3e-5 of 255, where torch's float32 coordinates would be off by 3e-3.
        np.testing.assert_allclose(plane.numpy(), np.asarray(image).clip(0, 255), atol=2e-4)


def test_unknown_convention_is_refused():
    with pytest.raises(InputError, match="'fid'; expected one of fidelity, pytorch_fid, clean"):
        to_network(noise(1, 3, 20, 20), convention="fid")


def test_average_pool_does_not_count_the_padding():
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(inception._POOLS["average"](ones), ones)  # counting it, corners would be 4 / 9


def test_only_the_last_block_pools_by_the_maximum(network):
    """A block whose pool branch passes its channels on shows which pool it has."""
    picture = torch.zeros(1, network.Mixed_7b.out_channels, 3, 3)
    picture[:, :, 0, 0] = 8
    for name, corner in (("Mixed_7b", 2.0), ("Mixed_7c", 8.0)):  # the mean of a corner's four pixels, their maximum
        with torch.device("meta"):
            block = inception._Mixed(picture.shape[1], inception.MIXED_BLOCKS[name], 16)
        pool = block.chains[-1][0]
        assert inception._POOLS[pool](picture)[0, 0, 0, 0] == corner
    assert [pool for pool, _ in network.Mixed_6a.chains] == ["", "", "shrink"]


def test_features_are_named_by_their_full_width(network):
    found = network(to_network(noise(2, 3, 40, 40)))
    shapes = {"64": 4, "192": 12, "768": 48, "2048": 128, "logits_unbiased": 5, "logits": 5}
    assert {name: tuple(value.shape) for name, value in found.items()} == {k: (2, v) for k, v in shapes.items()}
    torch.testing.assert_close(found["logits"] - found["logits_unbiased"], network.fc.bias.expand(2, -1))


@pytest.mark.parametrize("kind", ["pth", "safetensors", "half", "without counters"])
def test_public_layouts_load(tmp_path, network, kind):
    weights = dict(network.state_dict())
    if kind == "without counters":
        weights = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    if kind == "half":
        weights = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    save_file(weights, path) if kind == "safetensors" else torch.save(weights, path)
    again = load_inception(path)
    assert not again.training and not any(value.requires_grad for value in again.parameters())
    x = to_network(noise(1, 3, 30, 30))
    torch.testing.assert_close(again(x)["2048"], network(x)["2048"], rtol=0, atol=1e-2 if kind == "half" else 0)


def test_other_networks_are_refused(tmp_path, network):
    weights = dict(network.state_dict())
    torch.save({**weights, "fc.weight": torch.zeros(1000, 128), "fc.bias": torch.zeros(1000)}, tmp_path / "tv.pth")
    with pytest.raises(InputError, match="torchvision's own classifier; expected the FID weights pt_inception"):
        load_inception(tmp_path / "tv.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match="another network"):
        load_inception(tmp_path / "resnet.pth")
    weights.pop("Mixed_6c.branch7x7_2.bn.bias")
    torch.save(weights, tmp_path / "cut.pth")
    with pytest.raises(InputError, match="Mixed_6c.branch7x7_2.bn.bias"):
        load_inception(tmp_path / "cut.pth")
