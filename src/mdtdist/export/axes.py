"""Object space (right-handed, Z up, front -Y) to the axes of the file formats; each writer names the one it uses."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# wxyz: 90 degrees about x, (x, y, z) -> (x, -z, y).
_SPLAT_ROTATION = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)


def to_y_up(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """(x, y, z) -> (x, z, -y): Y up, front +Z, as glTF demands and OBJ and USD readers expect."""
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1)


def to_splat_axes(
    means: Float[Tensor, "N 3"], rotations: Float[Tensor, "N 4"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 4"]]:
    """(x, y, z) -> (x, -z, y): Y down, as TRELLIS writes splats.

    Photographs, which splats are usually trained on, have y pointing down, and so have the files. They are the GLB
    turned by 180 degrees about x, which is the turn that splat viewers undo.

    Args:
        means: centres.
        rotations: quaternions wxyz, of any length.

    Returns:
        Centres and unit quaternions in file space.
    """
    x, y, z = means.unbind(-1)
    turn = rotations.new_tensor(_SPLAT_ROTATION)
    return torch.stack([x, -z, y], -1), _quaternion_product(turn, _unit(rotations))


def from_splat_axes(
    means: Float[Tensor, "N 3"], rotations: Float[Tensor, "N 4"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 4"]]:
    """The inverse of :func:`to_splat_axes`."""
    x, y, z = means.unbind(-1)
    turn = rotations.new_tensor(_SPLAT_ROTATION) * rotations.new_tensor((1.0, -1.0, -1.0, -1.0))
    return torch.stack([x, z, -y], -1), _quaternion_product(turn, _unit(rotations))


def _unit(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    return torch.nn.functional.normalize(quaternions, dim=-1)


def _quaternion_product(left: Float[Tensor, "4"], right: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Hamilton product, wxyz: first ``right``, then ``left``."""
    a, b, c, d = left
    w, x, y, z = right.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        dim=-1,
    )
