"""Students that embed the guidance or the interval run in a pipeline and in the benchmark."""

from dataclasses import replace

import pytest
import torch

from mdtdist import ImageTo3D
from mdtdist.evaluation.model_benchmark.methods import Method, sample_latent, sample_structure
from mdtdist.models import load, save, velocity_field, with_extra_embeddings
from mdtdist.pipelines import PipelineConfig, SamplerConfig
from mdtdist.pipelines.students import with_students
from tests.pipelines.test_image_to_3d import picture
from tests.pipelines.tiny import write_pipeline

FLOWS = ("sparse_structure_flow_model", "slat_flow_model")


def _teach(network):
    """Make the extra embedders be heard."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.extra_embedders.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose students embed both, with a guidance weight of 2."""
    folder = write_pipeline(tmp_path_factory.mktemp("embedded"))
    for role in FLOWS:
        path = folder / "ckpts" / f"{role}_student"
        save(_teach(with_extra_embeddings(load(path), ["interval", "guidance"])), path)
    config = PipelineConfig.read(folder)
    student = SamplerConfig(steps=1, cfg_strength=2.0)
    changed = {("student", "structure"): student, ("student", "latent"): student}
    replace(config, samplers={**config.samplers, **changed}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(folder):
    return ImageTo3D.from_pretrained(folder)


def test_a_step_costs_one_evaluation_and_is_told_interval_and_weight(pipe):
    cond = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(1))
    noise = pipe.structure_noise([torch.Generator().manual_seed(0)])
    run = pipe.sample_structure(cond, noise, flows="student", steps=2)
    field = velocity_field(pipe.network(f"{FLOWS[0]}_student"), cond)
    with torch.no_grad():
        x = noise - 0.5 * field(noise, torch.ones(1), r=0.5, w=2.0)
        x = x - 0.5 * field(x, torch.full((1,), 0.5), r=0.0, w=2.0)
    torch.testing.assert_close(run.x, x)
    assert run.num_evaluations == 2


def test_the_weight_comes_from_the_model_or_the_call(pipe):
    default, same, other = (
        pipe(picture(), decoders=["gs"], **options) for options in ({}, {"cfg_strength": 2.0}, {"cfg_strength": 0.0})
    )
    assert default.nfe == other.nfe == {"structure": 1, "latent": 1}
    assert torch.equal(default.logits, same.logits)
    assert not torch.equal(default.logits, other.logits)


@pytest.mark.parametrize("fusion", ["stochastic", "multidiffusion"])
def test_views_are_told_too(pipe, fusion):
    alone = pipe(picture(), steps=2, decoders=["gs"])
    views = pipe.from_views([picture(), picture()], fusion=fusion, steps=2, decoders=["gs"])
    torch.testing.assert_close(views.logits, alone.logits, atol=1e-5, rtol=1e-5)


def test_a_student_from_elsewhere_is_told_the_weight_of_the_teacher(folder, tmp_path):
    teacher = PipelineConfig.read(write_pipeline(tmp_path / "teacher", students=False))
    student = load(folder / "ckpts" / f"{FLOWS[0]}_student")
    save(student, tmp_path / "student")
    both = with_students(teacher, [tmp_path / "student.safetensors"])
    assert both.samplers["student", "structure"].cfg_strength == 2.0
    assert both.samplers["student", "structure"].steps == 1


def test_the_benchmark_runs_them_as_the_pipeline_does(pipe):
    method = Method(suffix="_student", steps=(2, 2), guided=False)
    cond = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(0)]
    noise = pipe.structure_noise(generators)
    expected = pipe.sample_structure(cond, noise, flows="student", steps=2)
    run = sample_structure(pipe, method, cond, noise)
    assert torch.equal(run.x, expected.x) and run.num_evaluations == 2
    coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], dtype=torch.int32)
    noise = pipe.latent_noise(coords, generators)
    expected = pipe.sample_latent(cond, coords, noise, flows="student", steps=2)
    assert torch.equal(sample_latent(pipe, method, cond, coords, noise).x, expected.x)
