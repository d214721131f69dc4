"""Image towers: public sizes, layouts and activations; the recorded numbers are replayed in ``tests/parity``."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.towers import (
    LAYOUTS,
    ClipTower,
    EvaTower,
    SlipTower,
    TowerConfig,
    load_tower,
    openclip_names,
    tower_config,
)
from mdtdist.evaluation.encoders.transforms import ImageTransform, to_pictures

HERE = Path("tower.bin")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _config(**changes):
    base = {"image_size": 28, "patch_size": 14, "channels": 64, "depth": 2, "num_heads": 1, "hidden": 80}
    return TowerConfig(**{**base, "embed_channels": 12, **changes})


def _big(patch_size, channels, depth, hidden, embed_channels):
    return TowerConfig(
        image_size=224,
        patch_size=patch_size,
        channels=channels,
        depth=depth,
        num_heads=12 if channels == 768 else 16,
        hidden=hidden,
        embed_channels=embed_channels,
    )


# Numbers of parameters from the published descriptions; SLIP's is without its projection.
PUBLIC = {
    "clip": (_big(14, 1664, 48, 8192, 1280), 1_844_907_264),
    "eva": (_big(14, 1792, 64, 15360, 1024), 4_350_556_928),
    "slip": (_big(16, 768, 12, 3072, 512), 85_798_656 + 768 * 512),
}


@pytest.mark.parametrize("kind", PUBLIC)
def test_public_towers_have_their_size_and_are_recognised(kind):
    config, num_parameters = PUBLIC[kind]
    with torch.device("meta"):
        network = LAYOUTS[kind].network(config)
    assert sum(value.numel() for value in network.parameters()) == num_parameters
    assert all(name.startswith(LAYOUTS[kind].prefixes) for name in network.state_dict())
    assert tower_config(kind, network.state_dict(), path=HERE) == config


def _weights(kind, config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = LAYOUTS[kind].network(config).state_dict()
    return {name: 0.3 * torch.randn(value.shape, generator=generator) for name, value in shapes.items()}


@pytest.mark.parametrize(("kind", "network"), [("clip", ClipTower), ("eva", EvaTower), ("slip", SlipTower)])
def test_towers_load_beside_text_and_refuse_what_is_missing(kind, network):
    tensors = _weights(kind, _config())
    loaded = load_tower(kind, {**tensors, "text.ln_final.weight": torch.ones(3)}, path=HERE)
    assert isinstance(loaded, network) and loaded.config == _config() and not loaded.training
    assert loaded(torch.randn(2, 3, 28, 28)).shape == (2, 12)
    gone = next(name for name in tensors if name.endswith("blocks.1.norm2.bias") or name.endswith("1.ln_2.bias"))
    with pytest.raises(InputError, match=re.escape(f"tower.bin lacks the tensor '{gone}'")):
        load_tower(kind, {name: value for name, value in tensors.items() if name != gone}, path=HERE)
    other = {"clip": "eva", "eva": "slip", "slip": "clip"}[kind]
    with pytest.raises(InputError, match=f"no image tower of the kind '{other}'"):
        load_tower(other, tensors, path=HERE)


def test_a_width_whose_heads_nobody_knows_is_refused():
    with pytest.raises(InputError, match="100 channels"):
        load_tower("clip", _weights("clip", _config(channels=100)), path=HERE)


def _transformers_layout(tensors):
    """The same network as ``transformers`` stores it (the table of the two layouts, written down a second time)."""
    result = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    plain = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    }
    for name, value in tensors.items():
        if name in plain:
            result[plain[name]] = value
        elif name == "visual.proj":
            result["visual_projection.weight"] = value.T
        elif "in_proj" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                moved = name.replace("attn.in_proj_", f"self_attn.{part}_proj.")
                result[moved.replace("visual.transformer.resblocks", "vision_model.encoder.layers")] = rows
        else:
            for old, new in (
                ("visual.ln_pre", "vision_model.pre_layrnorm"),
                ("visual.ln_post", "vision_model.post_layernorm"),
                ("visual.transformer.resblocks", "vision_model.encoder.layers"),
                (".ln_1.", ".layer_norm1."),
                (".ln_2.", ".layer_norm2."),
                (".attn.out_proj", ".self_attn.out_proj"),
                (".c_fc.", ".fc1."),
                (".c_proj.", ".fc2."),
            ):
                name = name.replace(old, new)
            result[name] = value
    return result


def test_transformers_layout_is_the_same_network():
    tensors = _weights("clip", _config())
    stored = _transformers_layout(tensors)
    assert openclip_names(stored, path=HERE).keys() - tensors.keys() == {"vision_model.embeddings.position_ids"}
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    expected = load_tower("clip", tensors, path=HERE)(images)
    assert torch.equal(load_tower("clip", stored, path=HERE)(images), expected)
    with pytest.raises(InputError, match="lacks the tensor 'vision_model.encoder.layers.1.self_attn.k_proj.weight'"):
        del stored["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
        load_tower("clip", stored, path=HERE)


def test_activations():
    towers = {
        name: load_tower("clip", _weights("clip", _config()), path=HERE, activation=name)
        for name in ("gelu", "quick_gelu")
    }
    x = torch.tensor([[0.7] * 64])
    for name, tower in towers.items():
        mlp = tower.visual.transformer["resblocks"][0].mlp
        h = mlp.c_fc(x)
        gelu = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        active = h * torch.sigmoid(1.702 * h) if name == "quick_gelu" else gelu
        torch.testing.assert_close(mlp(x), mlp.c_proj(active))
    images = torch.randn(1, 3, 28, 28)
    assert not torch.allclose(towers["gelu"](images), towers["quick_gelu"](images), atol=1e-4)


@pytest.mark.parametrize(("kind", "eps"), [("clip", 1e-5), ("eva", 1e-6), ("slip", 1e-6)])
def test_norms_have_their_eps(kind, eps):
    # The recorded numbers tell 1e-5 from 1e-6 in SLIP's tower by less than their tolerance.
    norms = [part for part in LAYOUTS[kind].network(_config()).modules() if isinstance(part, torch.nn.LayerNorm)]
    assert len(norms) >= 5 and all(norm.eps == eps for norm in norms)


def test_patches_are_taken_as_a_convolution_takes_them():
    tower = load_tower("clip", _weights("clip", _config(image_size=42)), path=HERE)
    seen = []
    tower.visual.ln_pre.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = torch.randn(2, 3, 42, 42)
    tower(images)
    patches = tower.visual.conv1(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen[0][:, 1:], patches + tower.visual.positional_embedding[1:], atol=1e-5, rtol=1e-5)


def test_a_picture_of_the_right_size_is_only_normalised():
    colors = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    values = ImageTransform(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))(Image.fromarray(colors))
    expected = (colors / 255 - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    np.testing.assert_allclose(values.numpy(), expected.transpose(2, 0, 1), atol=1e-6)


def test_the_shorter_side_is_resized_and_the_middle_cut_out():
    colors = np.random.default_rng(0).integers(0, 256, (100, 301, 3), dtype=np.uint8)
    values = ImageTransform(resize=50, crop=40, mean=(0, 0, 0), std=(1, 1, 1))(Image.fromarray(colors))
    small = Image.fromarray(colors).resize((150, 50), Image.Resampling.BICUBIC)  # 150.5 is cut off
    assert values.shape == (3, 40, 40)
    np.testing.assert_allclose(values[0].numpy(), np.asarray(small)[5:45, 55:95, 0] / 255, atol=1e-6)


@pytest.mark.parametrize(("background", "expected"), [(1.0, 0.75), (0.0, 0.25), (None, 0.5)])
def test_transparency_shows_the_background_or_is_dropped(background, expected):
    picture = Image.new("RGBA", (8, 8), (128, 128, 128, 128))
    transform = ImageTransform(resize=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1), background=background)
    assert transform(picture).mean().item() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "CMYK", "1", "I;16"])
def test_pictures_of_any_mode_are_taken(mode):
    assert ImageTransform(resize=8, crop=8)(Image.new(mode, (9, 12))).shape == (3, 8, 8)


def test_colours_become_8_bit_pictures_by_rounding():
    colors = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7, -0.2]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert np.asarray(to_pictures(colors)[0])[0, :, 0].tolist() == [0, 0, 1, 255, 255, 0]
