"""A set of 3D Gaussians, as data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = 0.28209479177387814  # degree-0 real spherical harmonic, 1 / (2 sqrt(pi))


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Anisotropic Gaussians in object space (right-handed, Z up, cube [-0.5, 0.5]^3).

    Attributes:
        means: centres, object units (one unit is one metre in exported files).
        scales: standard deviations along the local axes, object units.
        rotations: unit quaternions, wxyz, local to object axes.
        opacities: in [0, 1].
        sh: degree-0 spherical-harmonic coefficients of display-referred sRGB colour.
    """

    means: Float[Tensor, "N 3"]
    scales: Float[Tensor, "N 3"]
    rotations: Float[Tensor, "N 4"]
    opacities: Float[Tensor, "N"]
    sh: Float[Tensor, "N 1 3"]

    @property
    def colors(self) -> Float[Tensor, "N 3"]:
        """Display-referred sRGB, clamped from below at 0 as 3D Gaussian splatting renderers do."""
        return (0.5 + SH_C0 * self.sh[:, 0]).clamp_min(0)

    def __len__(self) -> int:
        return len(self.means)

    def to(self, device: torch.device | str) -> "Gaussians":
        """The same Gaussians on another device."""
        return Gaussians(**{name: value.to(device) for name, value in vars(self).items()})
