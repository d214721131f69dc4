"""What the mesh writers share: which meshes can be written, and how colours become bytes."""

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.representations import Mesh


def require_drawable(mesh: Mesh) -> None:
    """Refuse a mesh that no reader could show.

    Raises:
        InputError: if the mesh has no faces, a position or colour that is not finite, or a texture without ``uv``.
    """
    if not len(mesh.faces):
        raise InputError("mesh has no faces; expected at least one, so try another seed or image")
    if not np.isfinite(mesh.vertices).all():
        count = int((~np.isfinite(mesh.vertices)).any(1).sum())
        raise InputError(f"mesh has {count} vertices that are not finite; expected numbers, so check the weights")
    if mesh.vertex_colors is not None and not np.isfinite(mesh.vertex_colors).all():
        raise InputError("mesh has vertex colours that are not finite; expected numbers, so check the weights")
    if mesh.texture is not None and mesh.uv is None:
        raise InputError("mesh has a texture and no texture coordinates; expected uv, so unwrap and bake it")


def encode_png(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """The bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image, "RGB").save(stream, "PNG")
    return stream.getvalue()


def linear_light(colors: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Display-referred sRGB to linear light, both clamped to [0, 1] (IEC 61966-2-1)."""
    colors = np.clip(colors, 0.0, 1.0)
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
