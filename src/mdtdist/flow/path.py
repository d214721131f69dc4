"""The linear probability path between data (t = 0) and noise (t = 1)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LinearPath:
    """``x_t = (1 - t) x_0 + (sigma_min + (1 - sigma_min) t) z`` with velocity ``(1 - sigma_min) z - x_0``.

    ``sigma_min = 0`` is the path of the MDT-dist paper, ``sigma_min = 1e-5`` the one TRELLIS was trained on. All times
    must broadcast against the samples (``Layout.expand`` gives per-sample times that shape).
    """

    sigma_min: float = 0.0

    def noise_scale(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Coefficient of the noise at time ``t``."""
        return self.sigma_min + (1 - self.sigma_min) * t

    def sample(
        self, x_0: Float[Tensor, "..."], z: Float[Tensor, "..."], t: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """``x_t``, a sample of the marginal at ``t``."""
        return (1 - t) * x_0 + self.noise_scale(t) * z

    def velocity(self, x_0: Float[Tensor, "..."], z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The conditional velocity ``dx_t / dt``, the regression target of a flow teacher."""
        return (1 - self.sigma_min) * z - x_0

    def x_0_from_velocity(
        self, x_t: Float[Tensor, "..."], v: Float[Tensor, "..."], t: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """The data prediction ``(1 - sigma_min) x_t - noise_scale(t) v``."""
        return (1 - self.sigma_min) * x_t - self.noise_scale(t) * v

    def noise_from_velocity(
        self, x_t: Float[Tensor, "..."], v: Float[Tensor, "..."], t: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """The noise prediction ``(1 - t) v + x_t``."""
        return (1 - t) * v + x_t
