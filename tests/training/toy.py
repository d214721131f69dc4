"""A task that trains in no time: fit noisy targets with one linear layer."""

import signal
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mdtdist.training.trainer import EpochSampler, TrainerConfig


class Toy(nn.Module):
    """A layer and a buffer that counts nothing, as position tables do."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)
        self.register_buffer("table", torch.arange(4.0))


class ToyTask:
    """Records its losses; ``events`` happen while a step is computed (0-based) and may change or replace its loss."""

    def __init__(self, events: dict[int, Callable[[Tensor], Tensor]] | None = None, *, width: int = 3) -> None:
        self.events = events or {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.module = Toy(width)
            self.data = torch.randn(7, width)
        self.epochs = EpochSampler(len(self.data), 0)
        self.losses: dict[int, float] = {}
        self.evaluated: list[tuple[int, dict[str, Tensor]]] = []

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = self.data[self.epochs.batch(step, batch_size)]
        loss = ((self.module.layer(x) - torch.randn(len(x), 2, generator=generator)) ** 2).mean()
        if step in self.events:
            loss = self.events[step](loss)
        self.losses[step] = loss.item()
        return {"loss": loss}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        assert not self.module.training
        self.evaluated.append((step, clone(self.module)))
        return {"weight": self.module.layer.weight.sum().item()}

    def export(self, folder: Path) -> None:
        save_file(clone(self.module), folder / "toy.safetensors")


def toy_config(**changes) -> TrainerConfig:
    """Twelve steps of three samples, a checkpoint every four."""
    values = {"num_samples": 36, "batch_size": 3, "lr": 0.05, "log_every": 1, "eval_every": 5, "save_every": 4}
    return TrainerConfig(**{**values, "weight_decay": 0.01, "ema": 0.9, **changes})


def clone(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors of a module."""
    return {
        key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in module.state_dict().items()
    }


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two modules have bitwise equal tensors."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def crash(loss: Tensor) -> Tensor:
    """The event of a process that dies."""
    raise RuntimeError("the power failed")


def send(number: signal.Signals) -> Callable[[Tensor], Tensor]:
    """The event of a signal that arrives during a step."""

    def event(loss: Tensor) -> Tensor:
        signal.raise_signal(number)
        return loss

    return event
