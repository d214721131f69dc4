"""One trained network: its optimiser, the scale of its 16-bit gradients, and how they are clipped."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.training.clipping import Clipper
from mdtdist.training.trainer_config import TrainerConfig


class LossScale:
    """Keeps the gradients of float16 passes above its smallest numbers: a power of two on the loss, taken off again.

    It halves when a gradient overflows and doubles after ``patience`` steps without. Unlike that of
    ``torch.amp.GradScaler`` the overflow is read off the norm of the whole gradient, which all processes agree on.
    """

    def __init__(self, *, is_on: bool, start: float = 2.0**16, largest: float = 2.0**24, patience: int = 1000) -> None:
        self.is_on, self.largest, self.patience = is_on, largest, patience
        self.scale = start if is_on else 1.0
        self.num_good = 0

    def halve(self) -> bool:
        """After an overflow; returns whether there was anything to halve."""
        can_fall = self.scale > 1
        self.scale, self.num_good = max(1.0, self.scale / 2), 0
        return can_fall

    def grow(self) -> None:
        """After a step that went well."""
        self.num_good += self.is_on
        if self.num_good >= self.patience:
            self.scale, self.num_good = min(self.largest, self.scale * 2), 0


class Optimization:
    """AdamW on the trainable parameters of a network."""

    def __init__(self, network: nn.Module, config: TrainerConfig) -> None:
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        betas = (config.betas[0], config.betas[1])
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
        self.scale = LossScale(is_on=config.precision == "fp16")
        percentile = config.clip_percentile if config.clip_mode == "percentile" else None
        self.clipper = Clipper(config.clip, percentile=percentile, window=config.clip_window)

    def zero_grad(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor, *, share: float) -> None:
        """Add ``share`` times the gradient of a loss, still scaled, to what is there."""
        factor = share * self.scale.scale
        (loss if factor == 1 else factor * loss).backward()

    def clip(self) -> float:
        """Take the scale off the gradients and clip them; returns their norm before."""
        if self.scale.scale != 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.scale.scale)
        return self.clipper.clip(self.parameters)

    def overflowed(self, loss: float, norm: float) -> bool:
        """Whether only the scale was at fault, which is half as large then: the same step is worth another try."""
        return math.isfinite(loss) and not math.isfinite(norm) and self.scale.halve()

    def step(self, lr: float) -> None:
        """Move the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.scale.grow()

    def state(self) -> dict[str, Any]:
        """All but the moments, as JSON has it."""
        return {"scale": self.scale.scale, "num_good": self.scale.num_good, "norms": list(self.clipper.norms)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` has given."""
        if self.scale.is_on:
            self.scale.scale, self.scale.num_good = state["scale"], state["num_good"]
        self.clipper.norms.extend(state["norms"])


def widen(network: nn.Module) -> None:
    """Hold 16-bit parameters in float32, in place: smaller steps than their own spacing would be lost."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            tensor.data = tensor.data.float()
