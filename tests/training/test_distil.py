"""Distillation: the student moves, the teacher does not, and nothing of it is kept."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.flow import Guidance
from mdtdist.models import load, save
from mdtdist.training.config import from_dict
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.trainer import Trainer, TrainerConfig
from tests.training.tiny import STAGES, stage_values, write_toml
from tests.training.toy import clone, equal

OPTIONS = {"delta_t": 0.01, "lambda_vd": 0.5, "p_t_max": 0.4, "normalization": "none"}


def settings(stage, prepared, networks, **changes):
    return {
        "data": stage_values(stage, prepared.path, networks),
        "teacher": str(networks / stage / "flow"),
        "options": OPTIONS,
        "teacher_steps": 3,
        **changes,
    }


@pytest.fixture(params=STAGES)
def task(request, prepared, networks) -> DistilTask:
    config = from_dict(DistilConfig, settings(request.param, prepared, networks))
    return DistilTask(config, seed=0, device="cpu")


def test_no_gradient_reaches_the_teacher(task):
    before = clone(task.teacher)
    losses = task.loss(0, 2, torch.Generator().manual_seed(0))
    losses["loss"].backward()
    assert set(losses) == {"loss", "vm", "vd"}
    torch.testing.assert_close(losses["loss"], losses["vm"] + 0.5 * losses["vd"])
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in task.module.parameters())
    assert equal(clone(task.teacher), before)


def test_the_student_starts_as_a_copy_that_shares_nothing(task):
    assert equal(clone(task.module), clone(task.teacher))
    with torch.no_grad():
        next(task.module.parameters()).add_(1)
    assert not equal(clone(task.module), clone(task.teacher))


def test_a_checkpoint_holds_the_student_and_no_teacher(task, tmp_path):
    before = clone(task.teacher)
    Trainer(task, TrainerConfig(num_samples=4, batch_size=2, lr=1e-3), tmp_path).run()
    shapes = {key: value.shape for key, value in task.module.state_dict().items()}
    for name in ("weights", "average"):
        tensors = load_file(tmp_path / "checkpoint" / f"{name}.safetensors")
        assert {key: value.shape for key, value in tensors.items()} == shapes
        assert not equal(tensors, before)
    trained = sum(p.numel() for p in task.module.parameters())
    moments = load_file(tmp_path / "checkpoint" / "optimizer.safetensors")
    assert sum(value.numel() for value in moments.values() if value.ndim) <= 2 * trained
    files = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    assert files == {"weights.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"}
    assert equal(clone(task.teacher), before)


def test_evaluation_pairs_noise_with_the_teacher(task, tmp_path):
    """A student sampled just as the teacher is at distance zero; repeated evaluations agree."""
    first = task.evaluate(tmp_path, 0)
    assert first == task.evaluate(tmp_path, 0) and first["paired_1"] > 0 and first["paired_2"] > 0
    task._references = []
    task.config = replace(task.config, teacher_steps=2, teacher_rescale_t=1.0)
    task.guidance = Guidance(w=0.0)
    assert task.evaluate(tmp_path, 0)["paired_2"] == 0


def test_distance_is_the_rms_between_samples(task, tmp_path):
    task.config = replace(task.config, teacher_steps=1)
    task.guidance = Guidance(w=0.0)
    with torch.no_grad():
        task.module.out_layer.bias += 0.25
    assert task.evaluate(tmp_path, 0)["paired_1"] == pytest.approx(0.25, rel=1e-4)


def test_training_brings_a_displaced_student_back(prepared, networks, tmp_path):
    config = from_dict(DistilConfig, settings("structure", prepared, networks, options=OPTIONS | {"lambda_vd": 0.0}))
    task = DistilTask(config, seed=0, device="cpu")
    with torch.no_grad():
        task.module.out_layer.bias += 1
    before = task.evaluate(tmp_path, 0)["paired_1"]
    trainer = Trainer(task, TrainerConfig(num_samples=320, batch_size=8, lr=0.02, ema=0.5), tmp_path)
    assert trainer.run()["paired_1"] < 0.5 * before  # observed 0.32


@pytest.mark.parametrize("stage", STAGES)
def test_stored_batches_ask_the_teacher_once(stage, prepared, networks, monkeypatch):
    values = {"objective": "endpoint", "options": {"steps": 2}, "stored_batches": 2}
    config = from_dict(DistilConfig, settings(stage, prepared, networks, **values))
    task = DistilTask(config, seed=0, device="cpu")
    with torch.no_grad():
        task.module.out_layer.bias += 0.25
    forward, asked = task.teacher.forward, []
    monkeypatch.setattr(task.teacher, "forward", lambda *args: asked.append(1) or forward(*args))
    losses = []
    for step in range(6):
        result = task.loss(step, 2, torch.Generator().manual_seed(step))
        assert set(result) == {"loss"}
        losses.append(result["loss"].item())
        asked.append(-step - 1)
    questions = [asked[: asked.index(-1)], asked[asked.index(-1) + 1 : asked.index(-2)]]
    assert all(questions) and asked[asked.index(-2) + 1 :] == [-3, -4, -5, -6]
    # Two batches in an order that changes from epoch to epoch, each with its own loss.
    first = sorted(losses[:2])
    assert first[0] != first[1] and sorted(losses[2:4]) == first and sorted(losses[4:]) == first


def test_the_student_may_start_from_other_weights(prepared, networks, tmp_path):
    other = load(networks / "structure" / "flow")
    with torch.no_grad():
        other.out_layer.bias += 1
    save(other, tmp_path / "other")
    config = from_dict(DistilConfig, settings("structure", prepared, networks, student=str(tmp_path / "other")))
    task = DistilTask(config, seed=0, device="cpu")
    assert equal(clone(task.module), clone(other)) and not equal(clone(task.module), clone(task.teacher))


def test_stored_batches_need_an_objective_with_targets(prepared, networks):
    with pytest.raises(InputError, match="only the objective endpoint has targets"):
        from_dict(DistilConfig, settings("structure", prepared, networks, stored_batches=3))


@pytest.mark.parametrize("stage", STAGES)
def test_distilling_by_command(stage, prepared, networks, tmp_path, capsys):
    values = {
        "task": "distil",
        "out": str(tmp_path / "run"),
        "trainer": {"num_samples": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1},
        "distil": settings(stage, prepared, networks),
    }
    teacher = (networks / stage / "flow.safetensors").read_bytes()
    config = write_toml(tmp_path / "config.toml", values)
    assert main(["distill", str(config), "--trainer.lr", "2e-3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["out"] == str(tmp_path / "run") and result["paired_1"] > 0 and result["paired_2"] > 0
    assert {"config.toml", "settings.json", "log.jsonl", "curves.png", "checkpoint", "samples_0000002.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert (networks / stage / "flow.safetensors").read_bytes() == teacher
    student = load(tmp_path / "run" / "student")
    average = load_file(tmp_path / "run" / "checkpoint" / "average.safetensors")
    assert equal(clone(student), average) and not equal(clone(student), clone(load(networks / stage / "flow")))
    assert student.config == load(networks / stage / "flow").config
