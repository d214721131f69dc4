"""A Strivec radiance field (Gao et al., 2023) on sparse voxels of one size, as data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Strivec:
    """Radiance field in object space (right-handed, Z up, cube [-0.5, 0.5]^3), empty outside its voxels.

    Inside a voxel the field is a sum over components r, each the product of one vector per axis, interpolated linearly
    along that axis: ``f_r(x, y, z) = X_r(x) Y_r(y) Z_r(z)``. The values of a vector sit at the middles of ``dim`` equal
    parts of the voxel's edge. With weights per component this gives::

        density = softplus(sum_r density_r f_r)              per object unit of length
        colour  = sigmoid(SH_C0 sum_r features_dc_r f_r)     display-referred sRGB

    Attributes:
        coords: integer positions x, y, z of the voxels in a cubic grid, each below ``resolution``; distinct.
        resolution: voxels along an edge of the cube.
        trivec: vectors of every component along x, y and z.
        density: weights of the components in the density.
        features_dc: weights of the components in the colour, degree-0 spherical-harmonic coefficients.
    """

    coords: Int[Tensor, "N 3"]
    resolution: int
    trivec: Float[Tensor, "N rank 3 dim"]
    density: Float[Tensor, "N rank"]
    features_dc: Float[Tensor, "N rank 1 3"]

    @property
    def centers(self) -> Float[Tensor, "N 3"]:
        """Centres of the voxels, object units."""
        return (self.coords.to(self.trivec.dtype) + 0.5) / self.resolution - 0.5

    def __len__(self) -> int:
        return len(self.coords)

    def to(self, device: torch.device | str) -> "Strivec":
        """The same field on another device."""
        return Strivec(
            coords=self.coords.to(device),
            resolution=self.resolution,
            trivec=self.trivec.to(device),
            density=self.density.to(device),
            features_dc=self.features_dc.to(device),
        )
