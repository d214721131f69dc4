"""Consistency distillation (Song et al., 2023, arXiv 2303.01469; in latents with skipping, LCM, arXiv 2310.04378).

Two neighbouring states of a teacher's trajectory must have the same end point ``f(x_t, t) = x_t - t phi(x_t, t)``. At
``t = 0`` the end point is the state itself whatever the network says, so the data end anchors all the others.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField, randn_like
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import Metric, TimeOptions


def check_steps(delta_t: float, skip: int) -> None:
    """Refuse grids without a step inside them.

    Raises:
        ValueError: if ``delta_t`` is not positive, ``skip`` is below 1, or their product exceeds 1.
    """
    if delta_t <= 0:
        raise ValueError(f"delta_t is {delta_t}; expected a positive spacing")
    if skip < 1:
        raise ValueError(f"skip is {skip}; expected at least 1")
    if skip * delta_t > 1:
        raise ValueError(f"skip {skip} times delta_t {delta_t} is beyond 1; expected a step inside [0, 1]")


def check_choices(solver: str, target: str) -> None:
    """Refuse unknown names.

    Raises:
        ValueError: if the solver or the target is unknown.
    """
    if solver not in ("euler", "heun"):
        raise ValueError(f"solver is {solver!r}; expected 'euler' or 'heun'")
    if target not in ("online", "ema"):
        raise ValueError(f"target is {target!r}; expected 'online' or 'ema'")


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    """Options of ``consistency_loss``.

    The defaults are those of Song et al. for ImageNet 64 (40 grid points, Heun, slow target) with their metric L2, as
    LPIPS has no meaning in latents, and with times between the grid points too.

    Attributes:
        time: distribution of ``t``, in [0, 1].
        on_grid: whether times are rounded up to multiples of ``delta_t``, as published.
        delta_t: spacing of the grid, in units of ``t``.
        skip: spacings that one step of the teacher covers (LCM: 20 of a thousandth each).
        solver: the teacher's step, "euler" or "heun"; the latter asks the teacher twice.
        metric: distance of the two end points. Huber with ``c`` = 5.4e-4 is that of improved consistency training
            (arXiv 2310.14189), 1e-3 that of LCM.
        target: whose end point is the target: the slow average of the student, "ema", or the student itself, "online".
    """

    time: TimeOptions = TimeOptions()
    on_grid: bool = False
    delta_t: float = 1 / 40
    skip: int = 1
    solver: Literal["euler", "heun"] = "heun"
    metric: Metric = Metric()
    target: Literal["online", "ema"] = "ema"

    def __post_init__(self) -> None:
        check_steps(self.delta_t, self.skip)
        check_choices(self.solver, self.target)

    @property
    def gap(self) -> float:
        """How far the teacher steps, in units of ``t``."""
        return self.skip * self.delta_t

    @property
    def needs(self) -> frozenset[str]:
        """The slow average, if it is the target."""
        return frozenset({"target"} if self.target == "ema" else ())

    @property
    def cost(self) -> Cost:
        """One pass, one more for the target, and the teacher's step."""
        return Cost(student_grad=1, student=1, teacher=solver_evaluations(self.solver))


LCM = ConsistencyConfig(
    on_grid=True,
    delta_t=1e-3,
    skip=20,
    solver="euler",
    metric=Metric(kind="huber", c=1e-3),
    target="ema",
)
# The consistency baseline of the released MDT-dist trainer, but for its guidance weight, 40, and its sigma_min, 1e-5.
RELEASED_CM = ConsistencyConfig(
    time=TimeOptions(kind="logit_normal", mean=1.0, std=1.0),
    delta_t=1e-2,
    solver="euler",
    target="online",
)


@dataclass(frozen=True, kw_only=True)
class ConsistencyLoss:
    """Per-sample loss.

    Attributes:
        loss: distance of the two end points.
        t: the times drawn, those of the student's states.
    """

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


@dataclass(frozen=True, kw_only=True)
class ConsistencyPair:
    """The end points of two neighbouring states of a trajectory, shaped like the latents.

    Attributes:
        prediction: the student's, from ``(x_t, t)``; the gradient flows through it alone.
        target: that of the state one step of the teacher closer to the data, detached.
    """

    prediction: Float[Tensor, "..."]
    target: Float[Tensor, "..."]


