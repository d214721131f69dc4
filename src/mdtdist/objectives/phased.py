"""Phased consistency models (Wang et al., 2024, arXiv 2405.18407).

The time axis is cut into phases, and a state is taken to the data end of its own phase only: easier than to the data,
and sampled by one jump per phase. An adversarial part may compare the two end points as distributions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, VelocityField
from mdtdist.objectives.adversarial import (
    AdversarialOptions,
    DiscriminatorLoss,
    generator_loss,
    judge_noisy_loss,
)
from mdtdist.objectives.consistency import (
    ConsistencyPair,
    check_choices,
    check_steps,
    consistency_pair,
    draw_grid_states,
    solver_evaluations,
)
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import Metric, TimeOptions
from mdtdist.objectives.samples import RenoiseOptions


@dataclass(frozen=True, kw_only=True)
class PhasedConsistencyConfig:
    """Options of ``phased_consistency_loss``.

    The defaults are those published for a flow model, Stable Diffusion 3: 100 Euler steps, Huber, the student its own
    target; but without the adversarial part, whose published weight is 0.1.

    Attributes:
        phases: number of phases, of equal length; one makes it a consistency model.
        time: distribution of ``t``, in [0, 1].
        on_grid: whether times are rounded up to multiples of ``delta_t``, as published. Between them, a step that ends
            less than ``gap`` above an edge asks for a target where the student has the phase below: a bias of the end
            points of at most ``gap`` times the jump in ``phi``.
        delta_t: spacing of the grid, in units of ``t``.
        skip: spacings that one step of the teacher covers.
        solver: the teacher's step, "euler" or "heun"; the latter asks the teacher twice.
        metric: distance of the two end points.
        target: whose end point is the target: the student itself, "online", or its slow average, "ema".
        adversarial_weight: weight of the adversarial part; 0 leaves out the discriminator.
        adversarial: options of the discriminator; its times are shares of a phase, 0 being the end.
    """

    phases: int = 4
    time: TimeOptions = TimeOptions()
    on_grid: bool = True
    delta_t: float = 1e-2
    skip: int = 1
    solver: Literal["euler", "heun"] = "euler"
    metric: Metric = Metric(kind="huber", c=1e-3)
    target: Literal["online", "ema"] = "online"
    adversarial_weight: float = 0.0
    adversarial: AdversarialOptions = AdversarialOptions(renoise=RenoiseOptions(low=0.0, high=1.0))

    def __post_init__(self) -> None:
        check_steps(self.delta_t, self.skip)
        check_choices(self.solver, self.target)
        if self.phases < 1:
            raise ValueError(f"phases is {self.phases}; expected at least 1")
        if self.gap * self.phases > 1:
            raise ValueError(
                f"a step of {self.gap:g} (skip {self.skip} times delta_t {self.delta_t}) is longer than each of "
                f"{self.phases} phases; expected fewer phases or shorter steps"
            )
        if self.adversarial_weight < 0:
            raise ValueError(f"adversarial_weight is {self.adversarial_weight}; expected a weight of at least 0")

    @property
    def gap(self) -> float:
        """How far the teacher steps, in units of ``t``."""
        return self.skip * self.delta_t

    @property
    def needs(self) -> frozenset[str]:
        """The slow average, if it is the target, and the discriminator, if it has a weight."""
        asked = {"target": self.target == "ema", "discriminator": self.adversarial_weight > 0}
        return frozenset(name for name, is_asked in asked.items() if is_asked)

    @property
    def cost(self) -> Cost:
        """That of a consistency model; with a discriminator, its update on a pair of its own too."""
        teacher = solver_evaluations(self.solver)
        if self.adversarial_weight == 0:
            return Cost(student_grad=1, student=1, teacher=teacher)
        return Cost(student_grad=1, student=3, teacher=2 * teacher, teacher_grad=1, features=self.adversarial.passes)


@dataclass(frozen=True, kw_only=True)
class PhasedConsistencyLoss:
    """Per-sample losses.

    Attributes:
        loss: ``consistency + adversarial_weight adversarial``.
        consistency: distance of the two end points.
        adversarial: the discriminator's term before its weight; zero when it is left out.
        t: the times drawn, those of the student's states.
    """

    loss: Float[Tensor, "B"]
    consistency: Float[Tensor, "B"]
    adversarial: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def phase_end(t: Float[Tensor, "B"], phases: int, gap: float) -> Float[Tensor, "B"]:
    """The data end of the phase that each time is in: the largest edge ``k / phases`` not above ``t - gap``.

    A state less than ``gap`` above an edge belongs to the phase below. So its teacher step never crosses its own end,
    and the jump in ``phi`` from phase to phase lies not at the edge, where a sampler stops and asks again, but a little
    before it.
    """
    edges = torch.arange(phases, device=t.device, dtype=t.dtype) / phases
    # Times of the grid that step onto an edge may round below it.
    index = torch.searchsorted(edges, (t - gap + 1e-6).contiguous(), right=True) - 1
    return edges[index.clamp(min=0)]


def add_noise(
    x_s: Float[Tensor, "..."],
    noise: Float[Tensor, "..."],
    s: Float[Tensor, "B"],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
) -> Float[Tensor, "..."]:
    """Take samples of the marginal at ``s`` to that at ``t >= s``: shrink the data, and fill up the noise.

    ``a x_s + sqrt(t^2 - (a s)^2) z`` with ``a = (1 - t) / (1 - s)``. (The released trainer of phased consistency models
    interpolates linearly with the noise, which has too little of it for ``s > 0``.)

    Args:
        noise: ``z``, standard normal.
        s: times below 1.
    """
    shrink = (1 - t) / (1 - s)
    # Rounding may take the difference of equal numbers below zero.
    fill = (t**2 - (shrink * s) ** 2).clamp(min=0).sqrt()
    return layout.expand(shrink, x_s) * x_s + layout.expand(fill, x_s) * noise


def phased_consistency_loss(
    fields: Fields, latents: Latents, *, config: PhasedConsistencyConfig, generator: torch.Generator, step: int = 0
) -> PhasedConsistencyLoss:
    """``d(x_t + (s - t) phi, sg(x' + (s - t') phi'))`` with ``s`` the end of the phase, and the adversarial part.

    The generator is drawn from in the order t, z, and for the adversarial part the time and the noise of the renoising.

    Raises:
        ValueError: if the fields lack the slow average or the discriminator that the config asks for.
    """
    pair, t, end = _draw_pair(fields, latents, config, generator)
    consistency = config.metric.distance(pair.prediction, pair.target, latents.layout)
    adversarial = torch.zeros_like(consistency)
    if config.adversarial_weight > 0:
        discriminator, options = _discriminator(fields), config.adversarial
        (x_t,), time = _add_noise((pair.prediction,), end, latents.layout, config, generator)
        adversarial = generator_loss(discriminator(x_t, time), kind=options.kind)
    loss = consistency + config.adversarial_weight * adversarial
    return PhasedConsistencyLoss(loss=loss, consistency=consistency, adversarial=adversarial, t=t)


def phased_discriminator_loss(
    fields: Fields, latents: Latents, *, config: PhasedConsistencyConfig, generator: torch.Generator, step: int = 0
) -> DiscriminatorLoss:
    """The discriminator's loss: the target's end points are real, the student's generated.

    Both are taken to the same time of their phase with the same noise. The generator is drawn from in the order t, z,
    time and noise of the renoising, perturbation.

    Raises:
        ValueError: if the fields lack the slow average or the discriminator that the config asks for.
    """
    with torch.no_grad():
        pair, _, end = _draw_pair(fields, latents, config, generator)
        (target, prediction), time = _add_noise((pair.target, pair.prediction), end, latents.layout, config, generator)
    discriminator, options = _discriminator(fields), config.adversarial
    return judge_noisy_loss(discriminator, target, prediction, time, options=options, generator=generator)


def _draw_pair(
    fields: Fields, latents: Latents, config: PhasedConsistencyConfig, generator: torch.Generator
) -> tuple[ConsistencyPair, Tensor, Tensor]:
    """The pair, its times and the ends of its phases."""
    x_t, t = draw_grid_states(
        latents, time=config.time, delta_t=config.delta_t, on_grid=config.on_grid, generator=generator
    )
    end = phase_end(t, config.phases, config.gap)
    pair = consistency_pair(
        fields.student,
        fields.target_of(config.target),
        fields.teacher,
        x_t,
        t,
        t_next=torch.maximum(t - config.gap, end),
        end=end,
        layout=latents.layout,
        solver=config.solver,
    )
    return pair, t, end


def _add_noise(
    end_points: tuple[Tensor, ...],
    end: Tensor,
    layout: Layout,
    config: PhasedConsistencyConfig,
    generator: torch.Generator,
) -> tuple[list[Tensor], Tensor]:
    """End points taken to one time of their phase with one noise, and that time."""
    share, noise = config.adversarial.renoise.draw(end_points[0], layout=layout, generator=generator)
    time = end + share / config.phases
    return [add_noise(x, noise, end, time, layout=layout) for x in end_points], time


def _discriminator(fields: Fields) -> VelocityField:
    if fields.discriminator is None:
        raise ValueError("adversarial_weight is above 0 but the fields have no discriminator; add one or set it to 0")
    return fields.discriminator
