"""Marginal-data transport distillation (MDT-dist, Zhou et al., 2025, arXiv 2509.04406; equations of v1).

Velocity matching makes the student the average velocity of the teacher; velocity distillation pushes its one-step
samples toward the teacher's marginals, with the student itself in the role of the fake model.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, LinearPath, VelocityField, randn_like
from mdtdist.objectives.method import Cost, Fields, Latents
from mdtdist.objectives.options import DerivativeOptions, Normalization, TimeOptions
from mdtdist.objectives.residual import drive, transport_residual


@dataclass(frozen=True, kw_only=True)
class MDTConfig:
    """Options of ``mdt_loss``, each independent of the others; the defaults are the paper's.

    Attributes:
        time: distribution of ``t``, shared by both parts. Velocity distillation learns nothing at ``t = 1``.
        derivative: how the student is differentiated along the teacher.
        normalization: how residuals are scaled.
        guidance_vm, guidance_vd: weight of the teacher in velocity matching and distillation; None for its own.
        lambda_vd: weight of velocity distillation; 0 leaves it out and saves its evaluations.
        vd_weighting: "one_minus_t" as printed in Eq. 17, or "constant", the gradient of a plain square (a factor 2) at
            every time, as the released trainer takes it.
        vd_noise: "independent" renoises with a noise of its own (Algorithm 1), "shared" with that of velocity matching,
            as the released trainer does.
        sigma_min: smallest noise of the path; the released trainer has 1e-5.
    """

    time: TimeOptions = TimeOptions()
    derivative: DerivativeOptions = DerivativeOptions()
    normalization: Normalization = Normalization()
    guidance_vm: float | None = 40.0
    guidance_vd: float | None = 100.0
    lambda_vd: float = 1.0
    vd_weighting: Literal["one_minus_t", "constant"] = "one_minus_t"
    vd_noise: Literal["independent", "shared"] = "independent"
    sigma_min: float = 0.0

    def __post_init__(self) -> None:
        if self.lambda_vd < 0:
            raise ValueError(f"lambda_vd is {self.lambda_vd}; expected a weight of at least 0")
        if self.vd_weighting not in ("one_minus_t", "constant"):
            raise ValueError(f"vd_weighting is {self.vd_weighting!r}; expected 'one_minus_t' or 'constant'")
        if self.vd_noise not in ("independent", "shared"):
            raise ValueError(f"vd_noise is {self.vd_noise!r}; expected 'independent' or 'shared'")
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"sigma_min is {self.sigma_min}; expected a noise level in [0, 1)")

    @property
    def needs(self) -> frozenset[str]:
        """Nothing beyond student and teacher."""
        return frozenset()

    @property
    def cost(self) -> Cost:
        """Matching, and distillation where it has a weight."""
        passes = self.derivative.passes
        if self.lambda_vd == 0:
            return Cost(student_grad=1, student=passes, teacher=1)
        return Cost(student_grad=2, student=2 * passes + 1, teacher=2)


RELEASED = MDTConfig(
    time=TimeOptions(kind="logit_normal", mean=1.0, std=1.0),
    normalization=Normalization(kind="derivative", offset=0.1),
    vd_weighting="constant",
    vd_noise="shared",
    sigma_min=1e-5,
)


# Velocity matching alone. A longer step and a residual of bounded size keep it stable where the teacher turns sharply,
# near t = 1; a fifth of the samples lies there, since a one-step sampler visits no other time.
OURS = MDTConfig(
    time=TimeOptions(p_noise=0.2),
    derivative=DerivativeOptions(delta_t=5e-2),
    normalization=Normalization(kind="residual"),
    guidance_vm=None,
    guidance_vd=None,
    lambda_vd=0.0,
)


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
    derivative: DerivativeOptions = DerivativeOptions(),
    normalization: Normalization = Normalization(),
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
        derivative: how ``d phi / dt`` is taken.
        normalization: "residual" makes the loss read like an RMS instead of a mean square, so that no sample dominates
            a batch.

    Returns:
        Loss per sample.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``.
    """
    residual = transport_residual(
        student, teacher, x_t, t, layout=layout, derivative=derivative, normalization=normalization
    ).residual
    return normalization.weight(residual, layout) * layout.mean(residual**2)


def velocity_distillation_loss(
    student: VelocityField,
    teacher: VelocityField,
    noise: Float[Tensor, "..."],
    renoise: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    derivative: DerivativeOptions = DerivativeOptions(),
    normalization: Normalization = Normalization(),
    weighting: Literal["one_minus_t", "constant"] = "one_minus_t",
    path: LinearPath = LinearPath(),
) -> Float[Tensor, "B"]:
    """Move the student's one-step samples along the difference of two velocity fields (Eq. 17).

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
        derivative, normalization: as in ``velocity_matching_loss``.
        weighting: of the gradient, see ``MDTConfig.vd_weighting``.
        path: how the samples are renoised.

    Returns:
        ``weight mean((u - v)^2) / 2`` per sample, a value to watch; its gradient is the one above over the number of
        elements, not that of the value.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``.
    """
    phi = student(noise, torch.ones_like(t))
    with torch.no_grad():
        x_t = path.sample(noise - phi, renoise, layout.expand(t, noise))
        u_minus_v = transport_residual(
            student, teacher, x_t, t, layout=layout, derivative=derivative, normalization=normalization
        ).residual
    weight = 1 - t if weighting == "one_minus_t" else torch.full_like(t, 2)
    return drive(phi, u_minus_v, layout=layout, weight=weight * normalization.weight(u_minus_v, layout))


def mdt_loss(
    fields: Fields, latents: Latents, *, config: MDTConfig, generator: torch.Generator, step: int = 0
) -> MDTLoss:
    """Velocity matching plus ``lambda_vd`` times velocity distillation (Eq. 18, Algorithm 1).

    The generator is drawn from in the order t, z, z', z''.
    """
    x_0, layout = latents.x_0, latents.layout
    low = config.derivative.delta_t + config.sigma_min
    t = config.time.sample(x_0, layout.num_samples, low=low, generator=generator)
    z, noise, renoise = (randn_like(x_0, generator=generator) for _ in range(3))
    path = LinearPath(sigma_min=config.sigma_min)
    vm = velocity_matching_loss(
        fields.student,
        with_guidance(fields.teacher, config.guidance_vm),
        path.sample(x_0, z, layout.expand(t, x_0)),
        t,
        layout=layout,
        derivative=config.derivative,
        normalization=config.normalization,
    )
    vd = torch.zeros_like(vm)
    if config.lambda_vd > 0:
        vd = velocity_distillation_loss(
            fields.student,
            with_guidance(fields.teacher, config.guidance_vd),
            noise,
            z if config.vd_noise == "shared" else renoise,
            t,
            layout=layout,
            derivative=config.derivative,
            normalization=config.normalization,
            weighting=config.vd_weighting,
            path=path,
        )
    return MDTLoss(loss=vm + config.lambda_vd * vd, vm=vm, vd=vd, t=t)


def with_guidance(teacher: VelocityField, w: float | None) -> VelocityField:
    """The teacher under another guidance weight; None leaves its own."""
    if w is None:
        return teacher
    return lambda x, t: teacher(x, t, w=w)
