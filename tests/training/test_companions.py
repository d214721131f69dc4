"""Fake networks and discriminators: trained in their turn, kept in a checkpoint without the teacher, resumed."""

from pathlib import Path

import pytest
import torch

from mdtdist.models import LatentDiscriminator, load, save, with_extra_embeddings
from mdtdist.nn import LowRankUpdates
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.config import from_dict
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.task import MAIN, Draw
from mdtdist.training.trainer import Trainer
from mdtdist.training.trainer_config import TrainerConfig
from tests.training.tiny import STAGES, stage_values
from tests.training.toy import clone, equal

METHODS = {
    "sds": {"objective": "sds"},
    "full": {"objective": "dmd", "options": {"updates": 2}},
    "lora": {"objective": "dmd", "variant": "vsd", "options": {"lora_rank": 2}},
    "gan": {"objective": "dmd", "variant": "gan", "options": {"updates": 2, "divergence": "jensen_shannon"}},
    "two_steps": {"objective": "dmd", "options": {"updates": 1, "samples": {"steps": 2, "simulation": "euler"}}},
    "ladd": {"objective": "ladd", "options": {"adversarial": {"r1_weight": 1.0, "head_channels": 8}}},
}
TURNS = {
    "sds": (MAIN,),
    "full": ("fake", "fake", MAIN),
    "lora": ("fake", MAIN),
    "gan": ("fake", "discriminator", "fake", "discriminator", MAIN),
    "two_steps": ("fake", MAIN),
    "ladd": ("discriminator", MAIN),
}
# The latent stage only where it takes another way through the code.
RUNS = [*(("structure", method) for method in METHODS), ("latent", "lora"), ("latent", "gan")]


def make_task(stage, method, prepared, networks, **changes) -> DistilTask:
    values = {
        "data": stage_values(stage, prepared.path, networks),
        "teacher": str(networks / stage / "flow"),
        "teacher_steps": 2,
        "num_reference_batches": 1,
        **METHODS[method],
        **changes,
    }
    return DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")


def draw(network, position=0):
    generator = torch.Generator().manual_seed(position)
    return Draw(step=0, position=position, batch_size=2, generator=generator, network=network)


def trainer_config(**changes) -> TrainerConfig:
    values = {"num_samples": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1, "eval_every": 100, "save_every": 1}
    return TrainerConfig(**{**values, **changes})


@pytest.mark.parametrize(("stage", "method"), RUNS)
def test_every_turn_trains_its_network_and_reaches_no_teacher(stage, method, prepared, networks):
    task = make_task(stage, method, prepared, networks)
    assert task.turns == TURNS[method]
    before = clone(task.teacher)
    for turn in dict.fromkeys(task.turns):
        for name, network in task.networks().items():  # as the trainer does
            network.requires_grad_(name == turn).zero_grad()
        losses = task.loss(draw(turn))
        losses["loss"].backward()
        assert all(value.isfinite() and value.ndim == 0 for value in losses.values())
        for name, network in task.networks().items():
            has_grad = any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
            assert has_grad == (name == turn), (name, turn)
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    assert equal(clone(task.teacher), before)


@pytest.mark.parametrize("stage", STAGES)
def test_the_fake_network_starts_at_the_teacher(stage, prepared, networks):
    for method, kind in (("full", None), ("lora", LowRankUpdates)):
        task = make_task(stage, method, prepared, networks)
        fake = task.companions["fake"]
        assert kind is None or isinstance(fake, kind)
        batch = task.batches.train(draw(MAIN))
        t = torch.full((2,), 0.5)
        with torch.no_grad():
            expected = batch.field(task.teacher)(batch.x_0, t)
            assert torch.equal(batch.field(fake)(batch.x_0, t), expected)
            next(fake.parameters()).add_(1)
            assert torch.equal(batch.field(task.teacher)(batch.x_0, t), expected)  # of which nothing is shared


def test_the_student_of_dmd_stands_still_where_fake_and_teacher_agree(prepared, networks):
    task = make_task("structure", "full", prepared, networks, guidance=0.0)
    assert task.loss(draw(MAIN))["loss"] == 0


@pytest.mark.parametrize("method", ["lora", "gan"])
def test_a_checkpoint_holds_companions_and_no_teacher(method, prepared, networks, tmp_path):
    task = make_task("structure", method, prepared, networks)
    at_start = {name: clone(network) for name, network in task.networks().items()}
    Trainer(task, trainer_config(), tmp_path).run()
    weights = load_checkpoint(tmp_path).weights
    kept = {f"{name}.{key}" for name, network in task.networks().items() for key in network.state_dict()}
    assert set(weights) == kept
    assert {key.split(".")[0] for key in weights} == set(TURNS[method])
    for name, network in task.networks().items():
        assert not equal(clone(network), at_start[name]), name
    teacher = task.teacher.state_dict()
    for key, value in weights.items():
        name, _, key = key.partition(".")
        if isinstance(task.networks()[name], LowRankUpdates | LatentDiscriminator):
            assert not any(value.shape == other.shape and torch.equal(value, other) for other in teacher.values())


def _cut_short(task: DistilTask, folder: Path) -> None:
    """Run one step of two, then die."""
    loss = task.loss

    def dying(one: Draw) -> dict[str, torch.Tensor]:
        if one.step == 1:
            raise RuntimeError("the power failed")
        return loss(one)

    task.loss = dying
    with pytest.raises(RuntimeError, match="power"):
        Trainer(task, trainer_config(), folder).run()


@pytest.mark.parametrize(("stage", "method"), [("structure", "lora"), ("latent", "gan")])
def test_a_resumed_run_ends_where_a_whole_one_does(stage, method, prepared, networks, tmp_path):
    whole = make_task(stage, method, prepared, networks)
    Trainer(whole, trainer_config(), tmp_path / "whole").run()
    _cut_short(make_task(stage, method, prepared, networks), tmp_path / "cut")
    resumed = make_task(stage, method, prepared, networks)
    for companion in resumed.companions.values():
        with torch.no_grad():
            next(companion.parameters()).zero_()  # what is not restored shows
    trainer = Trainer(resumed, trainer_config(), tmp_path / "cut")
    assert trainer.step == 1
    trainer.run()
    for name, network in whole.networks().items():
        assert equal(clone(network), clone(resumed.networks()[name])), name


def test_companions_have_a_learning_rate_of_their_own(prepared, networks):
    task = make_task("structure", "gan", prepared, networks, companion_lr=0.2)
    assert task.lr_scale == {"fake": 0.2, "discriminator": 0.2}


def test_companions_of_a_teacher_that_embeds_the_guidance_are_told_it(prepared, networks, tmp_path):
    teacher = with_extra_embeddings(load(networks / "structure" / "flow"), ["guidance"])
    with torch.no_grad():
        teacher.extra_embedders["guidance"].mlp[-1].weight.fill_(0.1)
    save(teacher, tmp_path / "flow")
    for method in ("lora", "ladd"):
        losses = {}
        for guidance in (1.0, 3.0):
            task = make_task("structure", method, prepared, networks, teacher=str(tmp_path / "flow"), guidance=guidance)
            losses[guidance] = task.loss(draw(task.turns[0]))["loss"]
        assert losses[1.0].isfinite() and losses[1.0] != losses[3.0]