def consistency_pair(
    student: VelocityField,
    target: VelocityField,
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    t_next: Float[Tensor, "B"],
    end: Float[Tensor, "B"],
    layout: Layout,
    solver: Literal["euler", "heun"] = "euler",
) -> ConsistencyPair:
    """What the two sides of a consistency loss say about the trajectory's state at ``end``.

    The prediction is ``x_t + (end - t) phi(x_t, t)``. The teacher steps from ``x_t`` to ``x'`` at ``t_next``, and the
    target is ``x' + (end - t_next) phi'(x', t_next)``, so ``x'`` itself where ``t_next`` is ``end`` (consistency
    distillation, Algorithm 2 of arXiv 2303.01469, for ``end = 0``; arXiv 2405.18407 for the ends of phases).

    Args:
        student: average velocity ``phi(x, t)``; the gradient flows through its one evaluation.
        target: ``phi'``, the student again or its slow average; evaluated without gradients.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        x_t: samples of the marginal at ``t``.
        t: times; 1 is noise.
        t_next: times the teacher steps to, with ``end <= t_next <= t``.
        end: time of the end points; 0 is data.
        layout: how the samples lie in ``x_t``.
        solver: the teacher's step.
    """
    prediction = move(x_t, student(x_t, t), t, end, layout=layout)
    with torch.no_grad():
        x_next = teacher_step(teacher, x_t, t, t_next, layout=layout, solver=solver)
        end_point = move(x_next, target(x_next, t_next), t_next, end, layout=layout)
    return ConsistencyPair(prediction=prediction, target=end_point)


def teacher_step(
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    t_next: Float[Tensor, "B"],
    *,
    layout: Layout,
    solver: Literal["euler", "heun"],
) -> Float[Tensor, "..."]:
    """One step of ``dx / dt = v`` from ``t`` to ``t_next``: of first order with "euler", of second with "heun"."""
    v = teacher(x_t, t)
    x_next = move(x_t, v, t, t_next, layout=layout)
    if solver == "euler":
        return x_next
    return move(x_t, (v + teacher(x_next, t_next)) / 2, t, t_next, layout=layout)


def move(
    x: Float[Tensor, "..."], u: Float[Tensor, "..."], t: Float[Tensor, "B"], end: Float[Tensor, "B"], *, layout: Layout
) -> Float[Tensor, "..."]:
    """``x + (end - t) u``: where the average velocity ``u`` takes a state at ``t`` by the time ``end``."""
    return x + layout.expand(end - t, x) * u


def draw_grid_times(
    x_0: Float[Tensor, "..."],
    num: int,
    *,
    time: TimeOptions,
    delta_t: float,
    on_grid: bool,
    generator: torch.Generator,
) -> Float[Tensor, "B"]:
    """Times in [0, 1], or rounded up to multiples of ``delta_t`` (and 1)."""
    t = time.sample(x_0, num, low=0.0, generator=generator)
    if not on_grid:
        return t
    return (torch.ceil(t / delta_t).clamp(min=1) * delta_t).clamp(max=1)


def draw_grid_states(
    latents: Latents, *, time: TimeOptions, delta_t: float, on_grid: bool, generator: torch.Generator
) -> tuple[Float[Tensor, "..."], Float[Tensor, "B"]]:
    """Samples of the marginals at times of ``draw_grid_times``, and these; t is drawn before the noise."""
    x_0, layout = latents.x_0, latents.layout
    t = draw_grid_times(x_0, layout.num_samples, time=time, delta_t=delta_t, on_grid=on_grid, generator=generator)
    z = randn_like(x_0, generator=generator)
    return LinearPath().sample(x_0, z, layout.expand(t, x_0)), t


def consistency_loss(
    fields: Fields, latents: Latents, *, config: ConsistencyConfig, generator: torch.Generator, step: int = 0
) -> ConsistencyLoss:
    """``d(f(x_t, t), sg f'(x', t'))`` with ``x'`` one teacher step from ``x_t`` to ``t' = max(t - gap, 0)``.

    The generator is drawn from in the order t, z.

    Raises:
        ValueError: if the target is the slow average and there is none.
    """
    x_t, t = draw_grid_states(
        latents, time=config.time, delta_t=config.delta_t, on_grid=config.on_grid, generator=generator
    )
    pair = consistency_pair(
        fields.student,
        fields.target_of(config.target),
        fields.teacher,
        x_t,
        t,
        t_next=(t - config.gap).clamp(min=0),
        end=torch.zeros_like(t),
        layout=latents.layout,
        solver=config.solver,
    )
    return ConsistencyLoss(loss=config.metric.distance(pair.prediction, pair.target, latents.layout), t=t)


def solver_evaluations(solver: Literal["euler", "heun"]) -> int:
    """Velocities that one step asks of the teacher."""
    return 1 if solver == "euler" else 2
