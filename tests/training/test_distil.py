"""Distillation: the student moves, the teacher does not, and nothing of it is kept."""

import json
from dataclasses import replace

import pytest
import torch

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.flow import Guidance
from mdtdist.models import load, save
from mdtdist.training.checkpoint import load_checkpoint, tensors_of
from mdtdist.training.config import from_dict
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.trainer import Trainer, TrainerConfig
from tests.training.tiny import STAGES, stage_values, write_toml
from tests.training.toy import clone, draw, equal

OPTIONS = {"lambda_vd": 0.5, "time": {"p_noise": 0.4}, "guidance_vm": "none", "guidance_vd": "none"}


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
    losses = task.loss(draw(0, 2))
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
    state = load_checkpoint(tmp_path)
    for tensors in (tensors_of(state.weights, "student"), state.average):
        assert {key: value.shape for key, value in tensors.items()} == shapes
        assert not equal(tensors, before)
    assert all(key.startswith("student.") for key in state.weights)
    trained = sum(p.numel() for p in task.module.parameters())
    assert sum(value.numel() for value in state.optimizer.values() if value.ndim) <= 2 * trained
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
def test_trajectories_ask_the_teacher_once(stage, prepared, networks, monkeypatch):
    values = {"objective": "trajectory", "options": {}, "trajectories": {"num_batches": 2, "steps": 2}}
    config = from_dict(DistilConfig, settings(stage, prepared, networks, **values))
    task = DistilTask(config, seed=0, device="cpu")
    with torch.no_grad():
        task.module.out_layer.bias += 0.25
    forward, asked = task.teacher.forward, []
    monkeypatch.setattr(task.teacher, "forward", lambda *args, **more: asked.append(1) or forward(*args, **more))
    numbers = []
    for step in range(6):
        assert set(task.loss(draw(step, 2, seed=step))) == {"loss"}
        numbers.append(len(asked))
    assert numbers[0] > 0 and numbers[1] == 2 * numbers[0] and numbers[2:] == [numbers[1]] * 4


@pytest.mark.parametrize("kind", ["backward", "central"])
def test_differentiated_students_answer_in_float32(kind, prepared, networks, monkeypatch):
    """The teacher may answer in 16 bits; what is divided by a small step may not."""
    options = OPTIONS | {"derivative": {"kind": kind}}
    task = DistilTask(
        from_dict(DistilConfig, settings("structure", prepared, networks, options=options)), seed=0, device="cpu"
    )
    seen = {}
    for name, network in (("student", task.module), ("teacher", task.teacher)):
        network.blocks[0].register_forward_hook(lambda *args, name=name: seen.setdefault(name, set()).add(casts()))
    with torch.autocast("cpu", torch.bfloat16):
        low = task.loss(draw(0, 2))
    high = task.loss(draw(0, 2))
    assert seen == {"student": {False}, "teacher": {True, False}}
    torch.testing.assert_close(low["vm"], high["vm"], rtol=0.05, atol=0)


def casts() -> bool:
    return torch.is_autocast_enabled("cpu")


def test_a_step_that_fails_can_say_what_it_was_of(task):
    task.loss(draw(3, 2))
    ids = [task.batches.ids["train"][i] for i in task.batches.epochs.batch(3, 2)]
    assert list(task.last_draw["ids"]) == ids and task.last_draw["t"].shape == (2,)


def test_the_student_may_start_from_other_weights(prepared, networks, tmp_path):
    other = load(networks / "structure" / "flow")
    with torch.no_grad():
        other.out_layer.bias += 1
    save(other, tmp_path / "other")
    config = from_dict(DistilConfig, settings("structure", prepared, networks, student=str(tmp_path / "other")))
    task = DistilTask(config, seed=0, device="cpu")
    assert equal(clone(task.module), clone(other)) and not equal(clone(task.module), clone(task.teacher))


def test_trajectories_have_to_be_asked_for(prepared, networks):
    with pytest.raises(InputError, match=r"needs \[distil.trajectories\]"):
        from_dict(DistilConfig, settings("structure", prepared, networks, objective="trajectory", options={}))


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
    assert {"config.toml", "settings.json", "log.jsonl", "curves.png", "checkpoints", "samples_0000002.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert (networks / stage / "flow.safetensors").read_bytes() == teacher
    student = load(tmp_path / "run" / "student")
    average = load_checkpoint(tmp_path / "run").average
    assert equal(clone(student), average) and not equal(clone(student), clone(load(networks / stage / "flow")))
    assert student.config == load(networks / stage / "flow").config
