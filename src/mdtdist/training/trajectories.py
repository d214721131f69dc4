"""Teacher trajectories, sampled once and used over and over, by later runs too."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdtdist.files import appear_whole
from mdtdist.flow import EulerSampler, VelocityField, randn_like, time_grid
from mdtdist.objectives import TeacherTrajectory
from mdtdist.training.digests import digest
from mdtdist.training.latent_batches import LatentBatch
from mdtdist.training.task import Draw, EpochSampler, step_generator

log = logging.getLogger(__name__)

_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions:
    """Which trajectories of the teacher are kept.

    Attributes:
        num_batches: batches whose conditions, noise and trajectory are kept.
        steps, rescale_t: of the teacher's Euler sampler.
        num_states: states kept between noise and sample, evenly over the steps.
        as_data: whether the samples stand in for the data latents too, which makes any method data-free.
        cache: folder in which the trajectories are kept for later runs; None keeps them in memory. Several processes
            and several runs may share one: a file is named by all that its content follows from.
    """

    num_batches: int
    steps: int = 12
    rescale_t: float = 3.0
    num_states: int = 0
    as_data: bool = False
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.num_batches < 1 or self.steps < 1:
            raise ValueError(f"num_batches {self.num_batches} and steps {self.steps} must be at least 1")
        if not 0 <= self.num_states < self.steps:
            raise ValueError(f"num_states is {self.num_states}; expected fewer than the {self.steps} steps")

    @property
    def kept(self) -> list[int]:
        """Indices of the time grid at which states are kept, noise and sample included."""
        return [round(i * self.steps / (self.num_states + 1)) for i in range(self.num_states + 2)]


class TrajectoryStore:
    """Stored batches in an order that changes from epoch to epoch; each is sampled when it is first asked for.

    A stored batch is a function of its index and shard alone, so that a resumed run has the same ones.

    Args:
        options: what is kept, and where.
        seed: of the order.
        teacher: names the weights and the guidance of the teacher, for the cache.

    Attributes:
        num_sampled, num_read: how many the teacher was asked for, and how many came from the cache.
    """

    def __init__(self, options: TrajectoryOptions, *, seed: int, teacher: str = "") -> None:
        self.options = options
        self.num_sampled, self.num_read = 0, 0
        self._teacher = teacher
        self._order = EpochSampler(options.num_batches, seed)
        self._memory: dict[int, tuple[Tensor, ...]] = {}
        self._seen: set[int] = set()
        self._shards: set[int] = set()

    @property
    def progress(self) -> float:
        """Share of the batches of this process that have been sampled or found."""
        return len(self._seen) / (self.options.num_batches * max(1, len(self._shards)))

    def draw(
        self,
        draw: Draw,
        make_batch: Callable[[Draw], LatentBatch],
        teacher: Callable[[LatentBatch], VelocityField],
    ) -> tuple[LatentBatch, TeacherTrajectory]:
        """The batch whose turn it is, and its trajectory."""
        (index,) = self._order.batch(draw.position, 1)
        # Numbered through: what several processes keep is found again by any other number of them.
        number = index * draw.num_shards + draw.shard
        generator = step_generator(_SEED, number)
        batch = make_batch(
            Draw(
                step=index,
                position=number,
                batch_size=draw.batch_size // draw.num_shards,
                generator=generator,
                network=draw.network,
            )
        )
        noise = randn_like(batch.x_0, generator=generator)
        states = self._states(number, batch, noise, teacher)
        self._seen.add(number)
        self._shards.add(draw.shard)
        grid = time_grid(self.options.steps, rescale_t=self.options.rescale_t).tolist()
        return batch, TeacherTrajectory(times=tuple(grid[i] for i in self.options.kept), states=(noise, *states))

    def _states(
        self, number: int, batch: LatentBatch, noise: Tensor, teacher: Callable[[LatentBatch], VelocityField]
    ) -> tuple[Tensor, ...]:
        """All states but the noise, from memory, from the cache, or from the teacher."""
        if self.options.cache is None:
            if number not in self._memory:
                self._memory[number] = self._sample(teacher(batch), noise, batch)
            return self._memory[number]
        path = self.options.cache / "trajectories" / f"{self.key(batch, noise)}.safetensors"
        states = _read(path, like=noise, num_states=self.options.num_states + 1)
        if states is None:
            states = self._sample(teacher(batch), noise, batch)
            _write(path, states)
        elif number not in self._seen:
            self.num_read += 1
        return states

    def key(self, batch: LatentBatch, noise: Tensor) -> str:
        """The name of a trajectory: teacher, sampler, conditions, voxels, noise and precision."""
        options = self.options
        sampler = json.dumps(
            [options.steps, options.rescale_t, options.num_states, batch.time_scale, _precision(noise)]
        )
        voxels = () if batch.coords is None else (batch.coords,)
        return digest(self._teacher, sampler, batch.key or digest(batch.cond), noise, *voxels)

    @torch.no_grad()
    def _sample(self, teacher: VelocityField, noise: Tensor, batch: LatentBatch) -> tuple[Tensor, ...]:
        sampler = EulerSampler(steps=self.options.steps, rescale_t=self.options.rescale_t)
        steps = sampler.sample(teacher, noise, num_samples=batch.layout.num_samples).steps
        self.num_sampled += 1
        total = self.options.num_batches * max(1, len(self._shards))
        log.info("teacher trajectory of stored batch %d of %d sampled", len(self._seen) + 1, total)
        return tuple(steps[i - 1].x.to(noise.dtype) for i in self.options.kept[1:])


def _precision(like: Tensor) -> str:
    """The type that the teacher computes in: the same weights give other samples in another one."""
    kind = like.device.type
    return str(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype)


def _write(path: Path, states: Sequence[Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with appear_whole(path) as partial:
        save_file({f"{i}": state.detach().cpu().contiguous() for i, state in enumerate(states)}, partial)


def _read(path: Path, *, like: Tensor, num_states: int) -> tuple[Tensor, ...] | None:
    """The states in a file; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        states = tuple(tensors[f"{i}"].to(like.device) for i in range(num_states))
    except (SafetensorError, KeyError, OSError) as err:
        log.warning("%s is damaged (%s) and sampled again", path, err)
        return None
    return states if all(state.shape == like.shape for state in states) else None
