"""``pipeline.json`` of the official layout and of our own models."""

import json
import math
import shutil

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.models import load
from mdtdist.pipelines import PipelineConfig, SamplerConfig, shipped_models
from tests.pipelines.official import MEAN, NAMES, STD, pipeline_json, write_official
from tests.pipelines.tiny import random_network, write_pipeline


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("official") / "model")


def rewritten(folder, target, change):
    """A copy of a model folder whose ``pipeline.json`` was changed."""
    shutil.copytree(folder, target)
    content = json.loads((target / "pipeline.json").read_text())
    change(content["args"])
    (target / "pipeline.json").write_text(json.dumps(content))
    return target


def test_official_folder_is_understood(official):
    config = PipelineConfig.read(official)
    assert config.name == "TrellisImageTo3DPipeline" and config.image_cond_model == "dinov2_vitl14_reg"
    assert config.flows == ("teacher",) and config.decoders == ("slat_decoder_gs",) and config.time_scale == 1000
    assert config.slat_mean == tuple(MEAN) and config.slat_std == tuple(STD)
    expected = SamplerConfig(steps=25, cfg_strength=5.0, cfg_interval=(0.5, 1.0), rescale_t=3.0, sigma_min=1e-5)
    assert config.samplers["teacher", "structure"] == config.samplers["teacher", "latent"] == expected
    assert config.checkpoint_roles() == list(NAMES)
    network = load(config.files("slat_flow_model"))
    weight = network.blocks[0].self_attn.to_out.weight
    stored = random_network("slat_flow_model", 3).blocks[0].self_attn.to_out.weight.half()
    assert torch.equal(weight, stored.to(weight.dtype))


def test_official_content_is_written_as_it_was_read(official):
    assert json.loads(json.dumps(PipelineConfig.read(official).to_json())) == pipeline_json()


def test_shipped_model_is_written_as_it_was_read():
    folder = shipped_models()["mini"]
    config = PipelineConfig.read(folder)
    assert json.loads(json.dumps(config.to_json())) == json.loads((folder / "pipeline.json").read_text())
    assert config.checkpoint_roles()[-1] == "image_cond_model"


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ({}, SamplerConfig(steps=50, rescale_t=1.0, cfg_strength=3.0, cfg_interval=(0.0, 1.0))),
        ({"name": "FlowEulerCfgSampler", "params": {"steps": 12, "cfg_strength": 7.5}}, SamplerConfig(
            steps=12, cfg_strength=7.5)),
        ({"name": "FlowEulerSampler", "params": {"steps": 2}}, SamplerConfig(steps=2, cfg_strength=0.0)),
        ({"args": {"sigma_min": 1e-3}}, SamplerConfig(sigma_min=1e-3)),
    ],
)  # fmt: skip
def test_samplers_and_their_defaults(sampler, expected):
    assert SamplerConfig.from_json(sampler) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda args: args["slat_sampler"].update(name="Heun"), "sampler 'Heun' is unknown"),
        (lambda args: args["slat_sampler"]["params"].update(cfg_scale=3), r"unknown parameters \['cfg_scale'\]"),
        (lambda args: args["slat_sampler"]["params"].update(steps=0), "steps is 0; expected a whole number"),
        (lambda args: args["slat_sampler"]["params"].update(cfg_interval=[1]), "expected two times"),
        (lambda args: args["slat_sampler"]["params"].update(rescale_t="3"), "rescale_t is '3'; expected a number"),
        (lambda args: args["slat_normalization"].update(std=[1.0]), "8 means and 1 deviations"),
        (lambda args: args["slat_normalization"].update(mean=[math.nan] * 8), "no finite number"),
        (lambda args: args.pop("slat_normalization"), "KeyError: 'slat_normalization'"),
        (lambda args: args.pop("image_cond_model"), "one of image_cond_model and text_cond_model"),
        (lambda args: args.update(models=["a"]), "does not describe a model"),
        (lambda args: args["models"].update(slat_decoder_gs=3), "models holds something that is no path"),
        (lambda args: args["models"].pop("sparse_structure_decoder"), "lacks the models sparse_structure_decoder"),
        (lambda args: args["models"].pop("slat_decoder_gs"), "slat_decoder_gs or slat_decoder_mesh or slat_decoder_rf"),
        (lambda args: args["models"].pop("slat_flow_model"), "sparse_structure_flow_model, slat_flow_model"),
        (lambda args: args["models"].update(slat_flow_model="ckpts/x"), "names ckpts/x.json, which is missing"),
    ],
)
def test_broken_descriptions_name_the_file_and_the_cause(official, tmp_path, change, words):
    folder = rewritten(official, tmp_path / "broken", change)
    with pytest.raises(InputError, match=f"broken/pipeline.json.*{words}"):
        PipelineConfig.read(folder)


