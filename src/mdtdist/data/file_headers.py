"""What a model file says of itself before its data: declared counts are held against limits and the file's size.

A header of a few bytes can promise a billion vertices; a reader that believes it allocates them. Each check reads the
header (or, for text formats, counts lines), compares, and allocates nothing that a count asks for.
"""

import base64
import json
import re
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mdtdist.data.scene import check_count
from mdtdist.errors import InputError

if TYPE_CHECKING:
    from mdtdist.data.untrusted import Limits

PictureCheck = Callable[[bytes, str], None]

_MAX_TREE_BYTES = 2**26  # JSON of a glTF; parsed it takes ten times as much
_MAX_HEADER_BYTES = 2**16  # of a PLY
_CHUNK = 2**24
_COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_PLY_BYTES = {"char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2}
_PLY_BYTES |= {"int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8, "float64": 8}
# Extensions without which a file holds no shape or no colour, and what undoes them.
_NEEDED_PACKAGE = {"KHR_draco_mesh_compression": "DracoPy"}
_UNREAD = {
    "EXT_meshopt_compression": "meshopt-compressed; decompress it with `gltf-transform copy`",
    "KHR_texture_basisu": "textured in KTX2; convert its textures to PNG or JPEG",
}


def check_header(path: Path, limits: "Limits", check_picture: PictureCheck) -> dict[str, Any]:
    """Refuse a file whose size or declared counts are beyond the limits or beyond what it can hold.

    Args:
        check_picture: called with bytes and name of each embedded picture.

    Returns:
        The document of a GLB or glTF; empty for other formats.

    Raises:
        InputError: with the declared and the possible number.
    """
    size, kind = path.stat().st_size, path.suffix.lower()
    if size > limits.max_file_bytes:
        raise InputError(f"the file has {size:,} bytes, more than {limits.max_file_bytes:,}")
    if size == 0:
        raise InputError("the file is empty")
    with path.open("rb") as file:
        if kind == ".glb":
            return _check_glb(file, size, limits, check_picture)
        if kind == ".gltf":
            tree = _read_tree(file, size)
            _check_tree(tree, b"", limits, check_picture)
            return tree
        if kind == ".ply":
            _check_ply(file, size, limits)
        elif kind == ".stl":
            _check_stl(file, size, limits)
        elif kind == ".obj":
            vertices, faces = _count(file, (b"\nv ", b"\nf "))
            check_count("vertices", vertices, limits.max_vertices)
            check_count("faces", faces, limits.max_faces)
    return {}


def _count(file: BinaryIO, words: tuple[bytes, ...]) -> tuple[int, ...]:
    """Occurrences of each word, all of one length, in one pass of bounded memory."""
    counts, tail = [0] * len(words), b"\n"
    while chunk := file.read(_CHUNK):
        block = tail + chunk
        counts = [count + block.count(word) for count, word in zip(counts, words, strict=True)]
        tail = block[1 - len(words[0]) :]
    return tuple(counts)


# ---------------------------------------------------------------------------------------------------------------- glTF


def _check_glb(file: BinaryIO, size: int, limits: "Limits", check_picture: PictureCheck) -> dict[str, Any]:
    head = file.read(20)
    if len(head) < 20 or head[:4] != b"glTF":
        raise InputError("the file does not begin as a GLB does; it is damaged or something else")
    version, total, tree_size, tree_kind = struct.unpack("<4xIII4s", head)
    if version != 2:
        raise InputError(f"the file is glTF {version}; version 2 is read here")
    if total > size or tree_kind != b"JSON" or tree_size > size - 20:
        raise InputError(f"its header tells of {max(total, tree_size + 20):,} bytes; the file has {size:,}: cut short")
    tree = _read_tree(file, tree_size)
    chunk = file.read(8)
    length, kind = struct.unpack("<I4s", chunk) if len(chunk) == 8 else (0, b"")
    if length > size - 28 - tree_size:
        raise InputError(f"its binary chunk should have {length:,} bytes, more than the file holds: cut short")
    has_pictures = kind == b"BIN\0" and bool(tree.get("images"))
    _check_tree(tree, file.read(length) if has_pictures else b"", limits, check_picture)
    return tree


def _read_tree(file: BinaryIO, size: int) -> dict[str, Any]:
    if size > _MAX_TREE_BYTES:
        raise InputError(f"its JSON has {size:,} bytes, more than {_MAX_TREE_BYTES:,}")
    tree = json.loads(file.read(size))
    if not isinstance(tree, dict):
        raise InputError("its JSON is no glTF tree")
    return tree


def _check_tree(tree: dict[str, Any], binary: bytes, limits: "Limits", check_picture: PictureCheck) -> None:
    _check_extensions(tree)
    _check_accessors(tree, limits)
    _check_meshes(tree, limits)
    views = tree.get("bufferViews", [])
    for i, image in enumerate(tree.get("images", [])):
        uri = image.get("uri", "")
        if "base64," in uri:
            check_picture(base64.b64decode(uri[uri.index("base64,") + 7 :]), f"number {i}")
        elif "bufferView" in image and binary:
            view = views[image["bufferView"]]
            start = view.get("byteOffset", 0)
            if view.get("buffer", 0) == 0:  # the others are files, measured when they are opened
                check_picture(binary[start : start + view["byteLength"]], f"number {i}")


def _check_extensions(tree: dict[str, Any]) -> None:
    from importlib.util import find_spec

    for name in tree.get("extensionsRequired", []):
        if name in _UNREAD:
            raise InputError(f"the file is {_UNREAD[name]}")
        if name in _NEEDED_PACKAGE and find_spec(_NEEDED_PACKAGE[name]) is None:
            raise InputError(f"the file needs {name}; pip install {_NEEDED_PACKAGE[name]}")


def _check_accessors(tree: dict[str, Any], limits: "Limits") -> None:
    """Counts of all arrays; one without data behind it is allocated by its count alone."""
    total = 0
    for accessor in tree.get("accessors", []):
        count = accessor["count"]
        if not isinstance(count, int) or count < 0:
            raise InputError(f"an array of the file has {str(count)[:20]} entries")
        check_count("entries in one array", count, max(limits.max_vertices, 3 * limits.max_faces))
        total += count * _COMPONENT_BYTES[accessor["componentType"]] * _COMPONENTS[accessor["type"]]
    if total > limits.max_memory // 4:  # a reader copies, and then copies again
        raise InputError(f"its arrays have {total:,} bytes, more than {limits.max_memory // 4:,}")


def _check_meshes(tree: dict[str, Any], limits: "Limits") -> None:
    """Faces and vertices over all nodes that show a mesh: a small file can repeat a large mesh."""
    uses = Counter(node["mesh"] for node in tree.get("nodes", []) if "mesh" in node)
    counts = [accessor["count"] for accessor in tree.get("accessors", [])]
    num_faces = num_vertices = 0
    for i, mesh in enumerate(tree.get("meshes", [])):
        for primitive in mesh.get("primitives", []):
            corners = primitive.get("indices", primitive["attributes"].get("POSITION"))
            if corners is None:
                continue
            per_face = 3 if primitive.get("mode", 4) == 4 else 1  # strips and fans have a face per corner
            num_faces += uses[i] * (counts[corners] // per_face)
            num_vertices += uses[i] * counts[primitive["attributes"]["POSITION"]]
    check_count("faces over all its nodes", num_faces, limits.max_faces)
    check_count("vertices over all its nodes", num_vertices, limits.max_vertices)


# ----------------------------------------------------------------------------------------------------------------- PLY


def _check_ply(file: BinaryIO, size: int, limits: "Limits") -> None:
    head = file.read(min(size, _MAX_HEADER_BYTES))
    end = re.search(rb"end_header\r?\n?", head)
    if not head.startswith(b"ply") or end is None:
        raise InputError("the file does not begin as a PLY does; it is damaged or something else")
    is_ascii, needed = b"format ascii" in head[: end.start()], 0
    for name, count, row in _ply_elements(head[: end.start()].decode("ascii", "replace"), is_ascii=is_ascii):
        limit = {"face": limits.max_faces, "tristrips": limits.max_faces}.get(name, limits.max_vertices)
        check_count({"vertex": "vertices", "face": "faces"}.get(name, f"entries of {name[:20]!r}"), count, limit)
        needed += count * row
    if needed > size - end.end() + 1:  # the last line may end without a break
        raise InputError(f"its header promises at least {needed:,} bytes; {size - end.end():,} follow: cut short")


def _ply_elements(header: str, *, is_ascii: bool) -> list[tuple[str, int, int]]:
    """Name, count and least bytes of a row of each element."""
    elements: list[tuple[str, int, int]] = []
    for line in header.splitlines():
        words = line.split()
        if words[:1] == ["element"]:
            if len(words) != 3 or not words[2].isdecimal():
                raise InputError(f"its header says {line[:60]!r}; expected a name and a count")
            elements.append((words[1], int(words[2]), 0))
        elif words[:1] == ["property"] and elements:
            # An empty list is its count alone; a value in text is a digit and a separator.
            kind = words[2] if words[1:2] == ["list"] and len(words) > 2 else words[-2]
            name, count, row = elements[-1]
            elements[-1] = (name, count, row + (2 if is_ascii else _PLY_BYTES.get(kind, 1)))
    return elements


# ----------------------------------------------------------------------------------------------------------------- STL


def _check_stl(file: BinaryIO, size: int, limits: "Limits") -> None:
    head = file.read(1024)
    count = struct.unpack("<I", head[80:84])[0] if len(head) >= 84 else 0
    is_text = head.lstrip()[:5].lower() == b"solid" and size != 84 + 50 * count  # binary files may say solid, too
    if is_text:
        file.seek(0)
        check_count("faces", _count(file, (b"endfacet",))[0], limits.max_faces)
        return
    if len(head) < 84:
        raise InputError(f"the file has {size} bytes; the shortest STL has 84")
    check_count("faces", count, limits.max_faces)
    if 84 + 50 * count > size:
        raise InputError(f"its header promises {count:,} faces; {size:,} bytes hold {(size - 84) // 50:,}: cut short")
