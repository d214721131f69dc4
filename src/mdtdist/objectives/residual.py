"""The transport residual: how far a student is from the average velocity of its teacher.

``phi(x_t, t)`` stands for the average of the teacher's velocity ``v`` along its own trajectory from ``t`` down to 0, so
that ``x_t - t phi`` is data. Differentiating ``t phi`` along that trajectory gives ``v = phi + t d phi / dt`` (Eq. 12,
MDT-dist, arXiv 2509.04406v1); what is left over is the residual.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mdtdist.flow import Layout, VelocityField
from mdtdist.objectives.options import DerivativeOptions, Normalization


@dataclass(frozen=True, kw_only=True)
class TransportResidual:
    """``R = phi + t d phi / dt - v`` and its parts; a gradient flows through ``phi`` alone.

    Attributes:
        residual: ``R``, shaped like the latents.
        phi: student output at ``(x_t, t)``.
        derivative: total derivative of the student along the teacher, detached; normalised if that was asked for.
        v: teacher velocity at ``(x_t, t)``, detached.
    """

    residual: Float[Tensor, "..."]
    phi: Float[Tensor, "..."]
    derivative: Float[Tensor, "..."]
    v: Float[Tensor, "..."]


def transport_residual(
    student: VelocityField,
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    derivative: DerivativeOptions = DerivativeOptions(),
    normalization: Normalization = Normalization(),
) -> TransportResidual:
    """Evaluate ``R = phi + t sg(d phi / dt) - sg(v)`` (the bracket of Eq. 13).

    Cost: one teacher evaluation, one of the student with gradients, and ``derivative.passes`` without.

    Args:
        student: average velocity ``phi(x, t)``.
        teacher: velocity ``v(x, t)``, guided if it is to be; also the direction of the derivative.
        x_t: samples of the marginal at ``t``.
        t: times in [delta_t, 1]; 1 is noise.
        layout: how the samples lie in ``x_t``.
        derivative: how ``d phi / dt`` is taken.
        normalization: "derivative" scales ``d phi / dt`` here; "residual" is left to the loss.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``.
    """
    check_times(t, derivative.delta_t)
    with torch.no_grad():
        v = teacher(x_t, t)
    phi = student(x_t, t)
    slope = total_derivative(student, phi, x_t, t, v, layout=layout, options=derivative)
    if normalization.kind == "derivative":
        slope = slope / layout.expand(layout.norm(slope) + normalization.offset, slope)
    residual = phi + layout.expand(t, phi) * slope - v
    return TransportResidual(residual=residual, phi=phi, derivative=slope, v=v)


@torch.no_grad()
def total_derivative(
    student: VelocityField,
    phi: Float[Tensor, "..."],
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    v: Float[Tensor, "..."],
    *,
    layout: Layout,
    options: DerivativeOptions,
) -> Float[Tensor, "..."]:
    """``(grad_x phi) v + d phi / dt`` at ``(x_t, t)``, detached.

    "backward" is ``(phi(x_t, t) - phi(x_t - delta_t v, t - delta_t)) / delta_t`` (Eq. 14), of first order; "central"
    takes both sides, beyond ``t = 1`` too, and is of second order. Rounding adds about ``eps |phi| / delta_t``: the
    student should answer in float32. "jvp" is exact.

    Args:
        phi: the student's output at ``(x_t, t)``, which "backward" reuses.
        v: direction in ``x`` per unit of ``t``.
    """
    if options.kind == "jvp":
        return forward_derivative(student, x_t, t, v)
    step = options.delta_t
    before = student(x_t - step * v, t - step)
    if options.kind == "backward":
        return (phi.detach() - before) / step
    return (student(x_t + step * v, t + step) - before) / (2 * step)


@torch.no_grad()
def forward_derivative(
    student: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    v: Float[Tensor, "..."],
    *,
    rate: Float[Tensor, "B"] | None = None,
) -> Float[Tensor, "..."]:
    """``(grad_x phi) v + rate d phi / dt``, exact, by forward-mode differentiation; detached. ``rate`` is 1 if None."""
    # Fused attention kernels have no forward-mode rule.
    with sdpa_kernel(SDPBackend.MATH):
        tangents = (v, torch.ones_like(t) if rate is None else rate)
        _, tangent = torch.func.jvp(student, (x_t.detach(), t.detach()), tangents)
    return tangent


def drive(
    output: Float[Tensor, "..."], direction: Float[Tensor, "..."], *, layout: Layout, weight: Float[Tensor, "B"]
) -> Float[Tensor, "B"]:
    """A loss per sample whose gradient on ``output`` is ``weight direction``, over the number of elements.

    Its value is ``weight mean(direction^2) / 2``. Descent moves ``output`` against ``direction``; both arguments but
    ``output`` are taken as constants.
    """
    target = (output - direction).detach()
    return weight.detach() * layout.mean((output - target) ** 2) / 2


def check_times(t: Float[Tensor, "B"], delta_t: float) -> None:
    """Refuse times from which a step of ``delta_t`` would pass the data end.

    Raises:
        ValueError: if any ``t`` is below ``delta_t``.
    """
    # Times drawn at exactly delta_t may round below it in float32.
    if bool((t < delta_t * (1 - 1e-6)).any()):
        raise ValueError(f"the smallest t is {float(t.min()):.6g}; expected at least delta_t = {delta_t}")
