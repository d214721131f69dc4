"""ULIP and Uni3D: every public architecture is recognised from its shapes and takes exactly the public tensors.

The recorded numbers of small ones are replayed in ``tests/parity``.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.ulip import UlipConfig, UlipPointModel, load_ulip, ulip_config
from mdtdist.evaluation.encoders.uni3d import Uni3DConfig, Uni3DPointModel, load_uni3d, uni3d_config

PUBLIC = json.loads((Path(__file__).parents[1] / "data" / "public_layouts.json").read_text())
HERE = Path("checkpoint.pt")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _ulip(in_channels, depth, embed_channels):
    return UlipConfig(
        in_channels=in_channels,
        channels=384,
        depth=depth,
        num_heads=6,
        hidden=1536,
        group_channels=256,
        embed_channels=embed_channels,
    )


def _uni3d(channels, depth, num_heads, hidden, feed_forward, fused):
    return Uni3DConfig(
        channels=channels,
        depth=depth,
        num_heads=num_heads,
        hidden=hidden,
        feed_forward=feed_forward,
        fused=fused,
        group_channels=512,
        embed_channels=1024,
    )


CONFIGS = {
    "ulip1_pointbert": _ulip(3, 12, 512),
    "ulip2_pointbert": _ulip(6, 18, 1280),
    "uni3d_t": _uni3d(192, 12, 3, 512, "packed", True),
    "uni3d_s": _uni3d(384, 12, 6, 1024, "packed", True),
    "uni3d_b": _uni3d(768, 12, 12, 2048, "normed", False),
    "uni3d_l": _uni3d(1024, 24, 16, 2730, "normed", False),
    "uni3d_g": _uni3d(1408, 40, 16, 6144, "gelu", True),
}


def _on_meta(config):
    with torch.device("meta"):
        return UlipPointModel(config) if isinstance(config, UlipConfig) else Uni3DPointModel(config)


def _public_tensors(name):
    """Shapes of the public file, which take no memory."""
    unused = {key: torch.empty(shape, device="meta") for key, shape in PUBLIC[name]["unused"].items()}
    return {**_on_meta(CONFIGS[name]).state_dict(), **unused}


@pytest.mark.parametrize("name", CONFIGS)
def test_tensors_are_those_of_the_public_checkpoint(name):
    tensors = _public_tensors(name)
    lines = "\n".join(sorted(f"{key} {list(value.shape)}" for key, value in tensors.items()))
    assert len(tensors) == PUBLIC[name]["num_keys"]
    assert hashlib.sha256(lines.encode()).hexdigest() == PUBLIC[name]["sha256"]
    parameters = [value.numel() for key, value in tensors.items() if "running_" not in key and "batches" not in key]
    assert sum(parameters) == PUBLIC[name]["num_parameters"]


@pytest.mark.parametrize("name", CONFIGS)
def test_architecture_is_read_off_the_shapes(name):
    read = ulip_config if name.startswith("ulip") else uni3d_config
    config = read(_public_tensors(name), path=HERE)
    assert config == CONFIGS[name]
    assert (config.num_groups, config.group_size) == (512, 32 if name.startswith("ulip") else 64)


@pytest.mark.parametrize("name", CONFIGS)
def test_public_tensors_load_and_foreign_ones_do_not(name):
    load = load_ulip if name.startswith("ulip") else load_uni3d
    tensors = _public_tensors(name)
    assert load(tensors, path=HERE).config == CONFIGS[name]
    with pytest.raises(InputError, match="does not know"):
        load({**tensors, "point_encoder.cls_head.0.weight": torch.ones(1)}, path=HERE)
    with pytest.raises(InputError, match="lacks the tensor 'point_encoder.cls_pos'"):
        load({key: value for key, value in tensors.items() if key != "point_encoder.cls_pos"}, path=HERE)


def test_towers_inside_a_ulip_file_are_passed_over():
    towers = ("visual.cls_token", "transformer.resblocks.0.ln_1.weight", "token_embedding.weight", "ln_final.bias")
    others = ("positional_embedding", "image_projection", "text_projection", "open_clip_model.visual.proj")
    beside = dict.fromkeys((*towers, *others), torch.ones(1))
    load_ulip({**_public_tensors("ulip1_pointbert"), **beside}, path=HERE)


@pytest.mark.parametrize("load", [load_ulip, load_uni3d])
def test_another_network_is_refused(load):
    with pytest.raises(InputError, match="checkpoint.pt holds no"):
        load({"visual.proj": torch.ones(2, 2)}, path=HERE)


def _random(network, seed=0):
    torch.manual_seed(seed)
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 1.5) if "norm" in name or "var" in name else torch.nn.init.normal_(
                value, std=0.2
            )
    return network


TINY_ULIP = replace(_ulip(6, 2, 8), channels=12, num_heads=2, hidden=20, group_channels=10, num_groups=9, group_size=5)
TINY_UNI3D = replace(
    _uni3d(12, 2, 2, 20, "normed", False), group_channels=10, embed_channels=8, num_groups=9, group_size=5
)


@pytest.mark.parametrize("config", [TINY_ULIP, TINY_UNI3D])
def test_embedding_ignores_row_order_but_for_the_first_row(config):
    # Row 0 starts the farthest points; the others may come in any order.
    network = _random(_on_meta(config))
    points, colors = torch.randn(2, 40, 3), torch.rand(2, 40, 3)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(39)])
    torch.testing.assert_close(network(points[:, order], colors[:, order]), network(points, colors))
    assert not torch.allclose(network(points.flip(1), colors.flip(1)), network(points, colors), atol=1e-4)


@pytest.mark.parametrize("config", [TINY_ULIP, TINY_UNI3D])
def test_embedding_sees_colours_and_a_batch_equals_one_by_one(config):
    network = _random(_on_meta(config))
    points, colors = torch.randn(2, 40, 3), torch.rand(2, 40, 3)
    whole = network(points, colors)
    torch.testing.assert_close(whole, torch.cat([network(points[i : i + 1], colors[i : i + 1]) for i in range(2)]))
    assert not torch.allclose(network(points, 1 - colors), whole, atol=1e-4)


def test_ulip1_does_not_look_at_colours():
    network = _random(_on_meta(replace(TINY_ULIP, in_channels=3)))
    points = torch.randn(1, 40, 3)
    assert torch.equal(network(points, torch.rand(1, 40, 3)), network(points))
