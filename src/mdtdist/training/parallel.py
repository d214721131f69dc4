"""The processes that train together, by way of accelerate: one on a CPU, or as many as a launcher has started."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.training.sharding import set_gradient_sync, shard
from mdtdist.training.task import Draw, Task

T = TypeVar("T")
Loss = Callable[[Draw], dict[str, Tensor]]
# The main process makes latents and conditions while the others wait. A process that dies is noticed by the launcher.
_PATIENCE = timedelta(hours=6)


class Parallel:
    """One process of a training, and what it shares with the others.

    Attributes:
        device: torch device of this process.
        rank: its number; the process 0 writes the files.
        num_processes: how many there are.

    Raises:
        InputError: if accelerate is missing or there is no such device.
    """

    def __init__(self, device: str = "cpu", mode: Literal["ddp", "fsdp"] = "ddp") -> None:
        self._accelerator = _start(device)
        # Or the config file of `accelerate launch` asks for it.
        self.mode = "fsdp" if self._accelerator.distributed_type.value == "FSDP" else mode
        self.rank: int = self._accelerator.process_index
        self.num_processes: int = self._accelerator.num_processes
        own = self._accelerator.device  # "cpu:0", say, which not everything takes for the CPU
        self.device = device if self.num_processes == 1 else str(own) if own.type != "cpu" else "cpu"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def shards(self) -> bool:
        """Whether the networks are spread over the processes."""
        return self.mode == "fsdp" and self.num_processes > 1

    def spread(self, networks: Mapping[str, nn.Module]) -> None:
        """Spread networks over the processes where that is asked for; before their optimisers are made.

        Raises:
            InputError: if a network cannot be spread.
        """
        if self.shards:
            for network in networks.values():
                shard(network, device_type=torch.device(self.device).type, num_processes=self.num_processes)

    def loss_of(self, task: Task, network: nn.Module) -> Loss:
        """The loss of a task; its backward pass averages the gradients of ``network`` over the processes."""
        if self.num_processes == 1 or self.shards:
            return task.loss
        with warnings.catch_warnings():  # newer releases of torch call one of the options below by another name
            warnings.simplefilter("ignore", FutureWarning)
            return self._accelerator.prepare_model(_LossOf(task, network))

    @contextlib.contextmanager
    def syncing(self, loss: Loss, network: nn.Module, is_last: bool) -> Iterator[None]:
        """The forward and backward pass of a loss; gradients are averaged in the last pass of a step alone."""
        if self.shards:
            set_gradient_sync(network, is_last)
            yield
        elif is_last or self.num_processes == 1:
            yield
        else:
            with self._accelerator.no_sync(loss):
                yield

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over the processes; not finite for all if it is not for one."""
        if self.num_processes == 1:
            return dict(values)
        mine = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        return dict(zip(values, self._accelerator.reduce(mine, "mean").tolist(), strict=True))

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.num_processes == 1:
            return number
        return int(self._accelerator.gather(torch.tensor([number], device=self.device)).max())

    def gather(self, value: T) -> list[T]:
        """The picklable values of all processes, in their order."""
        if self.num_processes == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def from_main(self, function: Callable[[], T]) -> T:
        """What a function returns in the main process, which alone calls it; an exception is raised in all."""
        result: list[Any] = [None, None]
        if self.is_main:
            try:
                result[0] = function()
            except Exception as err:
                result[1] = err
        if self.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(result)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    def main_first(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the others begin when the main process is through: it makes the files that all read."""
        return self._accelerator.main_process_first()

    def close(self) -> None:
        """Leave the group of processes."""
        if self.num_processes > 1:
            self._accelerator.end_training()


class _LossOf(nn.Module):
    """A loss as the forward pass of the network it trains, which may run several times in it, and not by ``forward``.

    DistributedDataParallel wants one forward pass for each backward pass.
    """

    def __init__(self, task: Task, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.loss = task.loss

    def forward(self, draw: Draw) -> dict[str, Tensor]:
        return self.loss(draw)


def _start(device: str) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as err:
        raise InputError("training needs accelerate; install mdtdist[train]") from err
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device is '{device}', but torch finds no usable GPU here; use 'cpu'")
    # A method need not use every parameter at every step. Buffers are tables, equal everywhere.
    data_parallel = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    handlers = [data_parallel, InitProcessGroupKwargs(timeout=_PATIENCE)]
    return Accelerator(cpu=kind == "cpu", mixed_precision="no", kwargs_handlers=handlers)
