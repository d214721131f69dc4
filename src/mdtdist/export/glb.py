"""glTF 2.0 binary files (.glb)."""

import json
import struct
from pathlib import Path

import numpy as np

from mdtdist.export.appearance import encode_png, linear_light, require_drawable
from mdtdist.export.axes import to_y_up
from mdtdist.export.normals import vertex_normals
from mdtdist.files import appear_whole
from mdtdist.representations import Mesh

# Component types, buffer targets, filters and modes of the glTF 2.0 specification (OpenGL constants).
_FLOAT, _UINT32 = 5126, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071
_TRIANGLES = 4


def write_glb(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh as one self-contained GLB: metres, Y up, opaque, double-sided.

    Object space (Z up, front -Y) becomes glTF space (Y up, front +Z) by (x, y, z) -> (x, z, -y). A mesh with colours
    (one PNG texture, or vertex colours in linear light, as glTF defines them) has the unlit material
    (KHR_materials_unlit), because its sRGB colours already contain the light they were seen in; a mesh without colours
    is lit, or one would see a silhouette only.

    Args:
        mesh: at least one triangle; a texture is shown instead of vertex colours, as in ``Mesh``.
        path: file to write; it appears whole or not at all.

    Raises:
        InputError: if the mesh has no faces or is not finite, or the file cannot be written.
    """
    with appear_whole(path) as temporary:
        temporary.write_bytes(encode_glb(mesh))


def encode_glb(mesh: Mesh) -> bytes:
    """The bytes of the file; see ``write_glb``."""
    require_drawable(mesh)
    buffer = _Buffer()
    primitive = {
        "attributes": _attributes(mesh, buffer),
        "indices": buffer.add_accessor(mesh.faces.astype("<u4").reshape(-1)),
        "material": 0,
        "mode": _TRIANGLES,
    }
    document: dict[str, object] = {
        "asset": {"version": "2.0", "generator": "mdtdist"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [{"name": "object", "primitives": [primitive]}],
        "materials": [_material(mesh)],
    }
    if mesh.texture is not None:
        document |= _texture(buffer.add_view(encode_png(mesh.texture)))
    if _has_colors(mesh):
        document["extensionsUsed"] = ["KHR_materials_unlit"]
    document |= {"accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": buffer.length}]}
    return _container(document, bytes(buffer.data))


def _attributes(mesh: Mesh, buffer: "_Buffer") -> dict[str, int]:
    """The accessor of each vertex attribute."""
    attributes = {
        "POSITION": buffer.add_accessor(to_y_up(mesh.vertices), with_bounds=True),
        "NORMAL": buffer.add_accessor(to_y_up(vertex_normals(mesh))),
    }
    if mesh.uv is not None:  # glTF counts v from the upper edge of the image
        attributes["TEXCOORD_0"] = buffer.add_accessor(mesh.uv * [1, -1] + [0, 1])
    if mesh.texture is None and mesh.vertex_colors is not None:  # glTF would multiply the two
        attributes["COLOR_0"] = buffer.add_accessor(linear_light(mesh.vertex_colors))
    return attributes


def _has_colors(mesh: Mesh) -> bool:
    return mesh.texture is not None or mesh.vertex_colors is not None


class _Buffer:
    """The binary chunk under construction, with the accessors and views into it; every view starts at 4 bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, object]] = []

    @property
    def length(self) -> int:
        return len(self.data)

    def add_view(self, content: bytes, **fields: int) -> int:
        """Append bytes, padded to a multiple of four; the number of the new view."""
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(content), **fields})
        self.data += content + bytes(-len(content) % 4)
        return len(self.views) - 1

    def add_accessor(self, values: np.ndarray, *, with_bounds: bool = False) -> int:
        """Append vectors as float32, or a flat list of uint32 indices; the number of the new accessor."""
        is_index = values.ndim == 1
        values = values.astype("<u4" if is_index else "<f4")
        view = self.add_view(values.tobytes(), target=_ELEMENT_ARRAY_BUFFER if is_index else _ARRAY_BUFFER)
        kind = "SCALAR" if is_index else f"VEC{values.shape[1]}"
        accessor: dict[str, object] = {
            "bufferView": view, "componentType": _UINT32 if is_index else _FLOAT, "count": len(values), "type": kind
        }  # fmt: skip
        if with_bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _material(mesh: Mesh) -> dict[str, object]:
    """Opaque and not metallic; unlit with the colours of the mesh, or plain white and lit without any."""
    surface: dict[str, object] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    material = {"name": "surface", "pbrMetallicRoughness": surface, "alphaMode": "OPAQUE", "doubleSided": True}
    if mesh.texture is not None:
        surface["baseColorTexture"] = {"index": 0}
    return material | {"extensions": {"KHR_materials_unlit": {}}} if _has_colors(mesh) else material


def _texture(view: int) -> dict[str, object]:
    """The entries that show the PNG in a buffer view as the only texture; base-colour images are sRGB by definition."""
    return {
        "textures": [{"sampler": 0, "source": 0}],
        "images": [{"name": "color", "bufferView": view, "mimeType": "image/png"}],
        "samplers": [
            {
                "magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR,
                "wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE,
            }
        ],
    }  # fmt: skip


def _container(document: dict[str, object], binary: bytes) -> bytes:
    """Header and the two chunks; the JSON is padded with spaces, the binary already is a multiple of four long."""
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
