"""Which encoder a model has."""

import json

import pytest
import torch

from mdtdist import ImageTo3D
from mdtdist.cli.main import main
from mdtdist.conditioning import PatchTokenEncoder
from mdtdist.conditioning.dinov2 import DinoImageEncoder
from mdtdist.errors import InputError
from mdtdist.models import build, save
from mdtdist.pipelines import PipelineConfig
from mdtdist.pipelines.encoders import find_image_encoder
from tests.pipelines.official import write_official
from tests.pipelines.test_image_to_3d import picture
from tests.pipelines.tiny import ARGS, write_pipeline


def named(folder, name: str) -> PipelineConfig:
    """A model whose image encoder has this name."""
    content = json.loads((write_pipeline(folder) / "pipeline.json").read_text())
    content["args"]["image_cond_model"] = name
    (folder / "pipeline.json").write_text(json.dumps(content))
    return PipelineConfig.read(folder)


def test_encoder_of_an_official_folder_makes_the_crop_and_the_tokens(tmp_path):
    pipe = ImageTo3D.from_pretrained(write_official(tmp_path / "official", with_encoder=True))
    assert isinstance(pipe.encoder, DinoImageEncoder)
    crop = pipe.prepare(picture())
    assert crop.shape == (4, pipe.encoder.image_size, pipe.encoder.image_size)
    tokens = pipe.encode(crop[None])
    side = pipe.encoder.image_size // pipe.encoder.trunk.patch_size
    assert tokens.shape[1] == pipe.encoder.trunk.num_prefix_tokens + side**2
    assert pipe(picture(), steps=1).logits.isfinite().all()
    with pytest.raises(InputError, match="the crop has shape"):
        pipe(torch.zeros(4, 20, 20))


def test_patch_tokens_of_a_folder_condition_its_flows(tmp_path, capsys):
    folder, encoder = (
        write_pipeline(tmp_path, students=False),
        PatchTokenEncoder(channels=96, stem_channels=[4, 4, 4, 4]),
    )
    encoder.save(folder / "ckpts" / "image_tokens")
    for role in ("sparse_structure_flow_model", "slat_flow_model"):
        name, args = ARGS[role]
        save(build(name, **args | {"cond_channels": 96}), folder / "ckpts" / role)
    pipe = ImageTo3D.from_pretrained(folder)
    crop = pipe.prepare(picture())
    assert crop.shape == (4, 224, 224)
    tokens = pipe.encode(crop[None])
    assert torch.equal(tokens, encoder(crop[None])) and tokens.shape == (1, 196, 96) and not tokens.requires_grad
    assert pipe(picture(), steps=1).image is not None
    assert main(["info", str(folder), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["networks"]["image_cond_model"]
    assert described["class"] == "PatchTokenEncoder"
    assert described["parameters"] == sum(p.numel() for p in encoder.parameters())


def test_published_encoder_comes_from_the_folder_or_the_hub(tmp_path, monkeypatch):
    config = named(tmp_path, "dinov2_vitl14_reg")
    asked = []

    def snapshot(source, patterns, *, offline):
        asked.append((str(source), patterns, offline))
        raise InputError("no network")

    monkeypatch.setattr("mdtdist.pipelines.encoders.snapshot", snapshot)
    with pytest.raises(InputError, match="ckpts/dinov2_vitl14_reg.safetensors, and from the hub: no network"):
        find_image_encoder(config, offline=True)
    assert asked == [("facebook/dinov2-with-registers-large", ["model.safetensors"], True)]
    (tmp_path / "ckpts" / "dinov2_vitl14_reg.safetensors").write_bytes(b"")  # found, and read when it is first used
    source = find_image_encoder(config)
    assert source.image_size == 518 and len(asked) == 1
    with pytest.raises(InputError, match="dinov2_vitl14_reg.safetensors"):
        source.load(torch.device("cpu"))


def test_unknown_encoders_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="'resnet50' is unknown; expected 'dinov2_vitl14_reg' or a path"):
        find_image_encoder(named(tmp_path, "resnet50"))
    with pytest.raises(InputError, match="describes no image encoder"):
        find_image_encoder(named(tmp_path, "ckpts/slat_decoder_gs"))
