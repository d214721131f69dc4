"""Velocity fields and classifier-free guidance."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

# v(x, t): samples in any layout and one time per sample, t in [0, 1] with 1 = noise; returns a velocity shaped like x.
# Some fields take more, one value per sample: ``r``, the end of the interval [r, t] that the velocity is the mean of,
# and ``w``, a guidance weight.
VelocityField = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance added on top of one: ``v = (1 + w) v_cond - w v_neg`` inside a time interval.

    Attributes:
        w: guidance weight; 0 is plain conditional sampling. In the other common form, ``s = 1 + w``.
        interval: guided when ``low <= t <= high`` (inclusive); outside, the conditional velocity alone.
    """

    w: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def is_active(self, t: float) -> bool:
        """Whether the negative branch is evaluated at time ``t``."""
        return self.w != 0 and self.interval[0] <= t <= self.interval[1]

    def combine(self, v_cond: Float[Tensor, "..."], v_neg: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """``(1 + w) v_cond - w v_neg``."""
        return (1 + self.w) * v_cond - self.w * v_neg


def guided_field(
    field: VelocityField,
    negative: VelocityField,
    guidance: Guidance,
    *,
    expand: Callable[[Tensor, Tensor], Tensor],
) -> VelocityField:
    """A velocity field with guidance inside ``guidance.interval``, decided per sample (for distillation).

    The field also takes ``w``, a weight or one per sample, in place of ``guidance.w``. Where no sample is guided the
    negative condition is not evaluated.

    Args:
        field: conditional velocity.
        negative: velocity under the negative condition.
        guidance: weight and interval.
        expand: broadcasts per-sample values to the rows of ``x`` (``Layout.expand``).
    """
    low, high = guidance.interval

    def guided(x: Tensor, t: Tensor, *, w: float | Tensor | None = None) -> Tensor:
        v_cond = field(x, t)
        weight = (guidance.w if w is None else w) * ((t >= low) & (t <= high)).to(v_cond.dtype)
        if not bool(weight.any()):
            return v_cond
        return v_cond + expand(weight, v_cond) * (v_cond - negative(x, t))

    return guided
