"""Several images of one object as the condition of one sample (the multi-image modes of TRELLIS)."""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.flow import VelocityField

Fusion = Literal["stochastic", "multidiffusion"]


def stochastic_field(views: Sequence[VelocityField]) -> VelocityField:
    """Step i of a sampler sees view ``i mod n`` alone: no more evaluations than with one view.

    The field counts its calls, one a step, so it is good for one run of a sampler.
    """
    turn = cycle(views)
    return lambda x, t, **told: next(turn)(x, t, **told)


def multidiffusion_field(views: Sequence[VelocityField]) -> VelocityField:
    """Every step follows the mean velocity of all views, which costs an evaluation for each."""

    def field(x: Float[Tensor, "..."], t: Float[Tensor, "B"], **told: Tensor) -> Float[Tensor, "..."]:
        return torch.stack([view(x, t, **told) for view in views]).mean(0)

    return field


FUSIONS: dict[str, Callable[[Sequence[VelocityField]], VelocityField]] = {
    "stochastic": stochastic_field,
    "multidiffusion": multidiffusion_field,
}


def check_fusion(fusion: str) -> None:
    """Refuse a name that is none of ``FUSIONS``."""
    if fusion not in FUSIONS:
        raise InputError(f"fusion is {fusion!r}; expected {' or '.join(map(repr, FUSIONS))}")


def evaluations(fusion: str | None, *, num_views: int, num_steps: int, counted: int) -> int:
    """Network evaluations of a run for which a sampler counted one per step for the conditional field."""
    return counted + (num_views - 1) * num_steps if fusion == "multidiffusion" else counted
