"""Making one training step: the losses of a task, their gradients over all passes and processes, the optimisers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.training.blocks import checkpoint_activations, compile_blocks
from mdtdist.training.checkpoint import flatten_optimizer, restore_optimizer
from mdtdist.training.optimization import Optimization, widen
from mdtdist.training.parallel import Parallel
from mdtdist.training.task import MAIN, Draw, Task, step_generator
from mdtdist.training.trainer_config import TrainerConfig

_AUTOCAST = {"fp32": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}  # without effect for fp32


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What became of a step.

    Attributes:
        record: means over the samples, for the log.
        is_made: False if something was not finite: the networks whose turn came before it have moved, no other has.
        drawn: of a step that was not made, what the passes of all processes were of: those whose loss is not finite, or
            all where a gradient alone is not.
    """

    record: dict[str, float]
    is_made: bool
    drawn: Sequence[Mapping[str, Any]] = ()


class Steps:
    """The networks of a task with their optimisers; makes steps, each a function of (weights, moments, step, position).

    Attributes:
        networks: every network of a checkpoint by name.
        trained: the optimisation of those whose turn comes.
        num_shards: equal parts of a batch, one for every process and accumulated pass.

    Raises:
        InputError: if a batch cannot be divided.
    """

    def __init__(self, task: Task, config: TrainerConfig, parallel: Parallel) -> None:
        self.task, self.config, self.parallel = task, config, parallel
        self.num_shards = parallel.num_processes * config.accumulate
        if config.batch_size % self.num_shards:
            raise InputError(
                f"batch_size is {config.batch_size}, but {parallel.num_processes} process(es) with accumulate "
                f"{config.accumulate} take equal parts; give a multiple of {self.num_shards}"
            )
        self.networks = task.networks()
        for network in self.networks.values():
            widen(network)
        names = tuple(dict.fromkeys(task.turns))
        for name in names:
            if config.checkpoint_activations:
                checkpoint_activations(self.networks[name])
            if config.compile:
                compile_blocks(self.networks[name])
        parallel.spread(self.networks)
        self.trained = {name: Optimization(self.networks[name], config) for name in names}
        self._losses = {name: parallel.loss_of(task, self.networks[name]) for name in names}

    def make(self, step: int, batch: int) -> StepResult:
        """Update every network whose turn it is; a turn that fails skips the rest of the step.

        Args:
            step: steps made so far, for the learning rate and the task.
            batch: number of the step's batches; larger than ``step`` by the steps that were skipped.
        """
        record: dict[str, float] = {}
        for turn, name in enumerate(self.task.turns):
            position = batch * len(self.task.turns) + turn
            values, drawn = self._update(name, step, position)
            record |= values if name == MAIN else {f"{name}_{key}": value for key, value in values.items()}
            if not _is_finite(values):
                readable = [{key: _plain(value) for key, value in one.items()} for one in drawn]
                everywhere = [one for part in self.parallel.gather(readable) for one in part]
                return StepResult(record=record, is_made=False, drawn=everywhere)
        return StepResult(record=record, is_made=True)

    def _update(self, name: str, step: int, position: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """One loss of one network, and the step of its optimiser unless something is not finite."""
        trained, lr = self.trained[name], self.config.lr_at(step) * self.task.lr_scale.get(name, 1.0)
        for other, optimization in self.trained.items():
            for parameter in optimization.parameters:  # the others would only waste their gradients
                parameter.requires_grad_(other == name)
        while True:
            trained.zero_grad()
            passes = [self._pass(name, step, position, index) for index in range(self.config.accumulate)]
            values = self.parallel.mean(_mean([values for values, _ in passes]))
            values["grad_norm"] = trained.clip()
            if not trained.overflowed(values["loss"], values["grad_norm"]):
                break
        if _is_finite(values):
            trained.step(lr)
        is_found = math.isfinite(values["loss"])
        drawn = [drawn for own, drawn in passes if is_found or not math.isfinite(own["loss"])]
        return values | {"lr": lr}, drawn

    def _pass(self, name: str, step: int, position: int, index: int) -> tuple[dict[str, float], dict[str, Any]]:
        """Loss and gradient of one shard; returns what is logged, and what it was drawn from."""
        config, loss_of = self.config, self._losses[name]
        shard = self.parallel.rank * config.accumulate + index
        draw = Draw(
            step=step,
            position=position,
            batch_size=config.batch_size,
            generator=step_generator(config.seed, position, shard),
            network=name,
            shard=shard,
            num_shards=self.num_shards,
        )
        with self.parallel.syncing(loss_of, self.networks[name], is_last=index == config.accumulate - 1):
            with self._autocast():
                losses: dict[str, Tensor] = loss_of(draw)
            self.trained[name].backward(losses["loss"], share=1 / config.accumulate)
        values = {key: float(value.detach()) for key, value in losses.items()}
        return values, dict(self.task.last_draw)

    def _autocast(self) -> torch.autocast:
        """Of the forward pass. Weights are narrowed anew for each evaluation of a network: in some releases of torch a
        cached one that was made without gradients has none in a later evaluation with them."""
        return torch.autocast(
            self.parallel.device.split(":")[0],
            _AUTOCAST[self.config.precision],
            enabled=self.config.precision != "fp32",
            cache_enabled=False,
        )

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of the optimisers by network."""
        return {name: flatten_optimizer(one.optimizer) for name, one in self.trained.items()}

    def states(self) -> dict[str, dict[str, Any]]:
        """What else the optimisers keep."""
        return {name: one.state() for name, one in self.trained.items()}

    def restore(self, moments: Mapping[str, Mapping[str, Tensor]], states: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back ``moments`` and ``states``."""
        for name, one in self.trained.items():
            restore_optimizer(one.optimizer, moments[name])
            one.restore(states[name])


def _mean(records: Sequence[dict[str, float]]) -> dict[str, float]:
    if len(records) == 1:
        return records[0]
    return {key: math.fsum(record[key] for record in records) / len(records) for key in records[0]}


def _is_finite(values: Mapping[str, float]) -> bool:
    return math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])


def _plain(value: Any) -> Any:
    """The numbers of a tensor, rounded for a message; anything else as it is."""
    return [round(number, 4) for number in value.flatten().tolist()] if isinstance(value, Tensor) else value
