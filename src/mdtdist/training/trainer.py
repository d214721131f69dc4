"""One training loop for every task: resumable, logged, its batches a function of (seed, step)."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.training.checkpoint import (
    MovingAverage,
    TrainingState,
    flatten_optimizer,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from mdtdist.training.curves import read_records
from mdtdist.training.shutdown import StopRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and how fast a task is trained.

    Attributes:
        num_samples: training budget in samples; steps = num_samples // batch_size.
        batch_size: samples per step.
        lr: peak learning rate of AdamW.
        warmup: fraction of the steps with a linearly rising learning rate.
        final_lr: learning rate at the end as a fraction of the peak (cosine decay).
        weight_decay: AdamW weight decay.
        betas: AdamW moment decays.
        clip: largest gradient norm; larger gradients are scaled down.
        ema: decay of the weight average that is evaluated and exported.
        precision: "bf16" runs the forward pass under autocast, "fp32" does not.
        seed: decides every batch, time and noise together with the step.
        log_every: steps between log lines.
        eval_every: steps between evaluations on the validation split.
        save_every: steps between checkpoints.
        max_bad_steps: stop after this many steps with a non-finite loss or gradient.
        device: torch device.
    """

    num_samples: int
    batch_size: int
    lr: float
    warmup: float = 0.02
    final_lr: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "fp32"
    seed: int = 0
    log_every: int = 20
    eval_every: int = 1000
    save_every: int = 200
    max_bad_steps: int = 20
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is '{self.precision}'; expected fp32 or bf16")
        if self.num_samples < self.batch_size or self.batch_size < 1:
            raise ValueError(f"num_samples {self.num_samples} must be at least batch_size {self.batch_size} >= 1")
        if len(self.betas) != 2:
            raise ValueError(f"betas is {self.betas}; expected two moment decays")
        if min(self.log_every, self.eval_every, self.save_every) < 1:
            intervals = f"{self.log_every}, {self.eval_every} and {self.save_every}"
            raise ValueError(f"log_every, eval_every and save_every are {intervals}; expected at least 1 step each")

    @property
    def num_steps(self) -> int:
        return self.num_samples // self.batch_size

    def lr_at(self, step: int) -> float:
        """Linear warm-up, then cosine decay to ``final_lr``."""
        warmup = max(1, int(self.warmup * self.num_steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.num_steps - warmup)
        return self.lr * (self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))


@runtime_checkable
class Task(Protocol):
    """What the trainer trains. ``module`` holds every trained parameter and nothing else."""

    module: nn.Module

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars to log; the entry ``loss`` is minimised."""
        ...

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Validation figures of ``module`` (its weights are the average while this runs); may write pictures."""
        ...

    def export(self, folder: Path) -> None:
        """Write the networks (averaged weights are in place) as a checkpoint folder."""
        ...


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator that depends on (seed, step) alone, so that a resumed run repeats the same draws."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * 7919 + 12345) % (2**63))


class EpochSampler:
    """Batches of indices without replacement: a function of (seed, step), reshuffled every epoch."""

    def __init__(self, num_items: int, seed: int) -> None:
        self.num_items, self.seed = num_items, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def batch(self, step: int, batch_size: int) -> list[int]:
        return [self._item(position) for position in range(step * batch_size, (step + 1) * batch_size)]

    def _item(self, position: int) -> int:
        epoch, offset = divmod(position, self.num_items)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.num_items, generator=step_generator(self.seed + 1, epoch))
        return int(self._order[offset])


