"""The benchmark on a tiny model: methods, distances to the reference, timing, report and command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdtdist.cli.main import main
from mdtdist.data import PreparedFolder
from mdtdist.errors import InputError
from mdtdist.evaluation.model_benchmark.benchmark import QualityBenchmark, occupied_or_best
from mdtdist.evaluation.model_benchmark.methods import (
    REFERENCE,
    TEACHER,
    Method,
    add_students,
    grid_resolution,
    list_methods,
    sample_latent,
    sample_structure,
    student_suffixes,
)
from mdtdist.evaluation.model_benchmark.test_objects import load_test_objects
from mdtdist.evaluation.model_benchmark.timing import STAGES, describe_machine, measure_seconds
from mdtdist.models import load
from mdtdist.pipelines import ImageTo3D
from tests.evaluation.tiny import RESOLUTION, write_prepared
from tests.pipelines.tiny import write_pipeline

STUDENT = Method(suffix="_student", steps=(1, 1), guided=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    return write_pipeline(root / "model"), write_prepared(root / "data")


@pytest.fixture
def pipe(folders):
    return ImageTo3D.from_pretrained(folders[0])


@pytest.fixture(scope="module")
def objects(folders):
    return load_test_objects(PreparedFolder(folders[1], resolution=RESOLUTION))


def test_methods_of_the_protocol(pipe):
    names = [method.name for method in list_methods(pipe.config)]
    assert names[0] == REFERENCE.name == "teacher 25+25 guided"
    assert names[3:6] == ["teacher 1+1 guided", "teacher 25+25 unguided", "teacher 4+4 unguided"]
    assert names[8:] == ["student 1+1", "student 2+2"]
    assert list_methods(pipe.config, students=[]) == list_methods(pipe.config)[:8]
    with pytest.raises(InputError, match="no student '_x'"):
        list_methods(pipe.config, students=["_x"])


def test_without_guidance_weights_there_is_one_teacher(pipe):
    samplers = {key: replace(config, cfg_strength=0.0) for key, config in pipe.config.samplers.items()}
    assert len(list_methods(replace(pipe.config, samplers=samplers), students=[])) == 4


def test_students_of_another_folder_join(pipe, folders, tmp_path):
    other = write_pipeline(tmp_path / "other", first_seed=100)
    add_students(pipe, "paper", other)
    assert student_suffixes(pipe.config) == ["_student", "_student_paper"]
    assert list_methods(pipe.config)[-1].name == "student paper 2+2"
    found = pipe.network("slat_flow_model_student_paper").state_dict()
    expected = load(other / "ckpts" / "slat_flow_model_student").state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    assert any(
        (value != found[key]).any() for key, value in pipe.network("slat_flow_model_student").state_dict().items()
    )
    with pytest.raises(InputError, match="no student flows"):
        add_students(pipe, "none", write_pipeline(tmp_path / "teacher", students=False))


@torch.no_grad()
def test_stages_are_those_of_the_pipeline(pipe, objects):
    """Also with another network time: the flow of the mini model takes 60 t."""
    pipe.config = replace(pipe.config, time_scale=60.0)
    generator = torch.Generator().manual_seed(0)
    cond, noise = pipe.encode(objects[0].crop[None]), torch.randn(1, 8, 4, 4, 4, generator=generator)
    for method, flows, strength in ((Method(suffix=TEACHER, steps=(3, 2), guided=True), "teacher", None),
                                    (Method(suffix=TEACHER, steps=(3, 2), guided=False), "teacher", 0.0),
                                    (replace(STUDENT, steps=(3, 2)), "student", None)):  # fmt: skip
        found = sample_structure(pipe, method, cond, noise)
        expected = pipe.sample_structure(cond, noise, flows=flows, steps=3, cfg_strength=strength)
        assert torch.equal(found.x, expected.x) and found.num_evaluations == expected.num_evaluations
        coords = torch.argwhere(occupied_or_best(pipe.decode_structure(found.x))).int()
        rows = torch.randn(len(coords), 8, generator=generator)
        latent = sample_latent(pipe, method, cond, coords, rows)
        expected = pipe.sample_latent(cond, coords, rows, flows=flows, steps=2, cfg_strength=strength)
        assert torch.equal(latent.x, expected.x) and latent.num_evaluations == expected.num_evaluations


def test_an_empty_structure_gets_its_most_likely_voxel():
    logits = torch.full((2, 2, 2, 2), -1.0)
    logits[0, 1, 0, 1] = -0.5
    logits[1, 0, 0, 0] = 2.0
    assert occupied_or_best(logits).nonzero().tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]


def test_reference_is_at_distance_zero_and_the_student_is_not(pipe, objects):
    benchmark = QualityBenchmark(pipe, objects[:2])
    reference, student = benchmark.measure(REFERENCE), benchmark.measure(STUDENT)
    for name in ("structure_distance", "latent_distance", "reference_l1"):
        assert (reference.scores[name] == 0).all() and (student.scores[name] > 1e-3).all()
    assert (reference.scores["structure_iou"] == 1).all() and student.scores["structure_iou"].min() < 1
    assert student.nfe == (1, 1)
    assert reference.nfe[0] == 25 + sum(step.num_evaluations == 2 for step in _reference_steps(pipe, objects))
    assert student.features.shape == (8, 1280) == benchmark.true_features().shape
    assert student.pictures.shape == (2, 32, 32, 3)
    again = QualityBenchmark(pipe, objects[1:2]).measure(STUDENT)  # alone, and without the reference before it
    for name in ("iou", "chamfer", "structure_distance", "latent_distance", "image_l1"):
        assert again.scores[name][0] == pytest.approx(student.scores[name][1], rel=1e-3, abs=1e-5)


def _reference_steps(pipe, objects):
    cond = pipe.encode(objects[0].crop[None])
    return sample_structure(pipe, REFERENCE, cond, torch.randn(1, 8, 4, 4, 4)).steps


def test_latent_distance_is_taken_on_the_reference_structure(pipe, objects):
    """A method that differs in the structure flow alone has the reference's latents."""
    benchmark = QualityBenchmark(pipe, objects[:1])
    benchmark.measure(REFERENCE)
    scores = benchmark.measure(Method(suffix=TEACHER, steps=(1, 25), guided=True)).scores
    assert scores["structure_distance"][0] > 1e-3 and scores["latent_distance"][0] == 0


