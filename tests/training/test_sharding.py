"""Networks spread over two gloo processes by FSDP2, or copied to them by DDP, train as one process does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mdtdist.errors import InputError
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.curves import read_log
from mdtdist.training.sharding import hollow_copy, spread_like, whole
from mdtdist.training.trainer import Trainer
from tests.training.processes import run_group
from tests.training.toy import PairTask, Stack, ToyTask, clone, equal, toy_config


def config(**changes):
    return toy_config(**{"batch_size": 4, "num_samples": 32, "clip": 0.3, **changes})


def train(rank: int, folder: Path, changes: dict, num_samples: int = 32):
    """The share of the parameters that this process holds, and the validation figures."""
    task = PairTask()
    trainer = Trainer(task, config(num_samples=num_samples, **changes), folder)
    figures = trainer.run()
    held = sum(getattr(p, "_local_tensor", p).numel() for p in task.module.parameters())
    return held / sum(p.numel() for p in task.module.parameters()), figures


def assert_same_run(a: Path, b: Path, **tolerance) -> None:
    first, second = load_checkpoint(a), load_checkpoint(b)
    assert first.step == second.step
    for name in ("weights", "average", "optimizer"):
        tensors, others = getattr(first, name), getattr(second, name)
        assert tensors.keys() == others.keys()
        for key in tensors:
            torch.testing.assert_close(tensors[key], others[key], **tolerance)
    logs = [dict(read_log(folder)["loss"]) for folder in (a, b)]
    assert logs[0] == pytest.approx(logs[1], abs=2e-5)
    exported = [load_file(folder / "toy.safetensors") for folder in (a, b)]
    for key in exported[0]:
        torch.testing.assert_close(exported[0][key], exported[1][key], **tolerance)


# Sums in another order; observed 5e-7.
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def test_two_processes_with_two_networks_train_as_one(tmp_path):
    train(0, tmp_path / "one", {"accumulate": 2})
    results = run_group(train, tmp_path / "ddp", {})
    assert [share for share, _ in results] == [1.0, 1.0]
    assert_same_run(tmp_path / "one", tmp_path / "ddp", atol=0, rtol=0)


def test_spread_networks_train_as_whole_ones(tmp_path):
    _, figures = train(0, tmp_path / "one", {"accumulate": 2})
    results = run_group(train, tmp_path / "fsdp", {"parallel": "fsdp"})
    shares = [share for share, _ in results]
    assert sum(shares) == 1 and max(shares) < 0.7
    assert results[0][1] == results[1][1] == pytest.approx(figures, abs=1e-5)
    assert_same_run(tmp_path / "one", tmp_path / "fsdp", **CLOSE)


@pytest.mark.slow
def test_spread_networks_accumulate_and_resume_whichever_way_they_were_saved(tmp_path):
    train(0, tmp_path / "one", {"accumulate": 4})
    run_group(train, tmp_path / "mixed", {"parallel": "fsdp", "accumulate": 2}, 16)
    assert load_checkpoint(tmp_path / "mixed").step == 4
    # The schedule follows the budget, which was shorter.
    train(0, tmp_path / "alone", {"accumulate": 4}, 16)
    assert_same_run(tmp_path / "mixed", tmp_path / "alone", **CLOSE)
    run_group(train, tmp_path / "alone", {"parallel": "fsdp", "accumulate": 2})
    train(0, tmp_path / "mixed", {"accumulate": 4})
    assert_same_run(tmp_path / "mixed", tmp_path / "alone", **CLOSE)


def refuse(rank: int, folder: Path):
    task = ToyTask()
    task.module = nn.ModuleDict({"encoder": nn.Linear(3, 2), "decoder": nn.Linear(2, 3)})
    Trainer(task, config(parallel="fsdp"), folder)


@pytest.mark.slow
def test_a_collection_of_networks_is_not_spread(tmp_path):
    errors = run_group(refuse, tmp_path)
    assert all(
        isinstance(error, InputError) and "several networks in a ModuleDict; use 'ddp'" in str(error)
        for error in errors
    )


def test_what_is_in_one_piece_stays_as_it_is():
    tensor = torch.arange(3.0)
    assert whole(tensor) is tensor and spread_like(tensor, torch.zeros(3)) is tensor


def test_a_hollow_copy_is_filled_without_a_second_copy():
    module = Stack()
    hollow = hollow_copy(module)
    assert all(p.is_meta for p in hollow.parameters()) and not hollow.table.is_meta
    tensors = clone(module)
    hollow.load_state_dict(tensors, assign=True)
    assert equal(clone(hollow), tensors)
    assert hollow.input.weight.data_ptr() == tensors["input.weight"].data_ptr()
    assert not any(p.is_meta for p in module.parameters())
