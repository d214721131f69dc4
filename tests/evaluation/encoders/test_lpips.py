"""LPIPS: closed forms and files. Its numbers are the parity cases eval_lpips_alex and eval_lpips_vgg."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.lpips import LPIPS, TRUNKS, _unit_length, load_lpips
from mdtdist.evaluation.metrics.image_metrics import lpips

RECORDED = Path(__file__).parents[2] / "parity" / "data"
DIVISOR = 16  # of the recorded networks' widths


def recorded(net: str, kind: str) -> dict[str, torch.Tensor]:
    tensors = load_file(RECORDED / f"eval_lpips_{net}.safetensors")
    return {key.removeprefix(f"{kind}."): value for key, value in tensors.items() if key.startswith(f"{kind}.")}


def public_files(folder: Path, net: str) -> tuple[Path, Path]:
    """The recorded weights as torchvision and the package lpips publish theirs."""
    weights = recorded(net, "weight")
    trunk = {f"features.{key.split('.', 2)[2]}": value for key, value in weights.items() if key.startswith("net.")}
    trunk["classifier.1.weight"] = torch.zeros(3, 3)
    torch.save(trunk, folder / f"trunk_{net}.pth")
    torch.save({k: v for k, v in weights.items() if k.startswith("lin")}, folder / f"{net}.pth")
    return folder / f"trunk_{net}.pth", folder / f"{net}.pth"


@pytest.mark.parametrize("net", TRUNKS)
def test_public_files_give_the_recorded_distances(tmp_path, net):
    trunk, linear = public_files(tmp_path, net)
    network = load_lpips(net, trunk=trunk, linear=linear)
    images = recorded(net, "input")
    a, b = ((images[name] + 1) / 2 for name in ("image0", "image1"))
    expected = recorded(net, "output")["distance"]
    torch.testing.assert_close(lpips(network, a, b), expected, rtol=5e-6, atol=0)  # observed 3e-7
    assert network.name.startswith(f"lpips-v0.1-{net}-") and len(network.name.split("-")) == 5
    assert not any(value.requires_grad for value in network.parameters())


def test_a_state_dict_of_the_package_is_a_trunk_too(tmp_path):
    _, linear = public_files(tmp_path, "alex")
    torch.save(recorded("alex", "weight"), tmp_path / "whole.pth")
    network = load_lpips("alex", trunk=tmp_path / "whole.pth", linear=linear)
    assert torch.equal(network.net.slice2["3"].weight, recorded("alex", "weight")["net.slice2.3.weight"])


@pytest.mark.parametrize("net", TRUNKS)
def test_equal_pictures_are_at_zero_and_the_distance_is_symmetric(tmp_path, net):
    trunk, linear = public_files(tmp_path, net)
    network = load_lpips(net, trunk=trunk, linear=linear)
    a, b = torch.rand(2, 3, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(lpips(network, a, a), torch.zeros(3))
    torch.testing.assert_close(lpips(network, a, b), lpips(network, b, a))
    assert (lpips(network, a, b) > 0).all()
    one_by_one = torch.cat([lpips(network, x[None], y[None]) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(lpips(network, a, b), one_by_one)
    torch.testing.assert_close(network.layers(a, b).sum(0), lpips(network, a, b))


def test_orthogonal_features_add_their_weights():
    """Black lights one channel and white another; unit vectors that share nothing differ by 1 in each."""
    network = LPIPS("vgg", width_divisor=DIVISOR).requires_grad_(False)
    for value in network.parameters():
        value.zero_()
    first, second = network.net.slice1["0"].weight, network.net.slice1["2"].weight
    first[0, 0, 1, 1], first[1, 0, 1, 1] = 1, -1  # the ReLUs of the red channel and of its negative
    second[0, 0, 1, 1] = second[1, 1, 1, 1] = 1
    network.lin0["model"]["1"].weight[0, :, 0, 0] = torch.tensor([0.25, 0.5, 7, 7])
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    layers = network.layers(black, white)
    assert layers[:, 0].tolist() == pytest.approx([0.75, 0, 0, 0, 0], abs=1e-6)


def test_eps_stands_outside_the_root():
    # A vector as long as eps halves; inside the root it would shrink to 1e-5.
    found = _unit_length(torch.tensor([1e-10, 0.0]).reshape(1, 2, 1, 1))
    assert found.flatten().tolist() == pytest.approx([0.5, 0])
    assert torch.equal(_unit_length(torch.zeros(1, 2, 1, 1)), torch.zeros(1, 2, 1, 1))


def test_pictures_are_normalised_by_the_imagenet_statistics():
    # In [0, 1] they are 0.485 and 0.229 for red; the constants of LPIPS are those in [-1, 1].
    scale = LPIPS("alex", width_divisor=DIVISOR).scaling_layer
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    found = scale(2 * mean.reshape(1, 3, 1, 1) - 1)
    torch.testing.assert_close(found, torch.zeros(1, 3, 1, 1), atol=1e-6, rtol=0)
    found = scale(2 * (mean + std).reshape(1, 3, 1, 1) - 1)
    torch.testing.assert_close(found, torch.ones(1, 3, 1, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("net", TRUNKS)
def test_smallest_picture(net):
    network, side = LPIPS(net, width_divisor=DIVISOR), TRUNKS[net].smallest
    assert lpips(network, *torch.rand(2, 1, 3, side, side)).isfinite().all()
    with pytest.raises(InputError, match=f"{side} px or more"):
        lpips(network, *torch.rand(2, 1, 3, side - 1, side))
    with pytest.raises(InputError, match="equal shapes"):
        network(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 41))


def test_gradients_reach_the_pictures(tmp_path):
    trunk, linear = public_files(tmp_path, "alex")
    network = load_lpips("alex", trunk=trunk, linear=linear)
    a, b = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network(a.requires_grad_(), b).sum().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0


def test_exchanged_and_foreign_files_are_refused(tmp_path):
    trunk, linear = public_files(tmp_path, "alex")
    other_trunk, other_linear = public_files(tmp_path, "vgg")
    with pytest.raises(InputError, match=r"trunk_vgg.pth does not fit lpips-v0.1-alex .* expected alexnet-owt"):
        load_lpips("alex", trunk=other_trunk, linear=linear)
    with pytest.raises(InputError, match="alex.pth"):
        load_lpips("alex", trunk=trunk, linear=trunk)
    with pytest.raises(InputError, match=r"lin0.model.1.weight.*has shape|has shape"):
        load_lpips("vgg", trunk=other_trunk, linear=linear)
    with pytest.raises(InputError, match="'squeeze'; expected one of vgg, alex"):
        load_lpips("squeeze", trunk=trunk, linear=linear)
    assert load_lpips("vgg", trunk=other_trunk, linear=other_linear).name.startswith("lpips-v0.1-vgg")
