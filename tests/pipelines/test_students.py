"""Students from elsewhere beside the teacher of a model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from mdtdist.errors import InputError
from mdtdist.models import load, save
from mdtdist.pipelines import PipelineConfig, SamplerConfig
from mdtdist.pipelines.students import with_students
from tests.pipelines.official import perturbed, write_official
from tests.pipelines.tiny import random_network, write_pipeline

STRUCTURE, LATENT = "sparse_structure_flow_model", "slat_flow_model"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return PipelineConfig.read(write_official(tmp_path_factory.mktemp("official") / "model"))


def bare(path, role):
    """A student as one safetensors file, without a json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(perturbed(role), path)
    return path


def output_weight(config, role):
    return load(config.files(role)).out_layer.weight


def test_single_files_are_told_apart_by_their_tensors(config, tmp_path):
    files = [bare(tmp_path / "a.safetensors", LATENT), bare(tmp_path / "b.safetensors", STRUCTURE)]
    both = with_students(config, files)
    assert both.flows == ("student", "teacher")
    for role in (STRUCTURE, LATENT):
        assert torch.equal(output_weight(both, f"{role}_student"), perturbed(role)["out_layer.weight"])
        assert not torch.equal(output_weight(both, role), perturbed(role)["out_layer.weight"])
    plain = SamplerConfig(steps=1, cfg_strength=0.0, sigma_min=1e-5)
    assert both.samplers["student", "structure"] == both.samplers["student", "latent"] == plain


def test_the_teacher_stands_in_for_a_stage_without_student(config, tmp_path):
    one = with_students(config, [bare(tmp_path / "a.safetensors", STRUCTURE)])
    assert one.models[f"{LATENT}_student"] == config.models[LATENT]
    assert one.samplers["student", "latent"] == config.samplers["teacher", "latent"]
    assert one.samplers["student", "structure"].steps == 1


def test_a_folder_of_files_without_description(config, tmp_path):
    bare(tmp_path / "run/ss/model.safetensors", STRUCTURE)
    bare(tmp_path / "run/slat/model.safetensors", LATENT)
    assert with_students(config, [tmp_path / "run"]).flows == ("student", "teacher")
    bare(tmp_path / "run/slat/older.safetensors", LATENT)
    with pytest.raises(InputError, match="model.safetensors and .*older.safetensors are both students of the latent"):
        with_students(config, [tmp_path / "run"])


def test_a_folder_of_checkpoints_is_read_by_class(config, tmp_path):
    save(random_network(STRUCTURE, 7), tmp_path / "student")
    save(random_network("slat_decoder_gs", 7), tmp_path / "decoder")
    bare(tmp_path / "checkpoint/average.safetensors", STRUCTURE)  # without a json: not what the folder shows
    found = with_students(config, [tmp_path])
    assert found.files(f"{STRUCTURE}_student").config == (tmp_path / "student.json").absolute()


def test_students_of_another_model_bring_their_samplers(tmp_path):
    config = PipelineConfig.read(write_pipeline(tmp_path / "teacher", students=False))
    folder = write_pipeline(tmp_path / "student")
    content = json.loads((folder / "pipeline.json").read_text())
    content["args"]["student"]["slat_sampler"]["params"]["steps"] = 2
    (folder / "pipeline.json").write_text(json.dumps(content))
    found = with_students(config, [folder])
    assert found.samplers["student", "latent"].steps == 2
    expected = load(folder / "ckpts" / f"{LATENT}_student").out_layer.weight
    assert torch.equal(output_weight(found, f"{LATENT}_student"), expected)
    content["args"]["slat_normalization"]["mean"][0] += 1
    (folder / "pipeline.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="slat_mean of .*student differs"):
        with_students(config, [folder])


def test_a_model_with_one_pair_of_flows_gives_that(config, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(config.folder, folder)
    found = with_students(config, [folder])
    assert found.files(f"{LATENT}_student").weights.is_relative_to(folder)
    assert found.samplers["student", "latent"].steps == 1  # its own 25 are those of a teacher


def test_saved_students_make_a_whole_model(config, tmp_path):
    files = [bare(tmp_path / f"{role}.safetensors", role) for role in (STRUCTURE, LATENT)]
    saved = with_students(config, files).save_pretrained(tmp_path / "whole")
    assert PipelineConfig.read(saved.folder).flows == ("student", "teacher")
    assert saved.models[f"{LATENT}_student"] == f"ckpts/{LATENT}_student"
    assert torch.equal(output_weight(saved, f"{LATENT}_student"), perturbed(LATENT)["out_layer.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("t_embedder.mlp.0.bias"), r"lacks the tensor 't_embedder.mlp.0.bias' \(24,\)"),
        (
            lambda tensors: tensors.update({"out_layer.bias": torch.zeros(3)}),
            r"'out_layer.bias' has shape \(3,\); its network's json expects \(8,\)",
        ),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "has the tensor 'extra'"),
    ],
)
def test_a_student_that_does_not_fit_names_the_tensor_and_the_file(config, tmp_path, change, words):
    tensors = perturbed(LATENT)
    change(tensors)
    save_file(tensors, tmp_path / "student.safetensors")
    with pytest.raises(InputError, match=f"student.safetensors.*{words}"):
        with_students(config, [tmp_path / "student.safetensors"])


def test_what_is_no_student_says_so(config, tmp_path):
    save_file({"foreign": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match=r"no flow of this model: none of its tensors \(foreign"):
        with_students(config, [tmp_path / "foreign.safetensors"])
    save(random_network("slat_decoder_gs", 0), tmp_path / "decoder")
    with pytest.raises(InputError, match="decoder.json describes 'SLatGaussianDecoder'"):
        with_students(config, [tmp_path / "decoder.safetensors"])
    (tmp_path / "student.pt").write_bytes(b"")
    with pytest.raises(InputError, match="student.pt is a pickle.*mdtdist convert"):
        with_students(config, [tmp_path / "student.pt"])
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles" / "denoiser_step0000001.pt").write_bytes(b"")
    with pytest.raises(InputError, match="no student flows; it has denoiser_step0000001.pt: use 'mdtdist convert'"):
        with_students(config, [tmp_path / "pickles"])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="notes.txt is no student"):
        with_students(config, [tmp_path / "notes.txt"])


def test_two_students_of_one_stage_are_refused(config, tmp_path):
    files = [bare(tmp_path / f"{name}.safetensors", STRUCTURE) for name in "ab"]
    with pytest.raises(InputError, match="both students of the structure flow"):
        with_students(config, files)
