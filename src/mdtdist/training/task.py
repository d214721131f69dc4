"""What the trainer trains, and how batches are drawn: functions of (seed, position, shard) alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

MAIN = "student"
_SHARD_STRIDE = 6_364_136_223_846_793_005  # far apart and odd: shards of other steps and seeds are not met
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What one loss is drawn from.

    Attributes:
        step: of the trainer; steps that were skipped do not count.
        position: running number of the batch; a step takes one batch for every network it updates, and a step that is
            skipped has used up its own.
        batch_size: samples of the whole batch, all shards together.
        generator: of ``(seed, position, shard)``; the same draws whenever the step is computed.
        network: name of the network that is updated.
        shard, num_shards: which part of the batch this loss is of. The parts have equal sizes, one for every process
            and accumulated pass.
    """

    step: int
    position: int
    batch_size: int
    generator: torch.Generator
    network: str = MAIN
    shard: int = 0
    num_shards: int = 1

    def part(self, batch: Sequence[T]) -> list[T]:
        """This shard's share of a list that has one entry per sample of the whole batch."""
        size = len(batch) // self.num_shards
        return list(batch[self.shard * size : (self.shard + 1) * size])


class Task:
    """A training: networks and their losses.

    Attributes:
        module: what is averaged, evaluated and exported; called "student" in draws and checkpoints.
        companions: further networks that belong to a checkpoint, by name.
        turns: networks updated in one step, in order, each with its own optimiser and batch.
        lr_scale: learning rate of a network over that of the trainer, where it is not 1.
        last_draw: what the last loss was of, for the message of a step that fails: "ids" of the samples, times "t".
    """

    module: nn.Module
    companions: Mapping[str, nn.Module] = MappingProxyType({})
    turns: tuple[str, ...] = (MAIN,)
    lr_scale: Mapping[str, float] = MappingProxyType({})
    last_draw: Mapping[str, Any] = MappingProxyType({})

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        """Scalars to log, means over the samples; the entry ``loss`` is minimised in ``draw.network``."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called when a step has been made, not when it was skipped."""

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Validation figures of ``module`` (its weights are the average while this runs); may write pictures."""
        raise NotImplementedError

    def export(self, folder: Path) -> None:
        """Write the networks (averaged weights are in place) as a checkpoint folder."""
        raise NotImplementedError

    def networks(self) -> dict[str, nn.Module]:
        """Every network of a checkpoint by name."""
        return {MAIN: self.module, **self.companions}


def step_generator(seed: int, step: int, shard: int = 0) -> torch.Generator:
    """A generator that depends on (seed, step, shard) alone, so that a resumed run repeats the same draws."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * 7919 + 12345 + shard * _SHARD_STRIDE) % (2**63))


class EpochSampler:
    """Batches of indices without replacement: a function of (seed, position), reshuffled every epoch."""

    def __init__(self, num_items: int, seed: int) -> None:
        self.num_items, self.seed = num_items, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def draw(self, draw: Draw) -> list[int]:
        """The items of one shard."""
        return draw.part(self.batch(draw.position, draw.batch_size))

    def batch(self, position: int, batch_size: int) -> list[int]:
        return [self._item(i) for i in range(position * batch_size, (position + 1) * batch_size)]

    def _item(self, i: int) -> int:
        epoch, offset = divmod(i, self.num_items)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.num_items, generator=step_generator(self.seed + 1, epoch))
        return int(self._order[offset])
