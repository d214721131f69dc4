"""``mdtdist convert``: checkpoints of the TRELLIS trainer become a model folder."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mdtdist.cli.main import main
from mdtdist.models import load
from mdtdist.pipelines import PipelineConfig
from tests.pipelines.fake_hub import COMMIT, FakeHub
from tests.pipelines.official import NAMES, perturbed, write_official
from tests.pipelines.tiny import write_pipeline

STRUCTURE, LATENT = "sparse_structure_flow_model", "slat_flow_model"


@pytest.fixture
def base(tmp_path):
    return write_official(tmp_path / "teacher")


def write_run(folder, role):
    """A run folder as the trainer leaves it: seeds 1 plain, 2 averaged; older ones beside them."""
    (folder / "ckpts").mkdir(parents=True)
    for name, seed in (("denoiser_step0000002", 1), ("denoiser_ema0.9999_step0000002", 2)):
        torch.save(perturbed(role, seed=seed), folder / "ckpts" / f"{name}.pt")
        torch.save(perturbed(role, seed=9), folder / "ckpts" / f"{name[:-1]}1.pt")
    torch.save({"optimizer": {}, "step": 2}, folder / "ckpts" / "misc_step0000002.pt")
    return folder


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


@pytest.mark.parametrize(("options", "seed"), [([], 2), (["--plain"], 1)])
def test_runs_of_the_trainer_become_students(base, tmp_path, capsys, options, seed):
    runs = [write_run(tmp_path / role, role) for role in (LATENT, STRUCTURE)]
    assert convert(*runs, "--base", base, "--out", tmp_path / "out", "--json", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["folder"] == str(tmp_path / "out")
    assert ("ema" in report["students"]["structure"]) == (not options)
    config = PipelineConfig.read(tmp_path / "out")
    assert config.flows == ("student", "teacher")
    for role in (STRUCTURE, LATENT):
        stored = load_file(config.files(f"{role}_student").weights)
        teacher = load_file(base / f"{NAMES[role]}.safetensors")
        for key, value in perturbed(role, seed=seed).items():
            assert stored[key].dtype == teacher[key].dtype
            assert torch.equal(stored[key], value.to(teacher[key].dtype)), key
    load(config.files(f"{LATENT}_student"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([LATENT, STRUCTURE, "out", "teacher"])


def test_one_file_leaves_the_other_stage_to_the_teacher(base, tmp_path, capsys):
    run = write_run(tmp_path / "run", LATENT)
    file = run / "ckpts" / "denoiser_step0000002.pt"
    assert convert(file, "--base", base, "--out", tmp_path / "out") == 0
    assert "denoiser_step0000002.pt" in capsys.readouterr().out
    config = PipelineConfig.read(tmp_path / "out")
    assert config.models[f"{STRUCTURE}_student"] == config.models[STRUCTURE]


def test_safetensors_files_and_the_shipped_layout_work_too(tmp_path, capsys):
    base = write_pipeline(tmp_path / "teacher", students=False)
    for role in (STRUCTURE, LATENT):
        save_file(perturbed(role), tmp_path / f"{role}.safetensors")
    files = [tmp_path / f"{role}.safetensors" for role in (STRUCTURE, LATENT)]
    assert convert(*files, "--base", base, "--out", tmp_path / "out") == 0
    config = PipelineConfig.read(tmp_path / "out")
    assert config.flows == ("student", "teacher") and config.checkpoint_roles()[-1] == "image_cond_model"


def generate(picture, model, out, *arguments):
    """Generate a PLY file; returns its json."""
    command = ["generate", picture, "--model", model, "--out", out, "--formats", "ply", *arguments]
    assert main(list(map(str, command))) == 0
    assert (out / "picture.ply").stat().st_size > 1000
    return json.loads((out / "picture.json").read_text())


def test_official_folder_and_its_converted_student_generate(tmp_path, capsys):
    base = write_official(tmp_path / "teacher", with_encoder=True)
    picture = tmp_path / "picture.png"
    image = Image.new("RGBA", (32, 32))
    image.paste((200, 40, 40, 255), (6, 4, 26, 30))
    image.save(picture)
    teacher = generate(picture, base, tmp_path / "a", "--teacher", "--steps", 2)
    assert teacher["flows"] == "teacher" and teacher["nfe"] == {"structure": 4, "latent": 4}  # both steps guided
    runs = [write_run(tmp_path / role, role) for role in (STRUCTURE, LATENT)]
    assert convert(*runs, "--base", base, "--out", tmp_path / "student") == 0
    student = generate(picture, tmp_path / "student", tmp_path / "b")
    assert student["flows"] == "student" and student["nfe"] == {"structure": 1, "latent": 1}
    weights = [tmp_path / f"student/ckpts/{role}_student.safetensors" for role in (STRUCTURE, LATENT)]
    generate(picture, base, tmp_path / "c", "--student", weights[0], "--student", weights[1])
    assert (tmp_path / "c/picture.ply").read_bytes() == (tmp_path / "b/picture.ply").read_bytes()
    assert (tmp_path / "a/picture.ply").read_bytes() != (tmp_path / "b/picture.ply").read_bytes()


def test_networks_of_a_base_on_the_hub_stay_references_to_its_commit(tmp_path, monkeypatch, capsys):
    hub = FakeHub(tmp_path)
    hub.install(monkeypatch)
    write_official(hub.remote / "owner/model")
    write_run(hub.remote / "owner/students/ss", STRUCTURE)
    assert convert("owner/students", "--base", "owner/model", "--out", tmp_path / "out") == 0
    config = PipelineConfig.read(tmp_path / "out")
    assert config.models[LATENT] == f"owner/model@{COMMIT}/{NAMES[LATENT]}"
    assert config.models[f"{STRUCTURE}_student"] == f"ckpts/{STRUCTURE}_student"
    assert sorted(path.name for path in (tmp_path / "out/ckpts").iterdir()) == [
        f"{STRUCTURE}_student.json",
        f"{STRUCTURE}_student.safetensors",
    ]
    assert main(["info", str(tmp_path / "out"), "--offline"]) == 0


def test_wrong_input_is_one_sentence_and_leaves_nothing(base, tmp_path, capsys):
    run = write_run(tmp_path / "run", LATENT)
    wrong = perturbed(LATENT)
    wrong["out_layer.bias"] = torch.zeros(3)
    torch.save(wrong, tmp_path / "wrong.pt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, words in (
        ([tmp_path / "wrong.pt", "--out", tmp_path / "out"], "wrong.pt: the tensor 'out_layer.bias' has shape (3,)"),
        ([run / "ckpts/misc_step0000002.pt", "--out", tmp_path / "out"], "the trainer's misc file is no network"),
        ([run, run, "--out", tmp_path / "out"], "are students of the same flow; give one"),
        ([tmp_path / "gone.pt", "--out", tmp_path / "out"], "gone.pt' does not exist"),
        ([run, "--out", tmp_path / "full"], "exists already; expected a new or empty folder"),
        ([run, "--out", tmp_path / "wrong.pt" / "out"], "cannot write into"),
    ):
        assert convert(*arguments, "--base", base) == 2
        assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "run", "teacher", "wrong.pt"]
    assert convert(run, "--base", tmp_path / "gone", "--out", tmp_path / "out") == 2
    assert "does not exist" in capsys.readouterr().err
