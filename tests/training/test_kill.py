"""SIGKILL at random moments, also while a checkpoint is written: the run that comes out is the run nothing stopped."""

import random
import time
from pathlib import Path

from safetensors.torch import load_file

from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.curves import read_records
from mdtdist.training.trainer import Trainer
from tests.training.processes import CONTEXT, start
from tests.training.toy import ToyTask, equal, toy_config

CONFIG = toy_config(
    num_samples=150, save_every=2, eval_every=1000, clip_mode="percentile", clip_window=5, ema_mode="power", clip=9.0
)


def train(folder: Path, steps) -> None:
    """Count the steps made into ``steps``."""
    Trainer(ToyTask(), CONFIG, folder, lambda step, *_: setattr(steps, "value", steps.value + 1)).run()


def records(folder: Path) -> list[dict]:
    return [
        {key: value for key, value in record.items() if key != "cpu_seconds"}
        for record in read_records(folder / "log.jsonl")
    ]


def test_a_run_killed_again_and_again_is_bitwise_the_run_nothing_stopped(tmp_path):
    Trainer(ToyTask(), CONFIG, tmp_path / "whole").run()
    draws, kills, seen = random.Random(0), 0, set()
    while True:
        steps = CONTEXT.Value("i", 0)
        process = start(train, tmp_path / "parts", steps)
        moment = draws.randint(1, 9) if kills < 10 else 1000  # after ten deaths it may live
        while process.is_alive() and steps.value < moment:
            time.sleep(1e-4)
        time.sleep(draws.uniform(0, 0.01))  # a step takes about a millisecond, and so does a checkpoint
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
        state = load_checkpoint(tmp_path / "parts")
        seen.add(state.step if state else 0)
    assert kills >= 5 and len(seen) >= 4
    whole, parts = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    for name in ("weights", "average", "optimizer"):
        assert equal(getattr(whole, name), getattr(parts, name))
    assert whole.meta["optimization"] == parts.meta["optimization"]
    assert records(tmp_path / "whole") == records(tmp_path / "parts")
    assert equal(load_file(tmp_path / "whole/toy.safetensors"), load_file(tmp_path / "parts/toy.safetensors"))
