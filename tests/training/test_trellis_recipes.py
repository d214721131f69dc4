"""The presets for real teachers: what they say, and two steps of each on tiny networks in the official folders."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mdtdist.cli.distill import expand
from mdtdist.cli.main import main
from mdtdist.models import load
from mdtdist.objectives.mdt import RELEASED, MDTConfig
from mdtdist.pipelines import ImageTo3D
from mdtdist.training.image_data import ImageData
from mdtdist.training.runs import read_config
from mdtdist.training.trellis_data import TrellisData
from tests.training.toy import clone, equal

RECIPES = Path(__file__).parents[2] / "recipes"
PRESETS = sorted((RECIPES / "trellis").glob("*.toml"))
DATAFREE = sorted((RECIPES / "mini").glob("*_datafree.toml"))
# What would take the size of the real thing.
SMALL = {
    "trainer.num_samples": 4,
    "trainer.batch_size": 2,
    "trainer.accumulate": 1,
    "trainer.device": "cpu",
    "distil.teacher_steps": 2,
    "distil.num_reference_batches": 1,
}
SMALL_DATAFREE = {"distil.trajectories.num_batches": 2, "distil.trajectories.steps": 2}


def words(values) -> list[str]:
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def test_there_are_presets_for_both_flows():
    kinds = ("mdt", "mdt_released", "ours", "datafree")
    assert {path.stem for path in PRESETS} == {f"{flow}_{kind}" for flow in ("ss", "slat") for kind in kinds}


@pytest.mark.parametrize("path", [*PRESETS, *DATAFREE], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_presets_parse_and_go_where_their_names_say(path):
    config = read_config(path)
    assert config.task == "distil" and config.out == Path("runs") / path.parent.name / path.stem
    assert config.settings.data.stage == ("structure" if path.stem.startswith("ss") else "latent")
    assert isinstance(config.settings.data, ImageData if "datafree" in path.stem else TrellisData)
    assert f"distill recipes/{path.parent.name}/{path.name}" in path.read_text()


@pytest.mark.parametrize(("flow", "steps", "lr"), [("ss", 6000, 4e-8), ("slat", 4000, 1e-8)])
@pytest.mark.parametrize("kind", ["mdt", "mdt_released"])
def test_published_runs_have_the_published_numbers(flow, steps, lr, kind):
    config = read_config(RECIPES / "trellis" / f"{flow}_{kind}.toml")
    trainer = config.trainer
    assert (trainer.num_steps, trainer.batch_size, trainer.ema, trainer.weight_decay) == (steps, 256, 0.9999, 0)
    assert {trainer.lr_at(step) for step in (0, 1, steps // 2, steps - 1)} == {lr}
    assert config.settings.method == (MDTConfig() if kind == "mdt" else RELEASED)
    method = config.settings.method
    assert (method.guidance_vm, method.guidance_vd, method.lambda_vd) == (40, 100, 1)
    assert config.settings.objective_interval == (0, 1) and config.settings.guidance_interval == (0.5, 1)
    assert config.settings.data.min_aesthetic_score == 4.5 and config.settings.data.max_voxels == 32768


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_two_steps_of_each_preset_and_a_model_of_its_student(path, official_model, official_data, tmp_path, capsys):
    data, small = official_data, dict(SMALL)
    if "datafree" in path.stem:
        data, small = (
            official_data / "renders_cond" / sorted(p.name for p in official_data.glob("renders_cond/*"))[0],
            small,
        )
        small |= SMALL_DATAFREE | {"distil.trajectories.cache": tmp_path / "cache"}
        if path.stem.startswith("slat"):
            small |= {"distil.data.cache": tmp_path / "cache", "distil.data.structure_steps": 1}
    small["out"] = tmp_path / "run"
    before = (official_model / "ckpts/ss_flow_img_dit_L_16l8_fp16.safetensors").read_bytes()
    shorthands = ["--teacher", str(official_model), f"--data={data}"]
    assert main(["distill", str(path), *shorthands, *words(small), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paired_1"] > 0
    assert (official_model / "ckpts/ss_flow_img_dit_L_16l8_fp16.safetensors").read_bytes() == before
    student = tmp_path / "run" / "student"
    made = tmp_path / "made"
    convert = ["convert", f"{student}.safetensors", "--base", str(official_model), "--out", str(made), "--json"]
    assert main(convert) == 0
    stage = "structure" if path.stem.startswith("ss") else "latent"
    assert Path(json.loads(capsys.readouterr().out)["students"][stage]).name == "student.safetensors"
    pipe = ImageTo3D.from_pretrained(made)
    role = {"structure": "sparse_structure_flow_model_student", "latent": "slat_flow_model_student"}[stage]
    assert equal(clone(pipe.network(role)), clone(load(student)))
    assert pipe.config.samplers["student", stage].steps == 1


def test_a_model_with_a_distilled_student_generates(official_model, official_data, tmp_path, capsys):
    small = SMALL | {"out": tmp_path / "run", "trainer.lr": 1e-3}
    path = RECIPES / "trellis" / "ss_ours.toml"
    assert (
        main(["distill", str(path), "--teacher", str(official_model), "--data", str(official_data), *words(small)]) == 0
    )
    pipe = ImageTo3D.from_pretrained(official_model, student=tmp_path / "run" / "student.safetensors")
    picture = Image.new("RGBA", (40, 40))
    picture.paste((200, 90, 30, 255), (8, 10, 30, 32))
    asset = pipe(picture, steps=(1, 2), decoders=["gs"])
    assert asset.nfe["structure"] == 1 and len(asset.gaussians) > 0
    teacher = ImageTo3D.from_pretrained(official_model)(picture, steps=(1, 2), decoders=["gs"], cfg_strength=0.0)
    assert not torch.equal(asset.logits, teacher.logits)


def test_shorthands_stand_before_or_behind_the_config(tmp_path):
    trellis, free = RECIPES / "trellis" / "ss_mdt.toml", RECIPES / "mini" / "ss_datafree.toml"
    prepared = RECIPES / "mini" / "ss_student_ours.toml"
    assert expand(["--teacher", "a b", "--out=x", "--data=c,d"], trellis) == [
        *("--distil.teacher", '"a b"', "--out=x", "--distil.data.roots", '["c", "d"]'),
    ]
    assert expand(["--data", "2024"], free) == ["--distil.data.images", '"2024"']
    assert expand(["--data", "a,b"], prepared) == ["--distil.data.prepared", '"a,b"']
    assert expand(["--teacher"], trellis) == ["--distil.teacher"]


@pytest.mark.parametrize("order", ["before", "behind"])
def test_shorthands_reach_the_config(order, tmp_path, capsys):
    given = ["--data", str(tmp_path / "nowhere"), "--teacher", "mini"]
    path = str(RECIPES / "mini" / "ss_datafree.toml")
    out = ["--out", str(tmp_path / "run")]
    assert main(["distill", *((*given, path, *out) if order == "before" else (path, *out, *given))]) == 2
    assert f"images is {tmp_path / 'nowhere'}, which is no folder" in capsys.readouterr().err


def test_a_teacher_without_a_value_is_one_sentence(capsys):
    assert main(["distill", str(RECIPES / "trellis" / "ss_mdt.toml"), "--teacher"]) == 2
    error = capsys.readouterr().err
    assert "'--distil.teacher' is not a pair" in error and error.count("\n") == 1
