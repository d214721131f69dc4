"""Continuous-time consistency distillation, sCM (Lu and Song, 2024, arXiv 2410.11081), of a linear-path teacher.

It works on the TrigFlow path ``x_s = cos(s) x_0 + sin(s) z``, ``s`` in [0, pi / 2], with data of unit variance
(``sigma_d = 1``). A state of the linear path is one of TrigFlow divided by ``cos(s) + sin(s)``, at the time
``t = sin(s) / (sin(s) + cos(s))``, so networks keep their linear coordinates and are seen through this change of
variables; the data prediction ``cos(s) x_s - sin(s) F`` is ``x_t - t phi``.

In linear coordinates the tangent is the transport residual ``R``: without normalisation and warm-up, the loss regresses
``phi`` onto ``phi - (1 - t) R`` with weight ``t^2 + (1 - t)^2``.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, VelocityField, randn_like
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import DerivativeOptions
from mdtdist.objectives.residual import forward_derivative, total_derivative


@dataclass(frozen=True, kw_only=True)
class SCMConfig:
    """Options of ``scm_loss``; the defaults are those of the distillation of ImageNet 512, without its learned weight,
    which normalised tangents do without (arXiv 2510.08431).

    Attributes:
        p_mean, p_std: ``log tan(s)``, the log of noise over data, is drawn from this normal distribution. The published
            mean, -0.8, is of ``log(sigma_d tan(s))`` with ``sigma_d`` = 0.5.
        p_max: share of samples at pure noise, ``s = pi / 2``. The weighting "prior" vanishes there.
        derivative: how the student is differentiated along the teacher; ``delta_t`` is a step of ``s`` here.
        tangent: "normalize" divides it by ``rms + offset``, "clip" limits its elements to [-1, 1], "none" leaves it.
        offset: keeps small tangents small; published for norms that do not grow with the latent.
        weighting: of the time ``s`` in the gradient of continuous-time consistency, ``w(s) f . df/ds``: "prior" is
            ``1 / tan(s)``, as published; "constant" is 1, and has a signal at pure noise too.
        warmup_steps: steps over which the part of the tangent that may be unstable comes in (published: 10000 for long
            trainings, 1000 by arXiv 2510.08431); 0 has it whole from the start.
    """

    p_mean: float = -0.8 + math.log(2)
    p_std: float = 1.6
    p_max: float = 0.0
    derivative: DerivativeOptions = DerivativeOptions(kind="jvp")
    tangent: Literal["normalize", "clip", "none"] = "normalize"
    offset: float = 0.1
    weighting: Literal["prior", "constant"] = "prior"
    warmup_steps: int = 10_000

    def __post_init__(self) -> None:
        if self.p_std <= 0:
            raise ValueError(f"p_std is {self.p_std}; expected a positive number")
        if not 0 <= self.p_max <= 1:
            raise ValueError(f"p_max is {self.p_max}; expected a share in [0, 1]")
        if self.tangent not in ("normalize", "clip", "none"):
            raise ValueError(f"tangent is {self.tangent!r}; expected 'normalize', 'clip' or 'none'")
        if self.offset <= 0:
            raise ValueError(f"offset is {self.offset}; expected a positive number")
        if self.weighting not in ("prior", "constant"):
            raise ValueError(f"weighting is {self.weighting!r}; expected 'prior' or 'constant'")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; expected at least 0")

    @property
    def needs(self) -> frozenset[str]:
        """Nothing beyond student and teacher."""
        return frozenset()

    @property
    def cost(self) -> Cost:
        """One pass, the derivative and the teacher."""
        return Cost(student_grad=1, student=self.derivative.passes, teacher=1)

    def warmup(self, step: int) -> float:
        """``r``, the share of the unstable part at a step."""
        return 1.0 if self.warmup_steps == 0 else min(1.0, step / self.warmup_steps)


@dataclass(frozen=True, kw_only=True)
class SCMLoss:
    """Per-sample loss.

    Attributes:
        loss: ``mean((F - sg(F + g))^2)``, whose value is the mean square of the tangent ``g``.
        tangent: RMS of the tangent before it is normalised.
        t: the times drawn, on the linear path.
    """

    loss: Float[Tensor, "B"]
    tangent: Float[Tensor, "B"]
    t: Float[Tensor, "B"]


def trig_time(t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``s`` with ``tan(s) = t / (1 - t)``, from 0 to pi / 2."""
    return torch.atan2(t, 1 - t)