def test_data_of_another_resolution_is_refused(pipe, objects):
    wrong = [replace(item, occupancy=torch.ones(4, 4, 4, dtype=torch.bool)) for item in objects]
    with pytest.raises(InputError, match=r"8\^3 voxels and the data has 4\^3"):
        QualityBenchmark(pipe, wrong)


def test_seconds_per_stage(pipe, objects):
    teacher = Method(suffix=TEACHER, steps=(4, 4), guided=True)
    seconds = measure_seconds(pipe, objects[:2], [teacher, STUDENT])
    assert list(seconds) == [teacher.name, STUDENT.name]
    assert all(len(seconds[name][stage]) == 2 and min(seconds[name][stage]) > 0 for name in seconds for stage in STAGES)
    assert np.sum(seconds[teacher.name]["latent"]) > np.sum(seconds[STUDENT.name]["latent"])
    assert "torch" in describe_machine(pipe.device)
    assert grid_resolution(pipe) == RESOLUTION


def test_command_writes_page_numbers_and_pictures(folders, tmp_path, capsys):
    model, data = map(str, folders)
    arguments = ["--model", model, "--data", data, "--out", str(tmp_path / "results"), "--name", "tiny", "--limit", "2"]
    assert main(["evaluate", *arguments, "--timed", "1"]) == 0
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["tiny.json", "tiny.md", "tiny_first.png", "tiny_worst.png"]
    record = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert len(record["methods"]) == 10 and len(record["objects"]) == 2 and record["num_pictures"] == 8
    student = record["methods"]["student 1+1"]
    assert student["nfe"] == {"structure": 1, "latent": 1} and len(student["scores"]["iou"][0]) == 2
    assert record["methods"]["teacher 1+1 guided"]["nfe"] == {"structure": 2, "latent": 2}
    page = (tmp_path / "results" / "tiny.md").read_text()
    for words in (
        "mini-sweethome-test-v1",
        "student 1+1 beats teacher 1+1 guided",
        "*kernel ridge",
        "A800",
        "8 pictures",
    ):
        assert words in page
    assert f"--data {data}" in page and "written: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "0"], "limit is 0"),
        (["--seeds", "a"], "seeds is 'a'"),
        (["--also", "paper"], "expected LABEL=FOLDER"),
        (["--model", "none"], "'none' is unknown"),
        (["--data", "missing"], "no metadata.csv"),
    ],
)
def test_wrong_arguments_are_one_sentence(folders, tmp_path, capsys, arguments, words):
    model, data = map(str, folders)
    base = ["evaluate", "--model", model, "--data", data, "--out", str(tmp_path / "out")]
    assert main([*base, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
