"""MeanFlow distillation (Geng et al., 2025, arXiv 2505.13447): the average velocity between any two times.

``u(x_t, r, t)`` is the mean of the teacher's velocity along its trajectory from ``t`` down to ``r``, so that
``x_t - (t - r) u`` is the state at ``r``. Differentiating ``(t - r) u`` along that trajectory with ``r`` fixed gives
the MeanFlow identity ``u = v - (t - r) du/dt`` (Eq. 6). One network then takes one step, two, or many. The paper trains
from data, with ``z - x_0`` in the place of ``v``; here ``v`` is the teacher, as in AYF (arXiv 2506.14603).
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField, randn_like
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import DerivativeOptions, TimeOptions
from mdtdist.objectives.residual import check_times, total_derivative


@dataclass(frozen=True, kw_only=True)
class MeanFlowConfig:
    """Options of ``meanflow_loss``; the defaults are the paper's.

    Attributes:
        time: distribution of the two times of an interval, before they are sorted.
        derivative: how ``du/dt`` is taken. Its ``delta_t`` is also the shortest interval, so that differences stay
            inside.
        p_equal: share of samples with ``r = t``, which learn the teacher's velocity itself. With a good teacher a
            smaller share will do: AYF has none.
        p_one_step: share of samples on the whole interval, ``t = 1`` and ``r = 0``, the only one that a one-step
            sampler asks for; ``p_equal`` is a share of the others.
        weight_power: p of the weight ``(mean square + weight_offset)^-p`` of a sample; 0 is the plain mean square, 1
            makes all samples pull about equally.
        weight_offset: c of the weight, in squared units of velocity; the published 1e-3 is of a sum over elements.
    """

    time: TimeOptions = TimeOptions(kind="logit_normal", mean=-0.4, std=1.0)
    derivative: DerivativeOptions = DerivativeOptions(kind="jvp")
    p_equal: float = 0.75
    p_one_step: float = 0.0
    weight_power: float = 1.0
    weight_offset: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("p_equal", "p_one_step"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share in [0, 1]")
        if self.weight_power < 0:
            raise ValueError(f"weight_power is {self.weight_power}; expected at least 0")
        if self.weight_offset <= 0:
            raise ValueError(f"weight_offset is {self.weight_offset}; expected a positive number")

    @property
    def needs(self) -> frozenset[str]:
        """A student that takes ``r``."""
        return frozenset({"interval"})

    @property
    def cost(self) -> Cost:
        """One pass, the derivative, and the teacher's velocity."""
        return Cost(student_grad=1, student=self.derivative.passes, teacher=1)


# Every interval counts, and a quarter of the batch is what a one-step sampler asks for.
FEW_STEP = MeanFlowConfig(p_equal=0.25, p_one_step=0.25)


@dataclass(frozen=True, kw_only=True)
class MeanFlowLoss:
    """Per-sample loss.

    Attributes:
        loss: weighted error; near 1 whatever the student does for ``weight_power`` 1.
        error: mean square of the residual, to watch.
        interval: ``t - r``.
        t: the later time, that of the student's state.
    """

    loss: Float[Tensor, "B"]
    error: Float[Tensor, "B"]
    interval: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def average_velocity_residual(
    student: VelocityField,
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    r: Float[Tensor, "B"],
    layout: Layout,
    derivative: DerivativeOptions = DerivativeOptions(),
) -> Float[Tensor, "..."]:
    """``u(x_t, r, t) - sg(v - (t - r) du/dt)``, shaped like the latents (Eq. 9 and 10).

    ``du/dt`` is the total derivative along the teacher, tangent ``(v, 0, 1)`` on ``(x, r, t)``. The gradient flows
    through ``u(x_t, r, t)`` alone. With ``r = 0`` this is the transport residual of ``objectives.residual``.

    Args:
        student: average velocity ``u(x, t, r=)``.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        x_t: samples of the marginal at ``t``.
        t: times in [delta_t, 1]; 1 is noise.
        r: ends of the intervals, in [0, t].
        layout: how the samples lie in ``x_t``.
        derivative: how ``du/dt`` is taken.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``.
    """
    check_times(t, derivative.delta_t)
    with torch.no_grad():
        v = teacher(x_t, t)
    to_r = partial(student, r=r)
    u = to_r(x_t, t)
    slope = total_derivative(to_r, u, x_t, t, v, layout=layout, options=derivative)
    return u - (v - layout.expand(t - r, u) * slope)


def draw_intervals(
    like: Float[Tensor, "..."], num: int, *, config: MeanFlowConfig, generator: torch.Generator
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """``num`` pairs ``(r, t)`` with ``r = t`` or ``r <= t - delta_t``, and ``t`` in [delta_t, 1].

    Two times are drawn and sorted (Appendix A); ``time.p_noise`` is the share whose later time is 1.
    """
    shortest = config.derivative.delta_t
    late = config.time.sample(like, num, low=shortest, generator=generator)
    early = replace(config.time, p_noise=0.0).sample(like, num, low=0.0, generator=generator)
    is_equal, is_whole = (
        torch.rand(num, generator=generator).to(late.device) < p for p in (config.p_equal, config.p_one_step)
    )
    t = torch.maximum(late, early)
    r = torch.minimum(torch.minimum(late, early), (t - shortest).clamp(min=0))
    r = torch.where(is_equal, t, r)
    return torch.where(is_whole, 0.0, r), torch.where(is_whole, 1.0, t)


def meanflow_loss(
    fields: Fields, latents: Latents, *, config: MeanFlowConfig, generator: torch.Generator, step: int = 0
) -> MeanFlowLoss:
    """``sg((e + c)^-p) e`` with ``e`` the mean square of the average-velocity residual (Eq. 22).

    The generator is drawn from in the order times, z.
    """
    x_0, layout = latents.x_0, latents.layout
    r, t = draw_intervals(x_0, layout.num_samples, config=config, generator=generator)
    z = randn_like(x_0, generator=generator)
    x_t = LinearPath().sample(x_0, z, layout.expand(t, x_0))
    residual = average_velocity_residual(
        fields.student, fields.teacher, x_t, t, r=r, layout=layout, derivative=config.derivative
    )
    error = layout.mean(residual**2)
    weight = (error.detach() + config.weight_offset) ** -config.weight_power
    return MeanFlowLoss(loss=weight * error, error=error, interval=t - r, t=t)
