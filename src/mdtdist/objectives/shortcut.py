"""Shortcut models (Frans et al., 2024, arXiv 2410.12557), distilled: one jump must equal two jumps of half its length.

The student ``u(x_t, t, r)`` takes the state at ``t`` to ``x_t - (t - r) u`` at ``r``. Jumps of no length are the
teacher's velocity; each longer one is learned from the two halves that it is made of, so the teacher's knowledge climbs
from the short jumps to the long ones. No derivative is needed. The paper trains from data; here the teacher takes the
place of its flow-matching target. In the paper ``d = t - r``.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField, randn_like
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import TimeOptions


@dataclass(frozen=True, kw_only=True)
class ShortcutConfig:
    """Options of ``shortcut_loss``; the defaults are the paper's.

    Attributes:
        time: distribution of ``t`` for the samples that learn the teacher's velocity.
        p_consistency: share of samples that learn a jump from its halves; the others learn the teacher's velocity.
        num_steps: a power of two, how many of the shortest jumps there are between 1 and 0. Jumps of that length are
            asked for as jumps of no length: they are the teacher's Euler steps.
        p_one_step: share of the jumps that go all the way from 1 to 0; the others have lengths 1, 1/2, 1/4, ... and
            places on the grid of their length, all as likely.
        target: who makes the half jumps: the slow average of the student, "ema", or the student itself, "online".
    """

    time: TimeOptions = TimeOptions()
    p_consistency: float = 0.25
    num_steps: int = 128
    p_one_step: float = 0.0
    target: Literal["online", "ema"] = "ema"

    def __post_init__(self) -> None:
        for name in ("p_consistency", "p_one_step"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share in [0, 1]")
        if self.num_steps < 2 or self.num_steps & (self.num_steps - 1):
            raise ValueError(f"num_steps is {self.num_steps}; expected a power of two from 2 up")
        if self.target not in ("online", "ema"):
            raise ValueError(f"target is {self.target!r}; expected 'online' or 'ema'")

    @property
    def needs(self) -> frozenset[str]:
        """A student that takes ``r``, and its slow average if that is the target."""
        return frozenset({"interval", "target"} if self.target == "ema" else {"interval"})

    @property
    def cost(self) -> Cost:
        """One pass, two half jumps, and the teacher's velocity; every sample pays for both kinds of target."""
        return Cost(student_grad=1, student=2, teacher=1)


@dataclass(frozen=True, kw_only=True)
class ShortcutLoss:
    """Per-sample losses.

    Attributes:
        loss: ``flow + consistency``.
        flow: mean squared distance to the teacher's velocity; zero for the samples that learn a jump.
        consistency: mean squared distance to the mean of the half jumps; zero for the others.
        interval: lengths ``t - r`` of the jumps; zero for those that learn the velocity.
        t: times of the student's states.
    """

    loss: Float[Tensor, "B"]
    flow: Float[Tensor, "B"]
    consistency: Float[Tensor, "B"]
    interval: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


@torch.no_grad()
def two_half_jumps(
    target: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    r: Float[Tensor, "B"],
    layout: Layout,
    shortest: float = 0.0,
) -> Float[Tensor, "..."]:
    """The velocity of a jump from ``t`` to ``r`` by way of the middle: the mean of two velocities (Eq. 4), detached.

    Args:
        target: average velocity ``u(x, t, r=)`` that makes the half jumps.
        x_t: samples of the marginal at ``t``.
        t: times; 1 is noise.
        r: ends of the jumps, in [0, t].
        layout: how the samples lie in ``x_t``.
        shortest: half jumps of at most this length ask for the velocity of a jump of no length.
    """
    half = (t - r) / 2
    middle = t - half
    is_shortest = half <= shortest
    first = target(x_t, t, r=torch.where(is_shortest, t, middle))
    x_middle = x_t - layout.expand(half, x_t) * first
    second = target(x_middle, middle, r=torch.where(is_shortest, middle, r))
    return (first + second) / 2


def draw_jumps(
    like: Float[Tensor, "..."], num: int, *, config: ShortcutConfig, generator: torch.Generator
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """``num`` jumps ``(r, t)`` of lengths 1, 1/2, ..., 2 / num_steps, each from a multiple of its length.

    On the device of ``like`` and in at least float32, which the times are exact in.
    """
    exponent = torch.randint(int(math.log2(config.num_steps)), (num,), generator=generator)
    is_whole = torch.rand(num, generator=generator) < config.p_one_step
    length = 0.5 ** torch.where(is_whole, 0, exponent)
    place = torch.floor(torch.rand(num, generator=generator) / length)
    dtype = torch.promote_types(like.dtype, torch.float32)
    r, t = ((place + end) * length for end in (0, 1))
    return r.to(like.device, dtype), t.to(like.device, dtype)


def shortcut_loss(
    fields: Fields, latents: Latents, *, config: ShortcutConfig, generator: torch.Generator, step: int = 0
) -> ShortcutLoss:
    """``|| u(x_t, t, t) - v ||^2`` or ``|| u(x_t, t, r) - sg(two half jumps) ||^2`` per sample (Eq. 5).

    The generator is drawn from in the order kinds, t of the flow, jumps, z.

    Raises:
        ValueError: if the target is the slow average and there is none.
    """
    x_0, layout, num = latents.x_0, latents.layout, latents.layout.num_samples
    target = fields.target_of(config.target)
    is_jump = (torch.rand(num, generator=generator) < config.p_consistency).to(x_0.device)
    t_flow = config.time.sample(x_0, num, low=0.0, generator=generator)
    r, t = draw_jumps(x_0, num, config=config, generator=generator)
    t = torch.where(is_jump, t, t_flow)
    r = torch.where(is_jump, r, t)
    x_t = LinearPath().sample(x_0, randn_like(x_0, generator=generator), layout.expand(t, x_0))
    # The pass with gradients comes first: autocast keeps the weights that it has narrowed, and those of a pass without
    # gradients would cut them off.
    u = fields.student(x_t, t, r=r).to(x_t.dtype)
    with torch.no_grad():
        v = fields.teacher(x_t, t)
    jump = two_half_jumps(target, x_t, t, r=r, layout=layout, shortest=1 / config.num_steps)
    error = layout.mean((u - torch.where(layout.expand(is_jump, u), jump, v)) ** 2)
    return ShortcutLoss(loss=error, flow=error * ~is_jump, consistency=error * is_jump, interval=t - r, t=t)
