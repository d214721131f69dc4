"""From structure logits and Gaussians to a textured mesh."""

from jaxtyping import Float
from torch import Tensor

from mdtdist.export.bake import bake_texture
from mdtdist.export.surface import extract_surface
from mdtdist.export.unwrap import unwrap
from mdtdist.representations import Gaussians, Mesh


def extract_mesh(
    logits: Float[Tensor, "R R R"], gaussians: Gaussians, *, target_faces: int = 4000, texture_size: int = 512
) -> Mesh:
    """A mesh of the structure with the colours of the Gaussians.

    Args:
        logits: structure decoder output, axes x, y, z; occupied where positive.
        gaussians: decoded on that structure.
        target_faces: upper limit of the number of faces.
        texture_size: side of the square texture, texels.

    Returns:
        Mesh with texture coordinates and texture, in object space.

    Raises:
        InputError: if nothing is occupied or there are no Gaussians.
    """
    surface = extract_surface(logits, target_faces=target_faces)
    return bake_texture(unwrap(surface, texture_size=texture_size), gaussians, size=texture_size)