class Trainer:
    """Runs a task in ``folder``: ``log.jsonl``, ``checkpoint/``, pictures, and the export at the end.

    A folder with a checkpoint is continued; what its log says beyond the checkpoint is dropped and made again.

    Raises:
        InputError: if the checkpoint in ``folder`` does not fit the task.
    """

    def __init__(
        self, task: Task, config: TrainerConfig, folder: Path, progress: Callable[[int, int, str], None] | None = None
    ) -> None:
        self.task, self.config, self.folder, self.progress = task, config, folder, progress
        folder.mkdir(parents=True, exist_ok=True)
        self.optimizer = torch.optim.AdamW(
            task.module.parameters(),
            lr=config.lr,
            betas=(config.betas[0], config.betas[1]),
            weight_decay=config.weight_decay,
        )
        self.average = MovingAverage(task.module, config.ema)
        self.step, self.bad_steps, self.cpu_seconds = 0, 0, 0.0
        self._resume()

    def run(self) -> dict[str, float]:
        """Train to the end of the budget, evaluate and export; returns the last validation figures.

        Ctrl-C and SIGTERM take effect after the step they fall into, once a checkpoint is written.
        """
        self.task.module.train()
        with StopRequest() as stop:
            self._train(stop)
        figures = self._evaluate()
        with self.averaged_weights():
            self.task.export(self.folder)
        return figures

    def _train(self, stop: StopRequest) -> None:
        clock = time.process_time()
        while self.step < self.config.num_steps:
            record = self._train_step()
            self.step += 1
            self.cpu_seconds, clock = self.cpu_seconds + time.process_time() - clock, time.process_time()
            if self.step % self.config.log_every == 0:
                self._log({"step": self.step, "samples": self.step * self.config.batch_size, **record})
            last = self.step == self.config.num_steps
            if self.step % self.config.save_every == 0 or last or stop.received is not None:
                self._save()
            if stop.received is not None:
                log.warning("stopped at step %d of %d; the same command goes on", self.step, self.config.num_steps)
                stop.deliver()
            if self.step % self.config.eval_every == 0 and not last:
                self._evaluate()

    def _train_step(self) -> dict[str, float]:
        config = self.config
        lr = config.lr_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(config.device.split(":")[0], torch.bfloat16, enabled=config.precision == "bf16"):
            losses = self.task.loss(self.step, config.batch_size, step_generator(config.seed, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.task.module.parameters(), config.clip)
        record = {name: float(value.detach()) for name, value in losses.items()}
        record |= {"grad_norm": float(norm), "lr": lr}
        if not (math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])):
            self._count_bad_step(record)
            return record
        self.optimizer.step()
        self.average.update(self.task.module, self.step)
        return record

    def _count_bad_step(self, record: dict[str, float]) -> None:
        self.bad_steps += 1
        log.warning("step %d skipped: %s", self.step, record)
        if self.bad_steps > self.config.max_bad_steps:
            raise RuntimeError(
                f"{self.bad_steps} steps had a non-finite loss or gradient, the last at step {self.step} "
                f"(seed {self.config.seed}): {record}; lower lr ({self.config.lr}) or use precision fp32"
            )

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Evaluate with the averaged weights, then put the trained ones back."""
        trained = {key: value.detach().clone() for key, value in self.task.module.state_dict().items()}
        self.task.module.load_state_dict(self.average.tensors)
        self.task.module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.task.module.load_state_dict(trained)
            self.task.module.train()

    def _evaluate(self) -> dict[str, float]:
        with self.averaged_weights():
            figures = self.task.evaluate(self.folder, self.step)
        samples = self.step * self.config.batch_size
        self._log({"step": self.step, "samples": samples, **{f"val/{key}": value for key, value in figures.items()}})
        return figures

    def _log(self, record: dict[str, Any]) -> None:
        record = {key: round(value, 6) if isinstance(value, float) else value for key, value in record.items()}
        record["cpu_seconds"] = round(self.cpu_seconds, 1)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self.progress is not None:
            shown = " ".join(f"{k} {v:.4g}" for k, v in record.items() if k not in ("step", "samples", "cpu_seconds"))
            self.progress(self.step, self.config.num_steps, shown)

    def _save(self) -> None:
        meta = {"bad_steps": self.bad_steps, "cpu_seconds": self.cpu_seconds, "config": asdict(self.config)}
        state = TrainingState(
            step=self.step,
            weights=dict(self.task.module.state_dict()),
            average=self.average.tensors,
            optimizer=flatten_optimizer(self.optimizer),
            meta=meta,
        )
        save_checkpoint(self.folder, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.folder)
        if state is not None:
            self._restore(state)
            log.info("resumed %s at step %d of %d", self.folder, self.step, self.config.num_steps)
        self._cut_log()

    def _restore(self, state: TrainingState) -> None:
        try:
            self.task.module.load_state_dict(state.weights)
        except RuntimeError as err:
            raise InputError(
                f"{self.folder}/checkpoint is of other networks than the config describes; give another out or "
                f"remove the folder ({' '.join(str(err).split())[:200]})"
            ) from err
        for name in ("batch_size", "seed"):
            before, now = state.meta["config"][name], getattr(self.config, name)
            if before != now:
                log.warning("%s was trained with %s %s so far, now with %s", self.folder, name, before, now)
        self.average.tensors = {key: value.to(self.config.device) for key, value in state.average.items()}
        restore_optimizer(self.optimizer, state.optimizer)
        self.step, self.bad_steps = state.step, state.meta["bad_steps"]
        self.cpu_seconds = state.meta["cpu_seconds"]

    def _cut_log(self) -> None:
        """Drop the records of steps that are trained again, and the evaluation of a finished run, which is repeated."""
        path = self.folder / "log.jsonl"
        if not path.is_file():
            return
        done = self.step >= self.config.num_steps
        kept = [
            record
            for record in read_records(path)
            if record["step"] <= self.step and not (done and record["step"] == self.step and "lr" not in record)
        ]
        with appear_whole(path) as partial:
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
