"""Several processes and accumulated passes: shards of one batch, whoever computes them."""

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mdtdist.errors import InputError
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.curves import read_log
from mdtdist.training.parallel import Parallel
from mdtdist.training.trainer import Trainer
from tests.training.processes import run_group
from tests.training.toy import ToyTask, clone, equal, toy_config


class ShardTask(ToyTask):
    """Notes the loss of every shard by (batch, shard); ``bad`` shards are nan, and at ``stop`` one gets SIGTERM."""

    def __init__(self, bad: tuple[tuple[int, int], ...] = (), stop: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.bad, self.stop = bad, stop

    def loss(self, draw):
        losses = super().loss(draw)
        del self.losses[draw.position]
        self.losses[draw.position, draw.shard] = losses["loss"].item()
        if (draw.position, draw.shard) in self.bad:
            losses["loss"] = losses["loss"] * math.nan
        if (draw.position, draw.shard) == self.stop:
            signal.raise_signal(signal.SIGTERM)
        return losses


def shard_config(**changes):
    return toy_config(**{"batch_size": 6, "num_samples": 48, **changes})


def train(rank: int, folder: Path, task_options: dict, changes: dict):
    """Losses by shard, weights and skipped steps of one process."""
    task = ShardTask(**task_options)
    trainer = Trainer(task, shard_config(**changes), folder)
    trainer.run()
    weights = {key: value.tolist() for key, value in clone(task.module).items()}
    return task.losses, weights, trainer.bad_steps


def test_passes_add_up_to_the_gradient_of_the_batch(tmp_path):
    """Without noise the loss of a batch is the mean of those of its parts, and so are the gradients."""

    class Plain(ToyTask):
        def loss(self, draw):
            return {"loss": self.module.layer(self.data[self.epochs.draw(draw)]).square().mean()}

    tasks = [Plain() for _ in range(3)]
    for accumulate, task in zip((1, 2, 6), tasks, strict=True):
        Trainer(task, shard_config(accumulate=accumulate), tmp_path / str(accumulate)).run()
    whole, *parts = (clone(task.module) for task in tasks)
    for part in parts:
        for key in whole:
            torch.testing.assert_close(part[key], whole[key], atol=1e-6, rtol=1e-5)
    logs = [dict(read_log(tmp_path / str(accumulate))["loss"]) for accumulate in (1, 6)]
    assert logs[0] == pytest.approx(logs[1], abs=2e-6)


def test_batches_that_cannot_be_divided_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"batch_size is 6, but 1 process\(es\) with accumulate 4 .* multiple of 4"):
        Trainer(ToyTask(), shard_config(accumulate=4), tmp_path)


def test_two_processes_train_as_one_with_two_passes(tmp_path):
    alone = train(0, tmp_path / "one", {}, {"accumulate": 2})
    first, second = run_group(train, tmp_path / "two", {}, {})
    assert set(first[0]) == {(batch, 0) for batch in range(8)} and set(second[0]) == {(b, 1) for b in range(8)}
    assert first[0] | second[0] == alone[0]
    assert first[1] == second[1] == alone[1]
    assert equal(load_file(tmp_path / "one/toy.safetensors"), load_file(tmp_path / "two/toy.safetensors"))
    logs = [read_log(tmp_path / name) for name in ("one", "two")]
    assert logs[0]["loss"] == logs[1]["loss"] and logs[0]["grad_norm"] == logs[1]["grad_norm"]
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 8 + 2  # the main process alone writes


def test_processes_may_accumulate_too(tmp_path):
    alone = train(0, tmp_path / "one", {}, {"accumulate": 6})
    group = run_group(train, tmp_path / "two", {}, {"accumulate": 3})
    assert {**group[0][0], **group[1][0]}.keys() == alone[0].keys()
    for key, values in alone[1].items():
        torch.testing.assert_close(torch.tensor(group[0][1][key]), torch.tensor(values))
    assert group[0][1] == group[1][1]


def test_what_fails_in_one_process_is_skipped_in_all(tmp_path):
    bad = {"bad": ((2, 1), (5, 0))}
    alone = train(0, tmp_path / "one", bad, {"accumulate": 2})
    first, second = run_group(train, tmp_path / "two", bad, {})
    assert first[1] == second[1] == alone[1]
    assert first[2] == second[2] == alone[2] == 2
    assert sorted(first[0]) == [(batch, 0) for batch in range(10)]


def test_the_message_of_a_failed_run_names_the_samples_at_fault_wherever_they_were(tmp_path):
    first, second = run_group(train, tmp_path, {"bad": ((2, 1),)}, {"max_bad_steps": 0})
    ids = ToyTask().epochs.batch(2, 6)
    for error in (first, second):
        assert isinstance(error, RuntimeError)
        assert f"drawn from [{{'ids': {ids[3:]}, 't': [0.25, 0.25, 0.25]}}]" in str(error)


def test_a_gradient_at_fault_may_be_of_any_sample(tmp_path):
    task = ToyTask()
    task.module.layer.bias.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(RuntimeError) as caught:
        Trainer(task, shard_config(accumulate=2, max_bad_steps=0), tmp_path).run()
    ids = task.epochs.batch(0, 6)
    assert f"'ids': {ids[:3]}" in str(caught.value) and f"'ids': {ids[3:]}" in str(caught.value)


def test_a_signal_to_one_process_stops_all_behind_one_checkpoint(tmp_path):
    first, second = run_group(train, tmp_path / "two", {"stop": (4, 1)}, {})
    assert isinstance(first, SystemExit) and isinstance(second, SystemExit) and first.code == second.code == 143
    assert load_checkpoint(tmp_path / "two").step == 5
    resumed = run_group(train, tmp_path / "two", {}, {})
    alone = train(0, tmp_path / "one", {}, {"accumulate": 2})
    assert sorted(resumed[0][0]) == [(batch, 0) for batch in range(5, 8)]
    assert resumed[0][1] == resumed[1][1] == alone[1]


def refuse(rank: int, folder: Path):
    Trainer(ShardTask(), shard_config(seed=1), folder)


def test_all_processes_refuse_another_config(tmp_path):
    train(0, tmp_path, {}, {})
    errors = run_group(refuse, tmp_path)
    assert all(isinstance(error, InputError) and "trainer.seed 0" in str(error) for error in errors)


def test_a_missing_device_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device is 'cuda', but torch finds no usable GPU here"):
        Parallel("cuda")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    with pytest.raises(InputError, match=r"accelerate; install mdtdist\[train\]"):
        Parallel("cpu")


def test_one_process_needs_no_group():
    parallel = Parallel("cpu", "fsdp")
    assert parallel.is_main and parallel.num_processes == 1 and not parallel.shards
    assert parallel.mean({"a": 1.5}) == {"a": 1.5} and parallel.largest(3) == 3 and parallel.gather("x") == ["x"]
    assert "RANK" not in os.environ
