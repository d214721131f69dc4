"""A task that trains in no time: fit noisy targets with one linear layer."""

import copy
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mdtdist.training.task import Draw, EpochSampler, Task
from mdtdist.training.trainer import TrainerConfig


class Toy(nn.Module):
    """A layer and a buffer that counts nothing, as position tables do."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)
        self.register_buffer("table", torch.arange(4.0))


class ToyTask(Task):
    """Records its losses; ``events`` happen while a batch is computed (0-based) and may change or replace its loss.

    Batches and steps have the same number until a step is skipped.
    """

    def __init__(self, events: dict[int, Callable[[Tensor], Tensor]] | None = None, *, width: int = 3) -> None:
        self.events = events or {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.module = Toy(width)
            self.data = torch.randn(7, width)
        self.epochs = EpochSampler(len(self.data), 0)
        self.losses: dict[int, float] = {}
        self.evaluated: list[tuple[int, dict[str, Tensor]]] = []

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        ids = self.epochs.draw(draw)
        loss = ((self.module.layer(self.data[ids]) - torch.randn(len(ids), 2, generator=draw.generator)) ** 2).mean()
        if draw.position in self.events:
            loss = self.events[draw.position](loss)
        self.losses[draw.position] = loss.item()
        self.last_draw = {"ids": ids, "t": torch.full((len(ids),), 0.25)}
        return {"loss": loss}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        assert not self.module.training
        self.evaluated.append((step, clone(self.module)))
        return {"weight": self.module.layer.weight.sum().item()}

    def export(self, folder: Path) -> None:
        save_file(clone(self.module), folder / "toy.safetensors")


class Block(nn.Module):
    """A residual layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return x + scale * torch.tanh(self.layer(x))


class Stack(nn.Module):
    """Layers around two blocks, as in the flow transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(3, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        h = self.input(x)
        for block in self.blocks:
            h = block(h, self.table[1])
        return self.output(h)


class PairTask(ToyTask):
    """A student that follows a fake network, which learns of its samples first, and a slow average of the student."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(6)
            self.module, fake = Stack(), Stack()
        slow = copy.deepcopy(self.module).requires_grad_(False)
        self.companions = {"fake": fake, "slow": slow}
        self.turns, self.lr_scale = ("fake", "student"), {"fake": 0.5}
        self.seen: dict[int, set[str]] = {}

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        x = self.data[self.epochs.draw(draw)]
        noise = torch.randn(len(x), 2, generator=draw.generator)
        student, fake = self.module, self.companions["fake"]
        self.seen[draw.position] = {n for n, m in self.networks().items() if next(m.parameters()).requires_grad}
        with torch.no_grad():
            target = student(x + 0.1) + self.companions["slow"](x)
        if draw.network == "fake":
            return {"loss": (fake(x) - target - noise).square().mean()}
        return {"loss": (student(x) - fake(student(x).repeat(1, 2)[:, :3]) - 0.1 * target).square().mean()}

    def after_step(self, step: int) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.companions["slow"].parameters(), self.module.parameters(), strict=True):
                slow.lerp_(fast, 0.2)

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        return {"mean": self.module(self.data).mean().item()}


def toy_config(**changes) -> TrainerConfig:
    """Twelve steps of three samples, a checkpoint every four."""
    values = {"num_samples": 36, "batch_size": 3, "lr": 0.05, "log_every": 1, "eval_every": 5, "save_every": 4}
    return TrainerConfig(**{**values, "weight_decay": 0.01, "ema": 0.9, "tensorboard": False, **changes})


def draw(position: int, batch_size: int, *, seed: int = 0, **more) -> Draw:
    """What a task is asked for at a step, with the generator of ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    return Draw(step=position, position=position, batch_size=batch_size, generator=generator, **more)


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