def test_a_pipeline_of_another_kind_is_refused(official, tmp_path):
    folder = rewritten(official, tmp_path / "other", lambda args: None)
    content = json.loads((folder / "pipeline.json").read_text())
    (folder / "pipeline.json").write_text(json.dumps(content | {"name": "Trellis2ImageTo3DPipeline"}))
    with pytest.raises(InputError, match="'Trellis2ImageTo3DPipeline' is unknown"):
        PipelineConfig.read(folder)
    (folder / "pipeline.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="does not describe a model"):
        PipelineConfig.read(folder)


def test_saved_folder_is_equal_to_the_one_read(official, tmp_path):
    saved = PipelineConfig.read(official).save_pretrained(tmp_path / "copy")
    assert saved == PipelineConfig.read(official) and saved.folder == tmp_path / "copy"
    names = sorted(path.relative_to(official) for path in official.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(saved.folder) for path in saved.folder.rglob("*") if path.is_file())
    for base in NAMES.values():
        name = f"{base}.safetensors"
        assert (saved.folder / name).read_bytes() == (official / name).read_bytes()


def test_given_networks_replace_those_read_and_absolute_paths_come_along(official, tmp_path):
    config = PipelineConfig.read(official)
    other = random_network("slat_flow_model", 11)
    outside = PipelineConfig.read(write_pipeline(tmp_path / "outside"))
    path = str(outside.files("sparse_structure_decoder").weights.with_suffix(""))
    changed = PipelineConfig(**{**vars(config), "models": {**config.models, "sparse_structure_decoder": path}})
    saved = changed.save_pretrained(tmp_path / "new", networks={"slat_flow_model": other})
    assert saved.models["sparse_structure_decoder"] == "ckpts/sparse_structure_decoder"
    assert saved.models["slat_flow_model"] == NAMES["slat_flow_model"]
    again = load(saved.files("slat_flow_model"))
    assert torch.equal(again.out_layer.weight, other.out_layer.weight)


def test_a_new_description_is_saved_with_all_its_networks(official, tmp_path):
    config = PipelineConfig(
        models=dict(NAMES),
        samplers=PipelineConfig.read(official).samplers,
        slat_mean=tuple(MEAN),
        slat_std=tuple(STD),
        image_cond_model="dinov2_vitl14_reg",
    )
    networks = {role: random_network(role, 0) for role in NAMES}
    assert config.save_pretrained(tmp_path / "new", networks=networks).flows == ("teacher",)
    networks.pop("slat_decoder_gs")
    with pytest.raises(InputError, match="slat_dec_gs_swin8_B_64l8gs32_fp16.json, which is missing"):
        config.save_pretrained(tmp_path / "incomplete", networks=networks)


def test_our_own_image_encoder_is_copied_and_samplers_of_students_kept(tmp_path):
    config = PipelineConfig.read(write_pipeline(tmp_path / "model"))
    saved = config.save_pretrained(tmp_path / "copy")
    assert saved == config and (tmp_path / "copy/ckpts/image_tokens.safetensors").is_file()


def test_a_place_that_cannot_be_written_is_wrong_input(official, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        PipelineConfig.read(official).save_pretrained(tmp_path / "file" / "model")
