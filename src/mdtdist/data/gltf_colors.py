"""What a glTF document means by its colours, and how they become display-referred.

glTF 2.0 (sections 3.7.2.1 and 3.9.2) defines ``baseColorFactor`` and ``COLOR_0`` as linear light and textures of the
base colour as sRGB; all three multiply, in linear light. Renders here are display-referred and multiply sRGB values.
"""

import io
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

_UNSIGNED_BYTE = 5121  # component type
_GLB_HEAD = 20  # bytes of the header and of the head of the first chunk


def has_linear_colors(tree: dict[str, Any]) -> bool:
    """Whether factors and vertex colours of a document are linear light.

    They are by definition, except in files of trimesh, which writes the sRGB colours it holds as they are. An empty
    document, which is that of all other formats, has none.
    """
    asset = tree.get("asset")
    generator = asset.get("generator", "") if isinstance(asset, dict) else ""
    return bool(tree) and "trimesh" not in str(generator).lower()


def display_colors(linear: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Linear light to display-referred sRGB, both clamped to [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    # Written so that 1, the colour that changes nothing, stays exactly 1.
    return np.where(linear <= 0.0031308, 12.92 * linear, 1 + 1.055 * (linear ** (1 / 2.4) - 1))


def with_default_materials(path: Path, tree: dict[str, Any]) -> BinaryIO | None:
    """The file with a white material wherever vertex colours stand without one; None if it can be read as it is.

    trimesh makes bytes of colours without a material: the lower halves of 16 bits, or of linear floats so few levels
    that dark colours are lost. Beside a material it hands them out as they are. White, the default, changes nothing.

    Args:
        path: GLB or glTF whose header was checked.
        tree: its document; it gets the material, too.
    """
    accessors = tree.get("accessors", [])
    bare = [
        primitive
        for mesh in tree.get("meshes", [])
        for primitive in mesh.get("primitives", [])
        if "material" not in primitive and _is_wide(accessors, primitive.get("attributes", {}).get("COLOR_0"))
    ]
    if not bare:
        return None
    tree["materials"] = [*tree.get("materials", []), {}]
    for primitive in bare:
        primitive["material"] = len(tree["materials"]) - 1
    text = json.dumps(tree).encode()
    return io.BytesIO(text if path.suffix.lower() == ".gltf" else _exchange_tree(path.read_bytes(), text))


def _is_wide(accessors: list[dict[str, Any]], index: Any) -> bool:
    """Whether an array exists and its entries are no bytes."""
    is_there = isinstance(index, int) and 0 <= index < len(accessors)
    return is_there and accessors[index].get("componentType") != _UNSIGNED_BYTE


def _exchange_tree(data: bytes, text: bytes) -> bytes:
    """A GLB with another document."""
    text += b" " * (-len(text) % 4)
    magic, version, total, tree_size, kind = struct.unpack("<4sIII4s", data[:_GLB_HEAD])
    head = struct.pack("<4sIII4s", magic, version, total - tree_size + len(text), len(text), kind)
    return head + text + data[_GLB_HEAD + tree_size :]
