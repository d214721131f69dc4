"""Elliptical weighted average (EWA) splatting: 3D Gaussians become 2-D Gaussians of the image plane."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mdtdist.render.cameras import Camera

# Beyond this multiple of the half image the linearised projection is held constant, as 3D Gaussian splatting does:
# it is inaccurate far outside the view and would smear such Gaussians over the picture.
FRUSTUM_MARGIN = 1.3


def quaternion_to_matrix(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Rotation matrices (local to object axes) of wxyz quaternions of any non-zero length."""
    w, x, y, z = F.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def covariance_3d(scales: Float[Tensor, "N 3"], rotations: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """``R diag(scales^2) R^T``, object units squared; rotations as wxyz quaternions."""
    axes = quaternion_to_matrix(rotations) * scales[:, None, :]
    return axes @ axes.mT


def project_covariance(
    covariances: Float[Tensor, "N 3 3"], means: Float[Tensor, "N 3"], camera: Camera, *, size: int
) -> Float[Tensor, "N 2 2"]:
    """Image-plane covariances, square pixels (x right, y down), by the first-order expansion of the projection.

    Implements Eq. 5 of Kerbl et al. (2023), ``J W covariance W^T J^T``. Means must lie in front of the camera.
    """
    x, y, depth = camera.to_camera(means).unbind(-1)
    focal = camera.focal(size)
    limit = FRUSTUM_MARGIN * size / (2 * focal)
    u, v = (x / depth).clamp(-limit, limit), (y / depth).clamp(-limit, limit)
    one, zero = torch.ones_like(u), torch.zeros_like(u)
    jacobian = torch.stack([torch.stack([one, zero, -u], -1), torch.stack([zero, one, -v], -1)], -2)
    linear = (focal / depth)[:, None, None] * (jacobian @ camera.rotation.to(means))
    return linear @ covariances @ linear.mT
