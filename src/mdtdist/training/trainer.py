"""One training loop for every task: resumable, logged, its batches a function of (seed, position, shard)."""

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mdtdist.errors import InputError
from mdtdist.training.averages import MovingAverage
from mdtdist.training.checkpoint import (
    TrainingState,
    find_checkpoint,
    prefixed,
    read_checkpoint,
    save_checkpoint,
    tensors_of,
)
from mdtdist.training.identity import check_identity, identity_of
from mdtdist.training.memory import explain_memory
from mdtdist.training.parallel import Parallel
from mdtdist.training.run_log import RunLog, make_trackers
from mdtdist.training.sharding import hollow_copy, spread_like, whole
from mdtdist.training.shutdown import StopRequest
from mdtdist.training.steps import StepResult, Steps
from mdtdist.training.task import Task
from mdtdist.training.trainer_config import TrainerConfig

__all__ = ["Trainer", "TrainerConfig"]

log = logging.getLogger(__name__)


class Trainer:
    """Runs a task in ``folder``: ``log.jsonl``, ``checkpoints/``, pictures, and the export at the end.

    A folder with a checkpoint is continued; what its log says beyond the checkpoint is dropped and made again.

    Args:
        task: what is trained.
        config: how.
        folder: of the run.
        progress: told the step, the last step and a text: at the start, with an empty text, and with every record.
        parallel: the processes that train together; None for those that a launcher has started, else this one alone.
        settings: the config of the task as nested tables; a run that goes on has to have the same.

    Raises:
        InputError: if the checkpoint in ``folder`` does not fit the task or the configs, or none of them is whole.
    """

    def __init__(
        self,
        task: Task,
        config: TrainerConfig,
        folder: Path,
        progress: Callable[[int, int, str], None] | None = None,
        *,
        parallel: Parallel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.task, self.config, self.folder, self.progress = task, config, folder, progress
        self.parallel = Parallel(config.device, config.parallel) if parallel is None else parallel
        self.identity = identity_of(config, settings or {})
        folder.mkdir(parents=True, exist_ok=True)
        self.step, self.bad_steps, self.cpu_seconds = 0, 0, 0.0
        with self._explained_memory():
            self._hollow = hollow_copy(task.module) if self.parallel.shards else None
            self.steps = Steps(task, config, self.parallel)
            self.networks = self.steps.networks
            self.average = MovingAverage(task.module, config.ema, mode=config.ema_mode, gamma=config.ema_gamma)
            self._resume()

    def _explained_memory(self) -> contextlib.AbstractContextManager[None]:
        return explain_memory(self.config, device=self.parallel.device, num_processes=self.parallel.num_processes)

    def run(self) -> dict[str, float]:
        """Train to the end of the budget, evaluate and export; returns the last validation figures.

        Ctrl-C and SIGTERM take effect after the step they fall into, once a checkpoint is written.

        Raises:
            InputError: if a step does not fit into memory.
            RuntimeError: if too many steps were not finite.
        """
        for network in self.networks.values():
            network.train()
        self.log = self._open_log()
        if self.progress is not None:
            self.progress(self.step, self.config.num_steps, "")
        with contextlib.closing(self.log), self._explained_memory():
            with StopRequest() as stop:
                self._train(stop)
            figures = self._evaluate()
            self._export()
        return figures

    def _open_log(self) -> RunLog:
        trackers, writes = [], self.parallel.is_main
        if writes:
            trackers = make_trackers(self.folder, self.config, step=self.step, settings=self.identity)
        is_done = self.step >= self.config.num_steps
        return RunLog(self.folder, step=self.step, is_done=is_done, trackers=trackers, writes=writes)

    def _train(self, stop: StopRequest) -> None:
        config, clock = self.config, time.process_time()
        while self.step < config.num_steps:
            # A step that was skipped is made again with the batches that come next.
            result = self.steps.make(self.step, self.step + self.bad_steps)
            self._count(result)
            self.cpu_seconds, clock = self.cpu_seconds + time.process_time() - clock, time.process_time()
            if result.is_made and self.step % config.log_every == 0:
                self._log({"step": self.step, "samples": self.step * config.batch_size, **result.record})
            is_last = self.step == config.num_steps
            stop.agree(self.parallel.largest)
            if stop.received is not None or (result.is_made and (self.step % config.save_every == 0 or is_last)):
                self._save()
            if stop.received is not None:
                log.warning("stopped at step %d of %d; the same command goes on", self.step, config.num_steps)
                stop.deliver()
            if result.is_made and self.step % config.eval_every == 0 and not is_last:
                self._evaluate()

    def _count(self, result: StepResult) -> None:
        """Advance schedule and averages after a step that was made; count one that was not."""
        if result.is_made:
            self.average.update(self.task.module, self.step)
            self.task.after_step(self.step)
            self.step += 1
            return
        self.bad_steps += 1
        log.warning("step %d skipped: %s", self.step, result.record)
        if self.bad_steps > self.config.max_bad_steps:
            raise RuntimeError(
                f"{self.bad_steps} steps had a non-finite loss or gradient, the last at step {self.step} (batch "
                f"{self.step + self.bad_steps - 1}, seed {self.config.seed}): {result.record}, drawn from "
                f"{list(result.drawn)}; lower lr ({self.config.lr}) or use precision fp32"
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
        """All processes evaluate, for one network may be spread over them; the main one keeps the pictures."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.averaged_weights())
            folder = self.folder
            if not self.parallel.is_main:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            figures = self.task.evaluate(folder, self.step)
        samples = self.step * self.config.batch_size
        self._log({"step": self.step, "samples": samples, **{f"val/{key}": value for key, value in figures.items()}})
        return figures

    def _export(self) -> None:
        """The main process exports; from a copy in one piece where the network is spread."""
        if self._hollow is None:
            with self.averaged_weights():
                self.parallel.from_main(lambda: self.task.export(self.folder))
            return
        tensors = {}
        for key, value in self.average.tensors.items():
            tensor = whole(value)
            if self.parallel.is_main:
                tensors[key] = tensor.cpu()
        self.parallel.from_main(lambda: self._export_copy(tensors))

    def _export_copy(self, tensors: Mapping[str, torch.Tensor]) -> None:
        assert self._hollow is not None
        spread, self.task.module = self.task.module, self._hollow.eval()
        self.task.module.load_state_dict(tensors, assign=True)
        with torch.no_grad():
            self.task.export(self.folder)
        self.task.module = spread

    def _log(self, record: dict[str, Any]) -> None:
        skipped = {"bad_steps": self.bad_steps} if self.bad_steps else {}
        written = self.log.write({**record, **skipped, "cpu_seconds": round(self.cpu_seconds, 1)})
        if self.progress is not None:
            shown = " ".join(f"{k} {v:.4g}" for k, v in written.items() if k not in ("step", "samples", "cpu_seconds"))
            self.progress(self.step, self.config.num_steps, shown)

    def _save(self) -> None:
        state = TrainingState(
            step=self.step,
            weights=prefixed({name: network.state_dict() for name, network in self.networks.items()}),
            average=self.average.tensors,
            optimizer=prefixed(self.steps.moments()),
            meta={
                "bad_steps": self.bad_steps,
                "cpu_seconds": self.cpu_seconds,
                "num_shards": self.steps.num_shards,
                "optimization": self.steps.states(),
                "identity": self.identity,
            },
        )
        save_checkpoint(self.folder, state, keep=self.config.keep_checkpoints, writes=self.parallel.is_main)
        self.parallel.wait()  # none may end, and have the launcher end the others, while the main one writes

    def _resume(self) -> None:
        found = self.parallel.from_main(lambda: find_checkpoint(self.folder))
        if found is None:
            return
        self._restore(read_checkpoint(found), found)
        log.info("resumed %s at step %d of %d", found, self.step, self.config.num_steps)

    def _restore(self, state: TrainingState, found: Path) -> None:
        accepts = self.config.accept_changes
        check_identity(state.meta["identity"], self.identity, folder=self.folder, accept_changes=accepts)
        if state.meta["num_shards"] != self.steps.num_shards:
            log.warning(
                "%s divided its batches in %d parts so far, now in %d: other times and noise are drawn",
                self.folder, state.meta["num_shards"], self.steps.num_shards,
            )  # fmt: skip
        for name, network in self.networks.items():
            try:
                here = network.state_dict()
                saved = tensors_of(state.weights, name)
                network.load_state_dict({k: spread_like(v, here[k]) if k in here else v for k, v in saved.items()})
            except RuntimeError as err:
                raise InputError(
                    f"{found} is of other networks than the config describes; give another out or remove the folder "
                    f"({' '.join(str(err).split())[:200]})"
                ) from err
        for key, value in state.average.items():
            self.average.tensors[key].copy_(spread_like(value, self.average.tensors[key]))
        moments = {name: tensors_of(state.optimizer, name) for name in self.steps.trained}
        self.steps.restore(moments, state.meta["optimization"])
        self.step, self.bad_steps = state.step, state.meta["bad_steps"]
        self.cpu_seconds = state.meta["cpu_seconds"]
