"""Distillation into students that are told more than the time."""

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.flow import Guidance, guided_field
from mdtdist.models import extra_embeddings, load, save, with_extra_embeddings
from mdtdist.training.config import from_dict
from mdtdist.training.distil import DistilConfig, DistilTask
from tests.training.tiny import STAGES, stage_values
from tests.training.toy import clone, draw

METHODS = {
    "meanflow": ({"interval"}, {"derivative": {"kind": "backward"}}),
    "shortcut": ({"interval"}, {"p_consistency": 0.5}),
    "guidance": ({"guidance"}, {"w_max": 2.0}),
}


def _task(stage, prepared, networks, **changes):
    values = {
        "data": stage_values(stage, prepared.path, networks),
        "teacher": str(networks / stage / "flow"),
        "teacher_steps": 2,
        "num_reference_batches": 1,
        **changes,
    }
    return DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")


def _teach(network):
    with torch.no_grad():
        for parameter in network.extra_embedders.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return network


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("objective", METHODS)
def test_a_student_gets_the_embeddings_of_its_method_and_learns_them(stage, objective, prepared, networks, tmp_path):
    names, options = METHODS[objective]
    task = _task(stage, prepared, networks, objective=objective, options=options)
    assert extra_embeddings(task.module) == names and extra_embeddings(task.teacher) == set()
    if "target" in task.companions:
        assert clone(task.companions["target"]).keys() == clone(task.module).keys()
    task.loss(draw(0, 2))["loss"].backward()
    for name in names:
        assert task.module.extra_embedders[name].mlp[2].weight.grad.abs().max() > 0
    assert all(p.grad is None for p in task.teacher.parameters())
    task.after_step(0)
    with torch.no_grad():
        figures = task.evaluate(tmp_path, 0)
    assert {"paired_1", "paired_2"} <= figures.keys()
    task.export(tmp_path)
    assert extra_embeddings(load(tmp_path / "student")) == names


@pytest.mark.parametrize("stage", STAGES)
def test_exact_derivatives_run_in_a_distillation(stage, prepared, networks):
    task = _task(stage, prepared, networks, objective="meanflow", options={"p_equal": 0.0})
    losses = task.loss(draw(0, 2))
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in task.module.parameters())


def test_a_student_that_embeds_the_guidance_is_told_the_teachers_weight(prepared, networks, tmp_path):
    student = _teach(with_extra_embeddings(load(networks / "structure" / "flow"), ["guidance"]))
    save(student, tmp_path / "student")
    task = _task("structure", prepared, networks, student=str(tmp_path / "student"), guidance=3.0)
    assert extra_embeddings(task.module) == {"guidance"}
    batch = task.batches.train(draw(0, 2))
    t, x = torch.tensor([0.6, 0.9]), batch.x_0
    with torch.no_grad():
        expected = batch.field(task.module)(x, t, w=3.0)
        assert torch.equal(task._fields(batch).student(x, t), expected)
        assert not torch.equal(batch.field(task.module)(x, t), expected)
        sampled = batch.sample(task.module, task._sampler(1), torch.Generator().manual_seed(0))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(sampled, noise - batch.field(task.module)(noise, torch.ones(2), w=3.0))


def test_a_teacher_that_embeds_the_guidance_is_told_it_and_costs_one_evaluation(prepared, networks, tmp_path):
    save(_teach(with_extra_embeddings(load(networks / "structure" / "flow"), ["guidance"])), tmp_path / "teacher")
    task = _task("structure", prepared, networks, teacher=str(tmp_path / "teacher"), guidance=3.0)
    batch = task.batches.train(draw(0, 2))
    t, x = torch.tensor([0.6, 0.9]), batch.x_0
    with torch.no_grad():
        teacher = task._fields(batch).teacher
        for w in (3.0, 1.0):
            assert torch.equal(teacher(x, t, w=w), batch.field(task.teacher)(x, t, w=w))
        assert torch.equal(teacher(x, t), teacher(x, t, w=3.0))


def test_a_teacher_that_embeds_intervals_is_refused(prepared, networks, tmp_path):
    save(with_extra_embeddings(load(networks / "structure" / "flow"), ["interval"]), tmp_path / "teacher")
    with pytest.raises(InputError, match="teacher embeds intervals, as few-step students do"):
        _task("structure", prepared, networks, teacher=str(tmp_path / "teacher"))


def test_a_plain_teacher_is_guided_as_ever(prepared, networks):
    task = _task("structure", prepared, networks, guidance=3.0)
    batch = task.batches.train(draw(0, 2))
    t, x = torch.tensor([0.3, 0.9]), batch.x_0
    negative = batch.field(task.teacher, torch.zeros_like(batch.cond))
    guidance = Guidance(w=3.0, interval=(0.5, 1.0))
    expected = guided_field(batch.field(task.teacher), negative, guidance, expand=batch.layout.expand)
    with torch.no_grad():
        assert torch.equal(task._fields(batch).teacher(x, t), expected(x, t))