def linear_time(s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``t = sin(s) / (sin(s) + cos(s))``; ``dt / ds = t^2 + (1 - t)^2``."""
    return s.sin() / (s.sin() + s.cos())


def trig_state(x_t: Float[Tensor, "..."], s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The TrigFlow state of a state of the linear path: ``(cos(s) + sin(s)) x_t``. Times must broadcast here and below
    (``Layout.expand`` gives per-sample times that shape)."""
    return (s.cos() + s.sin()) * x_t


def linear_state(x_s: Float[Tensor, "..."], s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The inverse of ``trig_state``."""
    return x_s / (s.cos() + s.sin())


def trig_velocity(u: Float[Tensor, "..."], x_s: Float[Tensor, "..."], s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``F = (u + (cos(s) - sin(s)) x_s) / (cos(s) + sin(s))``: the TrigFlow output of a linear one, average or not.

    Either gives the same data prediction, ``cos(s) x_s - sin(s) F = x_t - t u``, and the teacher's is ``dx_s / ds``.
    """
    return (u + (s.cos() - s.sin()) * x_s) / (s.cos() + s.sin())


def linear_velocity(
    f: Float[Tensor, "..."], x_s: Float[Tensor, "..."], s: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The inverse of ``trig_velocity``."""
    return (s.cos() + s.sin()) * f - (s.cos() - s.sin()) * x_s


def trig_field(field: VelocityField, layout: Layout) -> VelocityField:
    """``F(x_s, s)`` of a field that is asked in linear coordinates."""

    def trig(x_s: Tensor, s: Tensor) -> Tensor:
        angle = layout.expand(s, x_s)
        return trig_velocity(field(linear_state(x_s, angle), linear_time(s)), x_s, angle)

    return trig


def _scaled_derivative(
    student: VelocityField,
    f: Float[Tensor, "..."],
    x_s: Float[Tensor, "..."],
    s: Float[Tensor, "B"],
    dx_ds: Float[Tensor, "..."],
    *,
    scale: Float[Tensor, "B"],
    layout: Layout,
    options: DerivativeOptions,
) -> Float[Tensor, "..."]:
    """``scale dF/ds`` along the teacher.

    The exact derivative takes ``scale`` into the tangent vector, ``(scale dx_ds, scale)``, so that large derivatives
    near the ends of the path never appear unscaled in half precision (JVP rearrangement, section 5.1 of sCM).
    """
    if options.kind != "jvp":
        slope = total_derivative(student, f, x_s, s, dx_ds, layout=layout, options=options)
        return layout.expand(scale, slope) * slope
    return forward_derivative(student, x_s, s, layout.expand(scale, dx_ds) * dx_ds, rate=scale)


@torch.no_grad()
def scm_tangent(
    student: VelocityField,
    teacher: VelocityField,
    f: Float[Tensor, "..."],
    x_s: Float[Tensor, "..."],
    s: Float[Tensor, "B"],
    *,
    layout: Layout,
    derivative: DerivativeOptions = DerivativeOptions(kind="jvp"),
    weighting: Literal["prior", "constant"] = "prior",
    warmup: float = 1.0,
) -> Float[Tensor, "..."]:
    """``g = k df/ds`` with ``f = cos(s) x_s - sin(s) F`` the data prediction, detached; ``k = cos(s)`` for "prior".

    ``g = -k cos(s) (F - dx_s/ds) - r k sin(s) (x_s + dF/ds)`` (Eq. 6 and Algorithm 1 of sCM).

    Args:
        student, teacher: ``F(x_s, s)`` of both in TrigFlow coordinates (``trig_field``).
        f: the student's output at ``(x_s, s)``.
        x_s: samples of the marginal at ``s``.
        s: angles; pi / 2 is noise.
        layout: how the samples lie in ``x_s``.
        derivative: how ``dF/ds`` is taken.
        weighting: "prior" has ``k = cos(s)``, "constant" has ``k = sin(s)``.
        warmup: ``r``, the share of the second part.
    """
    k = s.cos() if weighting == "prior" else s.sin()
    scale = k * s.sin()
    dx_ds = teacher(x_s, s)
    slope = _scaled_derivative(student, f, x_s, s, dx_ds, scale=scale, layout=layout, options=derivative)
    stable = layout.expand(k * s.cos(), f) * (f - dx_ds)
    return -stable - warmup * (layout.expand(scale, x_s) * x_s + slope)


def bound_tangent(
    g: Float[Tensor, "..."], *, layout: Layout, kind: Literal["normalize", "clip", "none"], offset: float = 0.1
) -> Float[Tensor, "..."]:
    """The tangent in a range that no sample can leave: ``g / (rms(g) + offset)`` per sample, or clipped to [-1, 1]."""
    if kind == "normalize":
        return g / layout.expand(layout.rms(g) + offset, g)
    return g.clamp(-1, 1) if kind == "clip" else g


def draw_angles(
    like: Float[Tensor, "..."], num: int, *, config: SCMConfig, generator: torch.Generator
) -> Float[Tensor, "B"]:
    """Angles with log-normal tangents from ``delta_t`` up, a share ``p_max`` of them pi / 2; in at least float32."""
    # A little inside: the float32 next to pi / 2 is beyond it, at a time above 1 where no teacher is guided.
    largest = math.pi / 2 - 1e-6
    normal = torch.randn(num, generator=generator)
    s = torch.atan(torch.exp(config.p_mean + config.p_std * normal)).clamp(config.derivative.delta_t, largest)
    s = torch.where(torch.rand(num, generator=generator) < config.p_max, largest, s)
    return s.to(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


def scm_loss(
    fields: Fields, latents: Latents, *, config: SCMConfig, generator: torch.Generator, step: int = 0
) -> SCMLoss:
    """``mean((F(x_s, s) - sg(F(x_s, s) + g))^2)`` with the bounded tangent ``g`` (Eq. 8 without the learned weight).

    The gradient flows through ``F(x_s, s)`` alone, that is ``phi(x_t, t)``. The generator is drawn from in the order
    angle, share at pure noise, z.
    """
    x_0, layout = latents.x_0, latents.layout
    s = draw_angles(x_0, layout.num_samples, config=config, generator=generator)
    angle = layout.expand(s, x_0)
    x_s = angle.cos() * x_0 + angle.sin() * randn_like(x_0, generator=generator)
    student = trig_field(fields.student, layout)
    f = student(x_s, s)
    raw = scm_tangent(
        student,
        trig_field(fields.teacher, layout),
        f,
        x_s,
        s,
        layout=layout,
        derivative=config.derivative,
        weighting=config.weighting,
        warmup=config.warmup(step),
    )
    g = bound_tangent(raw, layout=layout, kind=config.tangent, offset=config.offset)
    return SCMLoss(loss=layout.mean((f - (f.detach() + g)) ** 2), tangent=layout.rms(raw), t=linear_time(s))
