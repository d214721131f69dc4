"""Marginal-data transport distillation (MDT-dist, Zhou et al., 2025, arXiv 2509.04406; equations of v1).

Velocity matching makes the student the average velocity of the teacher; velocity distillation pushes its one-step
samples toward the teacher's marginals, with the student itself in the role of the fake model.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import (
    Layout,
    LinearPath,
    LogitNormalTime,
    TimeDistribution,
    UniformTime,
    VelocityField,
    randn_like,
)
from mdtdist.objectives.residual import Derivative, transport_residual

Normalization = Literal["none", "residual"]


@dataclass(frozen=True, kw_only=True)
class MDTConfig:
    """Options of ``mdt_loss``, each independent of the others; the defaults are the paper's.

    Attributes:
        delta_t: finite-difference step in units of ``t``; also the smallest time drawn.
        lambda_vd: weight of velocity distillation; 0 leaves it out and saves its evaluations.
        time: distribution of ``t``, "uniform" or "logit_normal".
        time_mean, time_std: parameters of "logit_normal" (TRELLIS and the released MDT-dist trainer: 1 and 1).
        p_t_max: share of samples whose ``t`` is set to 1, the only time a one-step sampler visits. Velocity
            distillation learns nothing from them, as ``1 - t`` vanishes.
        derivative: "difference" or "jvp", see ``transport_residual``.
        normalization: "none", or "residual" to divide the gradient of each sample by ``rms(R) + normalization_offset``.
        normalization_offset: RMS below which a residual is no longer scaled up, in units of velocity.
    """

    delta_t: float = 1e-2
    lambda_vd: float = 1.0
    time: Literal["uniform", "logit_normal"] = "uniform"
    time_mean: float = 1.0
    time_std: float = 1.0
    p_t_max: float = 0.0
    derivative: Derivative = "difference"
    normalization: Normalization = "none"
    normalization_offset: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.delta_t < 1:
            raise ValueError(f"delta_t is {self.delta_t}; expected a step in (0, 1)")
        if self.lambda_vd < 0:
            raise ValueError(f"lambda_vd is {self.lambda_vd}; expected a weight of at least 0")
        if not 0 <= self.p_t_max <= 1:
            raise ValueError(f"p_t_max is {self.p_t_max}; expected a share in [0, 1]")
        if self.time not in ("uniform", "logit_normal"):
            raise ValueError(f"time is {self.time!r}; expected 'uniform' or 'logit_normal'")
        if self.derivative not in ("difference", "jvp"):
            raise ValueError(f"derivative is {self.derivative!r}; expected 'difference' or 'jvp'")
        _check_normalization(self.normalization, self.normalization_offset)

    @property
    def time_distribution(self) -> TimeDistribution:
        """The distribution of ``t`` before it is mapped to [delta_t, 1]."""
        if self.time == "uniform":
            return UniformTime()
        return LogitNormalTime(mean=self.time_mean, std=self.time_std)


@dataclass(frozen=True, kw_only=True)
class MDTLoss:
    """Per-sample losses, unreduced.

    Attributes:
        loss: ``vm + lambda_vd vd``; its mean is what to minimise.
        vm: velocity matching.
        vd: velocity distillation, half the weighted mean squared direction; zero when it is left out.
        t: the times drawn, shared by both parts (Algorithm 1).
    """

    loss: Float[Tensor, "B"]
    vm: Float[Tensor, "B"]
    vd: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def velocity_matching_loss(
    student: VelocityField,
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    delta_t: float = 1e-2,
    derivative: Derivative = "difference",
    normalization: Normalization = "none",
    normalization_offset: float = 0.1,
) -> Float[Tensor, "B"]:
    """Match the student's velocity field to the teacher's (Eq. 13 with the backward difference of Eq. 14).

    ``|| phi(x_t, t) + t sg(d phi / dt) - sg(v) ||^2``, averaged over the elements of each sample. The gradient flows
    through ``phi(x_t, t)`` alone.

    Args:
        student: average velocity ``phi(x, t)``.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        x_t: samples of the marginal at ``t``.
        t: times in [delta_t, 1]; 1 is noise.
        layout: how the samples lie in ``x_t``.
        delta_t: finite-difference step, same unit as ``t``.
        derivative: "difference" or "jvp".
        normalization: "residual" divides by the detached ``rms(R) + normalization_offset`` of each sample, so that the
            loss reads like an RMS instead of a mean square, and no sample dominates a batch.
        normalization_offset: see ``MDTConfig``.

    Returns:
        Loss per sample.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``, or an option is unknown.
    """
    _check_normalization(normalization, normalization_offset)
    parts = transport_residual(student, teacher, x_t, t, layout=layout, delta_t=delta_t, derivative=derivative)
    loss = layout.mean(parts.residual**2)
    if normalization == "residual":
        loss = loss / (layout.rms(parts.residual.detach()) + normalization_offset)
    return loss


def velocity_distillation_loss(
    student: VelocityField,
    teacher: VelocityField,
    noise: Float[Tensor, "..."],
    renoise: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    delta_t: float = 1e-2,
    derivative: Derivative = "difference",
    normalization: Normalization = "none",
    normalization_offset: float = 0.1,
) -> Float[Tensor, "B"]:
    """Move the student's one-step samples along the difference of two velocity fields (Eq. 17, as printed).

    With ``x' = z' - phi(z', 1)`` and ``x'_t = (1 - t) x' + t z''``, the student's own velocity field is
    ``u = phi + t d phi / dt`` at ``(x'_t, t)``, and the gradient is ``-(u - v) d x'_t / d theta``, that is
    ``(1 - t) (u - v)`` on ``phi(z', 1)``. The factor ``1 - t`` is the paper's; its released trainer leaves it out.
    Everything but ``phi(z', 1)`` is detached.

    Descent moves ``x'`` by a positive multiple of ``u - v``. As ``s_teacher - s_student = (1 - t) / t (u - v)`` for the
    scores ``s`` of the two marginals, that lowers the reverse KL divergence as far as ``u`` is the student's velocity.

    Args:
        student: average velocity ``phi(x, t)``; evaluated with gradients at ``(noise, 1)`` only.
        teacher: velocity ``v(x, t)``, guided if it is to be; evaluated without gradients.
        noise: ``z'``, standard normal, what the samples are generated from.
        renoise: ``z''``, standard normal, independent of ``noise``.
        t: times in [delta_t, 1] to which the samples are renoised.
        layout: how the samples lie in ``noise``.
        delta_t, derivative, normalization, normalization_offset: as in ``velocity_matching_loss``.

    Returns:
        ``(1 - t) mean((u - v)^2) / 2`` per sample, a value to watch; its gradient is the one above over the number of
        elements, not that of the value.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``, or an option is unknown.
    """
    _check_normalization(normalization, normalization_offset)
    phi = student(noise, torch.ones_like(t))
    with torch.no_grad():
        x_t = LinearPath().sample(noise - phi, renoise, layout.expand(t, noise))
        u_minus_v = transport_residual(
            student, teacher, x_t, t, layout=layout, delta_t=delta_t, derivative=derivative
        ).residual
        weight = 1 - t
        if normalization == "residual":
            weight = weight / (layout.rms(u_minus_v) + normalization_offset)
        target = phi - u_minus_v
    return weight * layout.mean((phi - target) ** 2) / 2


def mdt_loss(
    student: VelocityField,
    teacher: VelocityField,
    x_0: Float[Tensor, "..."],
    *,
    layout: Layout,
    config: MDTConfig,
    generator: torch.Generator,
    teacher_vd: VelocityField | None = None,
) -> MDTLoss:
    """Velocity matching plus ``lambda_vd`` times velocity distillation (Eq. 18, Algorithm 1).

    Args:
        student: average velocity ``phi(x, t)``.
        teacher: velocity ``v(x, t)``, guided if it is to be.
        x_0: data latents.
        layout: how the samples lie in ``x_0``.
        config: options.
        generator: on the CPU; drawn from in the order t, z, z', z''.
        teacher_vd: the teacher of velocity distillation, where its guidance differs; ``teacher`` by default.
    """
    t = draw_times(layout.num_samples, config=config, generator=generator)
    # Half-precision times would be too coarse for delta_t.
    t = t.to(device=x_0.device, dtype=torch.promote_types(x_0.dtype, torch.float32))
    z, noise, renoise = (randn_like(x_0, generator=generator) for _ in range(3))
    options: dict[str, Any] = {
        "layout": layout,
        "delta_t": config.delta_t,
        "derivative": config.derivative,
        "normalization": config.normalization,
        "normalization_offset": config.normalization_offset,
    }
    vm = velocity_matching_loss(student, teacher, LinearPath().sample(x_0, z, layout.expand(t, x_0)), t, **options)
    vd = torch.zeros_like(vm)
    if config.lambda_vd > 0:
        vd = velocity_distillation_loss(student, teacher_vd or teacher, noise, renoise, t, **options)
    return MDTLoss(loss=vm + config.lambda_vd * vd, vm=vm, vd=vd, t=t)


def draw_times(num_samples: int, *, config: MDTConfig, generator: torch.Generator) -> Float[Tensor, "B"]:
    """Times in [delta_t, 1], where a share ``p_t_max`` is exactly 1; float32, on the CPU."""
    t = config.delta_t + (1 - config.delta_t) * config.time_distribution.sample(num_samples, generator=generator)
    at_noise = torch.rand(num_samples, generator=generator) < config.p_t_max
    return torch.where(at_noise, 1.0, t)


def _check_normalization(normalization: str, offset: float) -> None:
    """Refuse unknown kinds, and offsets that leave a vanishing residual undefined."""
    if normalization not in ("none", "residual"):
        raise ValueError(f"normalization is {normalization!r}; expected 'none' or 'residual'")
    if offset <= 0:
        raise ValueError(f"normalization_offset is {offset}; expected a positive RMS")
