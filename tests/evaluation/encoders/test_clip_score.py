"""CLIP score: which activation a file needs, and what the tower sees."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.clip_score import load_clip_scorer
from mdtdist.evaluation.encoders.towers import LAYOUTS, TowerConfig


def _weights(channels=64):
    config = TowerConfig(
        image_size=28, patch_size=14, channels=channels, depth=1, num_heads=1, hidden=32, embed_channels=12
    )
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = LAYOUTS["clip"].network(config).state_dict()
    return {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in shapes.items()}


@pytest.fixture
def weights(tmp_path):
    save_file(_weights(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_equal_pictures_score_one_and_others_less(weights):
    scorer = load_clip_scorer(weights)
    pictures = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    first, second = scorer.embed(pictures), scorer.embed(pictures.flip(-1))
    assert first.shape == (3, scorer.channels) and first.dtype == torch.float32
    torch.testing.assert_close(torch.cosine_similarity(first, scorer.embed(pictures)), torch.ones(3))
    assert torch.cosine_similarity(first, second).max() < 0.999


def test_many_pictures_equal_one_by_one(weights):
    scorer = load_clip_scorer(weights)
    pictures = torch.rand(18, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(scorer.embed(pictures), torch.cat([scorer.embed(item[None]) for item in pictures]))
    assert scorer.embed(pictures[:0]).shape == (0, 12)


def test_pictures_are_normalised_with_the_statistics_of_clip(weights):
    scorer = load_clip_scorer(weights)
    seen = []
    scorer._tower.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    scorer.embed(torch.ones(1, 3, 28, 28))
    expected = [(1 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
    torch.testing.assert_close(seen[0][0, :, 5, 7], torch.tensor(expected))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}), "quick_gelu"),
        (("open_clip_config.json", {"model_cfg": {}}), "gelu"),
        (("config.json", {"vision_config": {"hidden_act": "gelu"}}), "gelu"),
        (("config.json", {"vision_config": {}}), "quick_gelu"),
        (("config.json", {"model_type": "clip_vision_model", "hidden_act": "gelu"}), "gelu"),
        (("config.json", {"model_type": "something else"}), "gelu"),  # of no use; the size says that it is not OpenAI's
    ],
)
def test_activation_comes_from_the_configuration_beside_the_file(weights, config, expected):
    weights.with_name(config[0]).write_text(json.dumps(config[1]))
    assert f"-{expected}-" in load_clip_scorer(weights).name


def test_openai_state_dicts_are_recognised(tmp_path):
    torch.save({**_weights(768), "input_resolution": torch.tensor(28)}, tmp_path / "clip.pt")
    assert "-quick_gelu-" in load_clip_scorer(tmp_path / "clip.pt").name


def test_an_activation_that_cannot_be_known_is_asked_for(tmp_path):
    save_file(_weights(768), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="does not tell its activation"):
        load_clip_scorer(tmp_path / "model.safetensors")
    name = load_clip_scorer(tmp_path / "model.safetensors", activation="gelu").name
    assert name.startswith("clip-vit-1x768-p14-28px-gelu-")


@pytest.mark.parametrize("content", ["{", "[]", '{"model_cfg": 3}', '{"vision_config": {"hidden_act": "relu"}}'])
def test_a_damaged_configuration_is_refused(weights, content):
    weights.with_name("config.json").write_text(content)
    with pytest.raises(InputError, match="config.json"):
        load_clip_scorer(weights)


def test_an_unknown_activation_is_refused(weights):
    with pytest.raises(InputError, match="'relu'"):
        load_clip_scorer(weights, activation="relu")
