"""Distillation objectives, one file per method: pure functions of a student, a teacher, latents and a generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mdtdist.objectives.endpoint import EndpointConfig, EndpointLoss, endpoint_loss
from mdtdist.objectives.mdt import (
    MDTConfig,
    MDTLoss,
    mdt_loss,
    velocity_distillation_loss,
    velocity_matching_loss,
)
from mdtdist.objectives.residual import TransportResidual, transport_residual


@dataclass(frozen=True)
class Objective:
    """A method: its options and its loss.

    Attributes:
        config: frozen dataclass of the options.
        loss: ``loss(student, teacher, x_0, *, layout, config, generator, ...)``; returns a dataclass whose ``loss``
            is per sample, the other fields being values to log.
    """

    config: type[Any]
    loss: Callable[..., Any]


OBJECTIVES: dict[str, Objective] = {
    "mdt": Objective(MDTConfig, mdt_loss),
    "endpoint": Objective(EndpointConfig, endpoint_loss),
}

__all__ = [
    "OBJECTIVES",
    "EndpointConfig",
    "EndpointLoss",
    "MDTConfig",
    "MDTLoss",
    "Objective",
    "TransportResidual",
    "endpoint_loss",
    "mdt_loss",
    "transport_residual",
    "velocity_distillation_loss",
    "velocity_matching_loss",
]
