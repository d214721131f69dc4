"""Triangles with materials: a model as its file describes it, before anything is learned from it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

DEFAULT_COLOR = (0.8, 0.8, 0.8)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Appearance of a face: ``color * texture`` (or the vertex colour), display-referred sRGB.

    Attributes:
        color: multiplies the texture.
        opacity: multiplies the texture's alpha; 1 is opaque.
        texture: RGBA, row 0 at the top (v = 1), repeated outside [0, 1]; None without one.
    """

    color: tuple[float, float, float] = DEFAULT_COLOR
    opacity: float = 1.0
    texture: UInt8[np.ndarray, "H W 4"] | None = None

    @property
    def has_holes(self) -> bool:
        """Whether texels decide where the surface is."""
        return self.texture is not None and bool((self.texture[..., 3] < 128).any())


@dataclass(frozen=True, kw_only=True)
class TexturedTriangles:
    """All triangles of a model. Winding carries no meaning and surfaces need not be closed.

    Attributes:
        vertices: positions.
        faces: vertex indices.
        uv: texture coordinates, origin at the lower left; zeros where there is no texture.
        vertex_colors: sRGB in [0, 1]; ones where a material says the colour.
        face_material: index into ``materials``.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"]
    vertex_colors: Float[np.ndarray, "V 3"]
    face_material: Int[np.ndarray, "F"]
    materials: tuple[Material, ...]

    @property
    def triangles(self) -> Float[np.ndarray, "F 3 3"]:
        """Corner positions of every face."""
        return self.vertices[self.faces]
