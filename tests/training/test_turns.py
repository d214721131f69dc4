"""Several networks in one training: each has its turn, its optimiser, and its batches."""

import pytest
import torch

from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.curves import read_log
from mdtdist.training.trainer import Trainer
from tests.training.toy import PairTask, clone, crash, equal, toy_config


def test_a_turn_leaves_no_gradients_in_other_networks(tmp_path):
    task = PairTask()
    trainer = Trainer(task, toy_config(), tmp_path)
    trainer.run()
    assert [task.seen[position] for position in range(24)] == [{"fake"}, {"student"}] * 12
    assert all(p.grad is None for p in task.companions["slow"].parameters())
    log = read_log(tmp_path)
    assert log["fake_lr"][3][1] == pytest.approx(0.5 * log["lr"][3][1], abs=1e-6)
    assert len(log["fake_loss"]) == len(log["loss"]) == 12


def test_a_failed_turn_skips_the_rest_of_the_step(tmp_path):
    task = PairTask()
    loss, before = task.loss, {}

    def spoiled(draw):
        if draw.position == 6:
            before.update(clone(task.module))
        if draw.position == 8:
            assert equal(before, clone(task.module))
        losses = loss(draw)
        return {"loss": losses["loss"] * float("nan")} if draw.position == 6 else losses

    task.loss = spoiled
    trainer = Trainer(task, toy_config(), tmp_path)
    trainer.run()
    assert trainer.bad_steps == 1 and sorted(task.seen) == [n for n in range(26) if n != 7]


def test_all_networks_are_resumed(tmp_path):
    whole = PairTask()
    Trainer(whole, toy_config(), tmp_path / "whole").run()
    parts = PairTask()
    loss = parts.loss
    parts.loss = lambda draw: crash(None) if draw.position == 19 else loss(draw)
    with pytest.raises(RuntimeError, match="power"):
        Trainer(parts, toy_config(), tmp_path / "parts").run()
    resumed = PairTask()
    Trainer(resumed, toy_config(), tmp_path / "parts").run()
    assert min(resumed.seen) == 16
    for name, network in whole.networks().items():
        assert equal(clone(network), clone(resumed.networks()[name]))
    names = {key.split(".")[0] for key in load_checkpoint(tmp_path / "parts").weights}
    assert names == {"student", "fake", "slow"}
    assert {key.split(".")[0] for key in load_checkpoint(tmp_path / "parts").optimizer} == {"student", "fake"}
    assert not torch.equal(next(whole.module.parameters()), next(whole.companions["slow"].parameters()))
