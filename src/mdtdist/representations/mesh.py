"""A triangle mesh with an optional texture or vertex colours, as data."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Triangles in object space (right-handed, Z up), counter-clockwise seen from outside.

    Attributes:
        vertices: positions, object units.
        faces: vertex indices.
        uv: texture coordinates in [0, 1], origin at the lower left; None without a texture.
        texture: display-referred sRGB, row 0 at the top (v = 1); None without a texture.
        vertex_colors: display-referred sRGB in [0, 1]; None without. A texture, where there is one, is what is shown.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"] | None = None
    texture: UInt8[np.ndarray, "H W 3"] | None = None
    vertex_colors: Float[np.ndarray, "V 3"] | None = None
