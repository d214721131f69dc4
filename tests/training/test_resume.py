"""Life cycle: whatever stops a run, it goes on as if nothing had happened."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mdtdist.errors import InputError
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.curves import read_log
from mdtdist.training.trainer import Trainer
from tests.training.toy import ToyTask, clone, crash, equal, send, toy_config


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[ToyTask, Trainer]:
    """A run that nothing interrupted."""
    task = ToyTask()
    trainer = Trainer(task, toy_config(), tmp_path_factory.mktemp("whole"))
    trainer.run()
    return task, trainer


@pytest.fixture
def keyboard() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the test process was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def assert_goes_on(whole: tuple[ToyTask, Trainer], folder: Path, *, from_step: int) -> None:
    task = ToyTask()
    if from_step:
        with torch.no_grad():
            task.module.layer.weight.zero_()  # what is not restored shows
    trainer = Trainer(task, toy_config(), folder)
    assert trainer.step == from_step
    trainer.run()
    expected, reference = whole
    assert task.losses == {step: loss for step, loss in expected.losses.items() if step >= from_step}
    assert equal(clone(task.module), clone(expected.module))
    assert equal(trainer.average.tensors, reference.average.tensors)
    assert read_log(folder)["loss"] == read_log(reference.folder)["loss"]


@pytest.mark.parametrize(("step", "saved"), [(2, 0), (4, 4), (9, 8), (11, 8)])
def test_a_killed_run_repeats_nothing_but_the_steps_after_its_checkpoint(whole, step, saved, tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({step: crash}), toy_config(), tmp_path).run()
    assert_goes_on(whole, tmp_path, from_step=saved)


def test_a_resumed_run_logs_every_step_once(whole, tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({11: crash}), toy_config(), tmp_path).run()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 11, "samp')
    assert_goes_on(whole, tmp_path, from_step=8)
    keys = [
        (record["step"], "lr" in record)
        for record in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    ]
    expected = [*((step, True) for step in range(1, 13)), (5, False), (10, False), (12, False)]
    assert sorted(keys) == sorted(expected)


def test_running_a_finished_run_again_changes_nothing(whole, tmp_path):
    figures = []
    for _ in range(2):
        trainer = Trainer(ToyTask(), toy_config(), tmp_path)
        figures.append(trainer.run())
    assert trainer.step == 12 and figures[0] == figures[1]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 15
    assert equal(clone(trainer.task.module), clone(whole[0].module))


def test_ctrl_c_finishes_the_step_and_saves_it(whole, tmp_path, keyboard):
    with pytest.raises(KeyboardInterrupt):
        Trainer(ToyTask({5: send(signal.SIGINT)}), toy_config(), tmp_path).run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_checkpoint(tmp_path).step == 6
    assert_goes_on(whole, tmp_path, from_step=6)


def test_sigterm_saves_then_reaches_the_handler_of_the_program(whole, tmp_path):
    class Ended(BaseException):
        pass

    def end(number, frame):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Ended):
            Trainer(ToyTask({0: send(signal.SIGTERM)}), toy_config(), tmp_path).run()
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert_goes_on(whole, tmp_path, from_step=1)


def test_a_second_ctrl_c_is_heeded_at_once(tmp_path, keyboard):
    def twice(loss):
        return send(signal.SIGINT)(send(signal.SIGINT)(loss))

    task = ToyTask({5: twice})
    with pytest.raises(KeyboardInterrupt):
        Trainer(task, toy_config(), tmp_path).run()
    assert 5 not in task.losses and load_checkpoint(tmp_path).step == 4


def test_an_ignored_ctrl_c_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        task = ToyTask({5: send(signal.SIGINT)})
        Trainer(task, toy_config(), tmp_path).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(task.losses) == 12


def test_a_crash_before_the_rename_leaves_the_checkpoint_before(whole, tmp_path, monkeypatch):
    """Twice in a row: the second crash meets the folder that the first one left."""
    rename = Path.rename

    def fail(path, target):
        if path.name == ".step_8.new":
            raise OSError("the power failed")
        return rename(path, target)

    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({6: crash}), toy_config(), tmp_path).run()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail)
            with pytest.raises(OSError, match="power"):
                Trainer(ToyTask(), toy_config(), tmp_path).run()
        assert load_checkpoint(tmp_path).step == 4
    assert_goes_on(whole, tmp_path, from_step=4)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_12", "step_8"]


def test_a_checkpoint_that_is_being_written_does_not_count(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("mdtdist.training.checkpoint.write_tensors", lambda path, tensors: crash(None))
        with pytest.raises(RuntimeError, match="power"):
            Trainer(ToyTask(), toy_config(), tmp_path).run()
    assert (tmp_path / "checkpoints" / ".step_4.new").exists() and load_checkpoint(tmp_path) is None
    assert_goes_on(whole, tmp_path, from_step=0)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole, tmp_path, caplog):
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({11: crash}), toy_config(), tmp_path).run()
    path = tmp_path / "checkpoints" / "step_8" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert_goes_on(whole, tmp_path, from_step=4)
    assert "step_8 is damaged (optimizer.safetensors is not what was written); going back" in caplog.text


def test_sigterm_without_a_handler_ends_the_program_with_its_status(whole, tmp_path):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended:
            Trainer(ToyTask({5: send(signal.SIGTERM)}), toy_config(), tmp_path).run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert_goes_on(whole, tmp_path, from_step=6)


def test_a_checkpoint_of_other_networks_is_refused(whole, tmp_path):
    Trainer(ToyTask(), toy_config(), tmp_path).run()
    with pytest.raises(InputError, match="step_12 is of other networks.*another out"):
        Trainer(ToyTask(width=4), toy_config(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 4}, "with trainer.batch_size 3 so far, and now it is 4; set it back, or give another out"),
        ({"seed": 1}, "with trainer.seed 0 so far, and now it is 1"),
    ],
)
def test_other_batches_are_refused(changes, words, tmp_path):
    Trainer(ToyTask(), toy_config(), tmp_path).run()
    with pytest.raises(InputError) as caught:
        Trainer(ToyTask(), toy_config(**changes), tmp_path)
    assert words in str(caught.value)


def test_budget_intervals_and_rates_may_change(tmp_path):
    Trainer(ToyTask(), toy_config(), tmp_path).run()
    changes = {"num_samples": 72, "lr": 0.01, "save_every": 7, "log_every": 2, "eval_every": 3, "keep_checkpoints": 1}
    task = ToyTask()
    trainer = Trainer(task, toy_config(**changes, precision="bf16"), tmp_path)
    trainer.run()
    assert trainer.step == 24 and sorted(task.losses) == list(range(12, 24))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_24"]


def test_states_of_clipping_and_scaling_are_resumed(tmp_path):
    options = {"clip_mode": "percentile", "clip_percentile": 50.0, "clip_window": 3, "clip": 100.0}
    config = toy_config(**options, precision="fp16")
    whole = Trainer(ToyTask(), config, tmp_path / "whole")
    whole.run()
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({9: crash}), config, tmp_path / "parts").run()
    task = ToyTask()
    parts = Trainer(task, config, tmp_path / "parts")
    parts.run()
    assert min(task.losses) == 8 and parts.steps.states() == whole.steps.states()
    assert parts.steps.states()["student"]["num_good"] == 12 and len(parts.steps.states()["student"]["norms"]) == 3
    assert equal(clone(parts.task.module), clone(whole.task.module))


def test_other_parts_of_the_batch_are_warned_of(tmp_path, caplog):
    Trainer(ToyTask(), toy_config(), tmp_path).run()
    Trainer(ToyTask(), toy_config(accumulate=3), tmp_path)
    assert "in 1 parts so far, now in 3" in caplog.text


def test_weights_laid_out_channels_last_resume_bitwise(tmp_path):
    """The structure VAE is; the file holds them in plain order."""

    class ConvTask(ToyTask):
        def __init__(self, events=None):
            super().__init__(events)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                self.module = nn.Sequential(nn.Conv3d(2, 4, 3), nn.SiLU(), nn.Conv3d(4, 2, 2))
            self.module.to(memory_format=torch.channels_last_3d)

        def loss(self, draw):
            x = torch.randn(draw.batch_size, 2, 4, 4, 4, generator=draw.generator)
            loss = self.module(x).square().mean()
            if draw.position in self.events:
                self.events[draw.position](loss)
            self.losses[draw.position] = loss.item()
            return {"loss": loss}

        def evaluate(self, folder, step):
            return {}

    whole = ConvTask()
    Trainer(whole, toy_config(), tmp_path / "whole").run()
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ConvTask({6: crash}), toy_config(), tmp_path / "parts").run()
    resumed = ConvTask()
    Trainer(resumed, toy_config(), tmp_path / "parts").run()
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step >= 4}
    assert equal(clone(resumed.module), clone(whole.module))
