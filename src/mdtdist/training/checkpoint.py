"""Training checkpoints that appear whole: a folder of safetensors and json, written aside and renamed."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a run needs to go on: trained weights, their moving average, optimiser moments, counters."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    meta: dict[str, Any]


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Per-parameter optimiser tensors keyed ``<index>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put tensors from ``flatten_optimizer`` back; learning rates stay as configured."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Write ``folder/checkpoint``, replacing an older one only when the new one is complete."""
    new, final, old = folder / "checkpoint.new", folder / "checkpoint", folder / "checkpoint.old"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name in ("weights", "average", "optimizer"):
        tensors = {key: value.detach().contiguous().clone() for key, value in getattr(state, name).items()}
        save_file(tensors, new / f"{name}.safetensors")
    (new / "state.json").write_text(json.dumps({"step": state.step, **state.meta}, indent=1))
    for path in new.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if final.exists():  # otherwise an older crash left `old` as the only checkpoint: keep it until the new one is named
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> TrainingState | None:
    """The latest complete checkpoint of a run folder, or None for a fresh run."""
    for candidate in (folder / "checkpoint", folder / "checkpoint.old"):
        if (candidate / "state.json").is_file():
            meta = json.loads((candidate / "state.json").read_text())
            tensors = {
                name: load_file(candidate / f"{name}.safetensors") for name in ("weights", "average", "optimizer")
            }
            return TrainingState(step=meta.pop("step"), meta=meta, **tensors)
    return None


class MovingAverage:
    """Exponential moving average of a module's parameters and buffers, with a warm-up that forgets the start.

    The decay at step n is ``min(decay, (1 + n) / (10 + n))``.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {key: value.detach().clone() for key, value in module.state_dict().items()}

    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if value.is_floating_point():
                    self.tensors[key].lerp_(value, 1 - decay)
                else:
                    self.tensors[key].copy_(value)
