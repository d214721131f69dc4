"""DINOv2: file layouts, preprocessing and tokens. Its numbers at several sizes are parity cases (eval_dinov2)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mdtdist.conditioning.dinov2 import VITL14_REG, DinoImageEncoder, DinoVisionTransformer, load_dinov2
from mdtdist.errors import InputError

DATA = Path(__file__).parent / "data" / "dinov2_transformers.safetensors"
# The recorded network: transformers 5.23.0, Dinov2WithRegistersModel of random weights, 4 x 4 patches.
ARGS = {**VITL14_REG, "img_size": 56, "embed_dim": 16, "depth": 2, "num_heads": 2}


def recorded(kind: str) -> dict[str, torch.Tensor]:
    """The weights, inputs or outputs of the recording."""
    return {k.removeprefix(kind + "."): v for k, v in load_file(DATA).items() if k.startswith(kind + ".")}


def write(folder, tensors) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def test_file_of_transformers_gives_its_tokens(tmp_path):
    network = load_dinov2(write(tmp_path, recorded("weight")), ARGS)
    tokens = network(recorded("input")["images"])
    # Observed 1e-6.
    torch.testing.assert_close(tokens, recorded("output")["prenorm"], atol=1e-5, rtol=0)
    torch.testing.assert_close(network.norm(tokens), recorded("output")["norm"], atol=1e-5, rtol=0)


def test_file_of_the_original_release_gives_the_same(tmp_path):
    network = load_dinov2(write(tmp_path, recorded("weight")), ARGS)
    (tmp_path / "official").mkdir()
    again = load_dinov2(write(tmp_path / "official", network.state_dict()), ARGS)
    assert {"blocks.1.attn.qkv.weight", "pos_embed", "register_tokens", "mask_token"} <= network.state_dict().keys()
    images = recorded("input")["images"]
    assert torch.equal(again(images), network(images))


def test_half_precision_file_is_widened(tmp_path):
    network = load_dinov2(write(tmp_path, {k: v.half() for k, v in recorded("weight").items()}), ARGS)
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("encoder.layer.1.attention.attention.key.bias"), "lacks the tensor 'blocks.1.attn.qkv.bias'"),
        (lambda w: w.update({"embeddings.cls_token": torch.zeros(1, 1, 8)}), r"'cls_token' has shape \(1, 1, 8\)"),
        (lambda w: w.update(extra=torch.zeros(1)), "'extra'"),
    ],
)
def test_a_file_that_does_not_fit_names_the_tensor(tmp_path, change, words):
    weights = recorded("weight")
    change(weights)
    with pytest.raises(InputError, match=words):
        load_dinov2(write(tmp_path, weights), ARGS)


def test_official_network_has_the_published_size():
    with torch.device("meta"):
        network = DinoVisionTransformer(**VITL14_REG)
    assert sum(value.numel() for value in network.parameters()) == 304_372_736
    assert network.pos_embed.shape == (1, 1370, 1024) and network.num_prefix_tokens == 5


def test_condition_is_normalised_colour_in_and_normalised_tokens_out(tmp_path):
    """The steps of TRELLIS by hand; alpha is not looked at."""
    encoder = DinoImageEncoder(load_dinov2(write(tmp_path, recorded("weight")), ARGS), image_size=56)
    crops = torch.rand(2, 4, 56, 56, generator=torch.Generator().manual_seed(0))
    images = crops[:, :3].clone()
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        images[:, channel] = (images[:, channel] - mean) / std
    x = encoder.trunk(images)
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(encoder(crops), expected, atol=1e-5, rtol=1e-5)
    assert encoder(crops).shape == (2, 1 + 4 + 16, 16)
    crops[:, 3] = 0
    torch.testing.assert_close(encoder(crops), expected, atol=1e-5, rtol=1e-5)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="swiglu"):
        DinoVisionTransformer(**{**ARGS, "ffn_layer": "swiglu"})
