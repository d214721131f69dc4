"""Averages of weights over a run."""

from typing import Literal

import torch
from torch import nn


class MovingAverage:
    """Running average of a module's parameters and buffers.

    Attributes:
        tensors: the average, by the keys of the state dict.
        decay, mode, gamma: see ``average_decay``.
    """

    def __init__(
        self,
        module: nn.Module,
        decay: float,
        *,
        mode: Literal["constant", "power"] = "constant",
        gamma: float = 6.94,
    ) -> None:
        self.decay, self.mode, self.gamma = decay, mode, gamma
        self.tensors = {key: value.detach().clone() for key, value in module.state_dict().items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights that step number ``step`` (from 0) has made."""
        decay = average_decay(step, decay=self.decay, mode=self.mode, gamma=self.gamma)
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if value.is_floating_point():
                    self.tensors[key].lerp_(value, 1 - decay)
                else:
                    self.tensors[key].copy_(value)


def average_decay(step: int, *, decay: float, mode: Literal["constant", "power"], gamma: float) -> float:
    """Weight of the average so far against the weights of step ``step`` (from 0).

    "constant" is ``min(decay, (1 + n) / (10 + n))``, which forgets the start. "power" is ``(1 - 1 / (n + 1))^(gamma +
    1)``, so that the weights of step n count about as ``n^gamma`` (EDM2, Karras et al., 2024, arXiv 2312.02696, Section
    3.1).
    """
    if mode == "power":
        return (1 - 1 / (step + 1)) ** (gamma + 1)
    return min(decay, (1 + step) / (10 + step))
