"""The training loop: schedule, sampling, bad steps, progress."""

import math
import signal

import pytest
import torch

from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.curves import read_log
from mdtdist.training.task import EpochSampler, step_generator
from mdtdist.training.trainer import Trainer, TrainerConfig
from tests.training.toy import ToyTask, clone, draw, equal, send, toy_config


def test_learning_rate_rises_linearly_then_falls_as_a_cosine():
    config = TrainerConfig(num_samples=220, batch_size=2, lr=2.0, warmup=0.1, final_lr=0.1)
    assert config.num_steps == 110
    assert config.lr_at(0) == pytest.approx(2.0 / 11)
    assert config.lr_at(4) == pytest.approx(2.0 * 5 / 11)
    assert config.lr_at(10) == config.lr_at(11) == pytest.approx(2.0)  # warm-up ends with step 10, the cosine starts
    middle = 11 + 99 / 2
    assert (config.lr_at(int(middle)) + config.lr_at(int(middle) + 1)) / 2 == pytest.approx(2.0 * 0.55)
    assert config.lr_at(110) == pytest.approx(2.0 * 0.1)
    assert all(config.lr_at(step) > config.lr_at(step + 1) for step in range(11, 109))


def test_every_item_comes_once_per_epoch():
    sampler = EpochSampler(7, seed=3)
    stream = [item for step in range(14) for item in sampler.batch(step, 2)]
    epochs = [stream[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_depends_on_seed_and_step_alone():
    expected = [EpochSampler(10, seed=3).batch(step, 4) for step in range(9)]
    sampler = EpochSampler(10, seed=3)
    assert [sampler.batch(step, 4) for step in reversed(range(9))] == expected[::-1]
    assert [EpochSampler(10, seed=4).batch(step, 4) for step in range(9)] != expected


def test_a_batch_may_be_larger_than_the_data():
    counts = torch.bincount(torch.tensor(EpochSampler(3, seed=0).batch(1, 8)), minlength=3)
    assert counts.sum() == 8 and counts.min() >= 2 and counts.max() <= 3


def test_noise_depends_on_seed_and_step():
    keys = [(seed, step) for seed in range(3) for step in range(3)]
    draws, again = ([torch.rand((), generator=step_generator(*key)).item() for key in keys] for _ in range(2))
    assert draws == again and len(set(draws)) == 9


def test_shards_of_a_batch_draw_differently_and_repeatably():
    keys = [(0, step, shard) for step in range(3) for shard in range(3)]
    draws, again = ([torch.rand((), generator=step_generator(*key)).item() for key in keys] for _ in range(2))
    assert draws == again and len(set(draws)) == 9
    assert torch.rand((), generator=step_generator(4, 5, 0)) == torch.rand((), generator=step_generator(4, 5))


def test_shards_divide_the_batch_in_its_order():
    sampler = EpochSampler(10, seed=3)
    parts = [sampler.draw(draw(2, 6, shard=shard, num_shards=3)) for shard in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    assert sum(parts, []) == sampler.batch(2, 6) == sampler.draw(draw(2, 6))


def test_evaluation_and_export_see_the_average_and_training_goes_on_without_it(tmp_path):
    task = ToyTask()
    trainer = Trainer(task, toy_config(), tmp_path)
    figures = trainer.run()
    assert [step for step, _ in task.evaluated] == [5, 10, 12]
    assert equal(task.evaluated[-1][1], trainer.average.tensors)
    assert figures["weight"] == pytest.approx(trainer.average.tensors["layer.weight"].sum().item())
    assert not equal(clone(task.module), trainer.average.tensors)
    plain = ToyTask()
    Trainer(plain, toy_config(eval_every=100), tmp_path / "plain").run()
    assert equal(clone(plain.module), clone(task.module)) and plain.losses == task.losses


def test_gradients_are_clipped_and_logged_before_clipping(tmp_path):
    task = ToyTask({0: lambda loss: 1e4 * loss})
    before = clone(task.module)["layer.weight"]
    Trainer(task, toy_config(num_samples=3, weight_decay=0.0, clip=0.5), tmp_path).run()
    assert read_log(tmp_path)["grad_norm"][0][1] > 1e3
    assert sum(p.grad.square().sum() for p in task.module.parameters()).sqrt() <= 0.5 + 1e-5
    assert (task.module.layer.weight - before).abs().max() <= 0.05 * 1.01  # an Adam step is at most about lr


def test_low_precision_is_an_autocast_of_the_loss(tmp_path):
    seen = []

    def look(loss):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return loss

    for precision in ("fp32", "bf16"):
        Trainer(ToyTask({0: look}), toy_config(num_samples=3, precision=precision), tmp_path / precision).run()
    assert not seen[0][0] and seen[1] == (True, torch.bfloat16)


def test_a_pass_without_gradients_leaves_the_next_its_own(tmp_path):
    """Autocast would keep the weights it narrowed in the first pass, and they have none."""

    class TwoPasses(ToyTask):
        def loss(self, draw):
            with torch.no_grad():
                self.module.layer(self.data)
            return super().loss(draw)

    tasks = ToyTask(), TwoPasses()
    for i, task in enumerate(tasks):
        Trainer(task, toy_config(precision="bf16"), tmp_path / str(i)).run()
    assert equal(clone(tasks[0].module), clone(tasks[1].module))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_with_a_non_finite_loss_is_skipped_and_counted(bad, tmp_path, caplog, monkeypatch):
    weights = {}

    def spoil(loss):
        weights["before"] = clone(task.module)
        return loss * bad

    def look(loss):
        weights["after"] = clone(task.module)
        return loss

    task = ToyTask({6: spoil, 7: look})
    trainer = Trainer(task, toy_config(), tmp_path)
    averages = []
    monkeypatch.setattr(trainer.average, "update", lambda module, step: averages.append(step))
    trainer.run()
    assert equal(weights["before"], weights["after"])
    assert all(value.isfinite().all() for value in clone(task.module).values())
    assert trainer.bad_steps == 1 and load_checkpoint(tmp_path).meta["bad_steps"] == 1
    assert "step 6 skipped" in caplog.text
    # Twelve steps, thirteen batches: schedule and average go on as if nothing had been, the data with the next batch.
    assert averages == list(range(12)) and sorted(task.losses) == list(range(13))
    log = read_log(tmp_path)
    assert [lr for _, lr in log["lr"]] == pytest.approx([trainer.config.lr_at(step) for step in range(12)], rel=1e-7)
    assert [samples for samples, _ in log["bad_steps"]] == [21, 24, 27, 30, 33, 36]


def test_too_many_bad_steps_stop_the_run_with_their_reason(tmp_path):
    task = ToyTask({step: lambda loss: loss * math.nan for step in (3, 5, 8)})
    with pytest.raises(RuntimeError) as caught:
        Trainer(task, toy_config(max_bad_steps=2), tmp_path).run()
    assert max(task.losses) == 8
    words = ["3 steps had a non-finite loss", "last at step 6 (batch 8, seed 0)", "'grad_norm': nan", "lower lr"]
    drawn = f"[{{'ids': {task.epochs.batch(8, 3)}, 't': [0.25, 0.25, 0.25]}}]"
    assert all(word in str(caught.value) for word in [*words, drawn])


def test_a_run_of_bad_steps_alone_can_be_saved(tmp_path):
    """A run that is stopped before its first good step goes on with the next batch."""

    def last(loss):
        send(signal.SIGTERM)(loss)
        return loss * math.nan

    task = ToyTask({0: lambda loss: loss * math.nan, 1: last})
    with pytest.raises(SystemExit):
        Trainer(task, toy_config(), tmp_path).run()
    state = load_checkpoint(tmp_path)
    assert state.step == 0 and state.optimizer == {} and state.meta["bad_steps"] == 2
    resumed = ToyTask()
    Trainer(resumed, toy_config(), tmp_path).run()
    assert sorted(resumed.losses) == list(range(2, 14))


def test_progress_is_reported(tmp_path):
    calls = []
    Trainer(ToyTask(), toy_config(log_every=4), tmp_path, lambda *call: calls.append(call)).run()
    assert [call[:2] for call in calls] == [(0, 12), (4, 12), (5, 12), (8, 12), (10, 12), (12, 12), (12, 12)]
    assert calls[0][2] == "" and "loss" in calls[1][2] and "val/weight" in calls[2][2]
    Trainer(ToyTask(), toy_config(num_samples=60), tmp_path, lambda *call: calls.append(call)).run()
    assert calls[7] == (12, 20, "")  # what was done before is no measure of speed
