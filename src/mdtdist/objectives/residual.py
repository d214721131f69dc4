"""The transport residual: how far a student is from the average velocity of its teacher.

``phi(x_t, t)`` stands for the average of the teacher's velocity ``v`` along its own trajectory from ``t`` down to 0, so
that ``x_t - t phi`` is data. Differentiating ``t phi`` along that trajectory gives ``v = phi + t d phi / dt`` (Eq. 12,
MDT-dist, arXiv 2509.04406v1); what is left over is the residual.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mdtdist.flow import Layout, VelocityField

Derivative = Literal["difference", "jvp"]


@dataclass(frozen=True, kw_only=True)
class TransportResidual:
    """``R = phi + t d phi / dt - v`` and its parts; a gradient flows through ``phi`` alone.

    Attributes:
        residual: ``R``, shaped like the latents.
        phi: student output at ``(x_t, t)``.
        derivative: total derivative of the student along the teacher, detached.
        v: teacher velocity at ``(x_t, t)``, detached.
        x_prev: the teacher's Euler step ``x_t - delta_t v``; None for the exact derivative, which takes no step.
    """

    residual: Float[Tensor, "..."]
    phi: Float[Tensor, "..."]
    derivative: Float[Tensor, "..."]
    v: Float[Tensor, "..."]
    x_prev: Float[Tensor, "..."] | None


def transport_residual(
    student: VelocityField,
    teacher: VelocityField,
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    *,
    layout: Layout,
    delta_t: float = 1e-2,
    derivative: Derivative = "difference",
) -> TransportResidual:
    """Evaluate ``R = phi + t sg(d phi / dt) - sg(v)`` (the bracket of Eq. 13).

    Cost: one teacher evaluation, one of the student with gradients, and one (difference) or about two (jvp) without.

    Args:
        student: average velocity ``phi(x, t)``.
        teacher: velocity ``v(x, t)``, guided if it is to be; also the direction of the derivative.
        x_t: samples of the marginal at ``t``.
        t: times in [delta_t, 1]; 1 is noise.
        layout: how the samples lie in ``x_t``.
        delta_t: finite-difference step, same unit as ``t``; not used by "jvp".
        derivative: "difference" (Eq. 14, any network) or "jvp" (exact, needs forward-mode AD through the student).

    Raises:
        ValueError: if ``delta_t`` is outside (0, 1], any ``t`` is below it, or ``derivative`` is unknown.
    """
    check_times(t, delta_t)
    with torch.no_grad():
        v = teacher(x_t, t)
    phi = student(x_t, t)
    if derivative == "difference":
        slope, x_prev = backward_difference(student, phi, x_t, t, v, layout=layout, delta_t=delta_t)
    elif derivative == "jvp":
        slope, x_prev = forward_derivative(student, x_t, t, v), None
    else:
        raise ValueError(f"derivative is {derivative!r}; expected 'difference' or 'jvp'")
    residual = phi + layout.expand(t, phi) * slope - v
    return TransportResidual(residual=residual, phi=phi, derivative=slope, v=v, x_prev=x_prev)


@torch.no_grad()
def backward_difference(
    student: VelocityField,
    phi: Float[Tensor, "..."],
    x_t: Float[Tensor, "..."],
    t: Float[Tensor, "B"],
    v: Float[Tensor, "..."],
    *,
    layout: Layout,
    delta_t: float,
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """``(phi(x_t, t) - phi(x_prev, t - delta_t)) / delta_t`` with ``x_prev = x_t - delta_t v`` (Eq. 14).

    First order in ``delta_t``. Rounding adds about ``eps |phi| / delta_t``: the student should answer in float32.

    Returns:
        The derivative and ``x_prev``, both detached.
    """
    x_prev = x_t - delta_t * v
    return (phi - student(x_prev, t - delta_t)) / delta_t, x_prev


@torch.no_grad()
def forward_derivative(
    student: VelocityField, x_t: Float[Tensor, "..."], t: Float[Tensor, "B"], v: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """``(grad_x phi) v + d phi / dt``, exact, by forward-mode differentiation; detached."""
    # Fused attention kernels have no forward-mode rule.
    with sdpa_kernel(SDPBackend.MATH):
        _, tangent = torch.func.jvp(student, (x_t.detach(), t.detach()), (v, torch.ones_like(t)))
    return tangent


def check_times(t: Float[Tensor, "B"], delta_t: float) -> None:
    """Refuse times from which a step of ``delta_t`` would pass the data end.

    Raises:
        ValueError: if ``delta_t`` is outside (0, 1] or any ``t`` is below it.
    """
    if not 0 < delta_t <= 1:
        raise ValueError(f"delta_t is {delta_t}; expected a step in (0, 1]")
    # Times drawn at exactly delta_t may round below it in float32.
    if bool((t < delta_t * (1 - 1e-6)).any()):
        raise ValueError(f"the smallest t is {float(t.min()):.6g}; expected at least delta_t = {delta_t}")
