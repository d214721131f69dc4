"""A bundle: many textured models in one small file, with whose they are and which set each belongs to.

The file is a zip. ``objects.json`` lists the objects; the member ``<sha256>`` of each is one LZMA stream: a line of
JSON, whole numbers plane by plane (all lowest bytes first: neighbours are alike), then the textures as WebP. Positions
are steps of 1/2048 of the cube's side (1/1024 for a model of many faces), texture coordinates of 1/2048 of the
picture, colours of 1/255. Faces and their corners stand in the order that packs best, as neither that order nor winding
carries a meaning. Reading takes NumPy and Pillow.
"""

import io
import json
import lzma
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mdtdist.data.archives import open_zip
from mdtdist.data.files import whole_file
from mdtdist.data.sources.asset import Asset
from mdtdist.data.split import SPLITS
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError
from mdtdist.representations.triangles import Material, TexturedTriangles

SUFFIX = ".bundle"
MAX_TEXTURE = 256  # pixels a side
_FINE, _COARSE, _MANY_FACES = 2048, 1024, 10_000  # steps; a coarser one turns the small faces of a fine model
_UV_STEPS = 2048
_MAX_REPEATS = 2**18  # of a texture; keeps differences of texture coordinates within four bytes
_WEBP_QUALITY = 80
_POSITION, _NUMBER, _COLOR = 2, 4, 1  # bytes a number
# Without position bits: the numbers have no period of two or four bytes.
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 2**23, "pb": 0}]
_MAX_BYTES = 2**28  # of an object or the list, unpacked; the largest object of Sweet Home 3D has 5 MB
_LIST = "objects.json"
_TEXTS = ("source_id", "sha256", "name", "category", "creator", "license")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What became of an object: bytes in the bundle, faces kept, and faces left out.

    Left out are faces without area once the positions are rounded, and those that then coincide with another.
    """

    sha256: str
    num_bytes: int
    num_faces: int
    num_dropped: int


def write_bundle(path: str | Path, objects: Iterable[tuple[Asset, TexturedTriangles]]) -> list[Packed]:
    """Write objects as they come; the file appears when all are written.

    Args:
        objects: provenance with ``metadata["split"]`` (train, val or test) and, if all its items should not be as many
            as those of the others, ``metadata["turns"]``; and the model upright in the unit cube.

    Raises:
        InputError: if there is no object or two have one ``sha256``, or if an object has no split, leaves the cube, or
            has no face that is left.
    """
    packed: list[Packed] = []
    entries: dict[str, dict[str, Any]] = {}
    with whole_file(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        for asset, triangles in objects:
            if asset.sha256 in entries:
                raise InputError(f"{asset.source_id} is in the bundle already (sha256 {asset.sha256}); give it once.")
            data, num_faces = _pack(triangles, asset.source_id)
            archive.writestr(zipfile.ZipInfo(asset.sha256), data)  # a date of its own would change the file
            num_dropped = len(triangles.faces) - num_faces
            entries[asset.sha256] = {**_entry(asset), "num_faces": num_faces, "num_dropped": num_dropped}
            item = Packed(sha256=asset.sha256, num_bytes=len(data), num_faces=num_faces, num_dropped=num_dropped)
            packed.append(item)
        if not entries:
            raise InputError(f"no object was given for {path}; a bundle holds at least one.")
        archive.writestr(zipfile.ZipInfo(_LIST), _compress(json.dumps(list(entries.values())).encode()))
    return packed


def find_bundles(path: Path) -> list[Path]:
    """The bundle at ``path``, or those in that folder; none if it is another source."""
    return [path] if path.suffix == SUFFIX else sorted(path.glob(f"*{SUFFIX}"))


def list_bundle(path: str | Path) -> list[Asset]:
    """Objects of a bundle in the order of writing; ``metadata`` has the ``split`` (and ``turns``), ``path`` the bundle.

    Raises:
        InputError: if the file is missing, damaged or no bundle.
    """
    path = Path(path)
    try:
        return [_asset(entry, path) for entry in json.loads(_read(path, _LIST))]
    except (ValueError, LookupError, TypeError) as err:
        raise _damaged(path, _LIST, err) from err


def read_object(path: str | Path, sha256: str, *, limits: Limits | None = None) -> TexturedTriangles:
    """One model, upright in the unit cube; nothing else of the bundle is read.

    Args:
        sha256: as in :func:`list_bundle`.

    Raises:
        InputError: if the bundle is missing, damaged or has no such object, or the object is beyond the limits.
    """
    path, data = Path(path), _read(Path(path), sha256)
    try:
        return _unpack(data, limits or Limits())
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, OSError, Image.DecompressionBombError) as err:
        raise _damaged(path, sha256, err) from err


# ------------------------------------------------------------------------------------------------------- the file


def _entry(asset: Asset) -> dict[str, Any]:
    split = asset.metadata.get("split")
    if split not in SPLITS:
        raise InputError(f"{asset.source_id} has the split {split!r}; expected one of {', '.join(SPLITS)}.")
    turns = {"turns": int(asset.metadata["turns"])} if "turns" in asset.metadata else {}
    return {**{name: getattr(asset, name) for name in _TEXTS}, "size_cm": asset.size_cm, "split": split, **turns}


def _asset(entry: dict[str, Any], path: Path) -> Asset:
    texts = {name: entry[name] for name in _TEXTS}
    if not all(isinstance(text, str) for text in texts.values()) or not re.fullmatch("[0-9a-f]{64}", texts["sha256"]):
        raise ValueError(f"an object calls itself {texts}")
    if entry["split"] not in SPLITS:
        raise ValueError(f"{texts['source_id']} has the split {entry['split']!r}")
    size = entry["size_cm"]
    width, depth, height = size or (0, 0, 0)
    size_cm = (float(width), float(depth), float(height)) if size else None
    turns = {"turns": int(entry["turns"])} if "turns" in entry else {}
    return Asset(**texts, path=path, size_cm=size_cm, metadata={"split": entry["split"], **turns})


def _read(path: Path, name: str) -> bytes:
    """A member, unpacked."""
    with open_zip(path, what="bundle") as archive:
        if name not in archive.NameToInfo:
            raise InputError(f"{path} holds no {name}; expected a bundle, as `recipes/small/make_bundle.py` writes.")
        member = archive.getinfo(name)
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > _MAX_BYTES:
            raise InputError(f"{name} in {path} has {member.file_size:,} bytes; it is no object of a bundle.")
        data = archive.read(member)
    return _decompress(data, path, name)


def _compress(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=_FILTERS)


def _decompress(data: bytes, path: Path, name: str) -> bytes:
    reader = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        unpacked = reader.decompress(data, max_length=_MAX_BYTES)
    except lzma.LZMAError as err:
        raise _damaged(path, name, err) from err
    if not reader.eof:
        raise InputError(f"{name} in {path} is cut short or unpacks to more than {_MAX_BYTES:,} bytes; write it again.")
    return unpacked


def _damaged(path: Path, name: str, err: Exception) -> InputError:
    return InputError(f"{name} in {path} cannot be read ({type(err).__name__}: {err}); write the bundle again.")


# ----------------------------------------------------------------------------------------------------- one object


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    """A model in whole numbers.

    Attributes:
        steps: of a position along the cube's side.
        positions, uv, colors: of the vertices; ``uv`` is 0 where no texture is.
        faces: vertex numbers, falling within a face.
        face_material: rising.
    """

    steps: int
    positions: Int[np.ndarray, "V 3"]
    uv: Int[np.ndarray, "V 2"]
    colors: Int[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    face_material: Int[np.ndarray, "F"]


def _pack(triangles: TexturedTriangles, name: str) -> tuple[bytes, int]:
    """The member of an object, and how many faces it has."""
    if np.abs(triangles.vertices[triangles.faces.reshape(-1)]).max(initial=0) > 0.5:
        raise InputError(f"{name} leaves the cube [-0.5, 0.5]^3; normalise it first.")
    numbers = _whole_numbers(triangles)
    if not len(numbers.faces):
        raise InputError(f"{name} has no face that is larger than 1/{numbers.steps} of its side; leave it out.")
    used, counts = np.unique(numbers.face_material, return_counts=True)
    materials, textures = _pack_materials([triangles.materials[index] for index in used], counts.tolist())
    has_uv, has_colors = bool(numbers.uv.any()), bool((numbers.colors != 255).any())
    header = {
        "steps": numbers.steps,
        "num_vertices": len(numbers.positions),
        "has_uv": has_uv,
        "has_colors": has_colors,
        "materials": materials,
        "textures": [len(texture) for texture in textures],
    }
    parts = [json.dumps(header).encode() + b"\n", _planes(_face_codes(numbers.faces), _NUMBER)]
    parts.append(_planes(_differences(numbers.positions), _POSITION))
    parts += [_planes(_differences(numbers.uv), _NUMBER)] if has_uv else []
    parts += [_planes(numbers.colors, _COLOR)] if has_colors else []
    return _compress(b"".join([*parts, *textures])), len(numbers.faces)


def _whole_numbers(triangles: TexturedTriangles) -> _Numbers:
    """Round, merge equal vertices, drop faces without area or coinciding with another, and bring all in order."""
    steps = _FINE if len(triangles.faces) <= _MANY_FACES else _COARSE
    rows = _vertex_rows(triangles, steps)
    corners = rows[triangles.faces, :3]
    has_area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).any(axis=1)
    rows, merged = np.unique(rows, axis=0, return_inverse=True)
    faces, material = merged.reshape(-1)[triangles.faces[has_area]], triangles.face_material[has_area]
    _, first = np.unique(np.column_stack([material, np.sort(faces, axis=1)]), axis=0, return_index=True)
    first = np.sort(first)  # as in the file, where neighbours are together
    order, faces = _numbered_by_use(faces[first])
    faces, material = -np.sort(-faces, axis=1), material[first]
    rank = np.lexsort((*faces.T[::-1], material))
    positions, uv, colors = np.split(rows[order], [3, 5], axis=1)
    return _Numbers(
        steps=steps, positions=positions, uv=uv, colors=colors, faces=faces[rank], face_material=material[rank]
    )


def _vertex_rows(triangles: TexturedTriangles, steps: int) -> Int[np.ndarray, "V 8"]:
    """Position, texture coordinates and colour of every vertex, in steps."""
    is_textured = np.array([material.texture is not None for material in triangles.materials])
    has_uv = np.zeros((len(triangles.vertices), 1), dtype=bool)
    has_uv[triangles.faces[is_textured[triangles.face_material]].reshape(-1)] = True
    uv = np.where(has_uv, triangles.uv.clip(-_MAX_REPEATS, _MAX_REPEATS), 0) * _UV_STEPS
    numbers = [(triangles.vertices + 0.5) * steps, uv, triangles.vertex_colors.clip(0, 1) * 255]
    return np.round(np.concatenate(numbers, axis=1)).astype(np.int64)


def _numbered_by_use(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, "V"], Int[np.ndarray, "F 3"]]:
    """The used vertices in the order of their first use, and the faces in these new numbers."""
    used, first, number = np.unique(faces.reshape(-1), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return used[order], rank[number].reshape(-1, 3)


def _face_codes(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "F 3"]:
    """The newest vertex against that of the face before, the two others against the next newer."""
    newest = _differences(faces[:, :1])
    return np.concatenate([newest, faces[:, :2] - faces[:, 1:]], axis=1)


def _faces_of(codes: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "F 3"]:
    newest = _sums(codes[:, :1])
    return np.concatenate([newest, newest - np.cumsum(codes[:, 1:], axis=1)], axis=1)


def _differences(values: Int[np.ndarray, "N C"]) -> Int[np.ndarray, "N C"]:
    """Row by row, without sign: 0, -1, 1, -2 become 0, 1, 2, 3."""
    change = np.diff(values, axis=0, prepend=0)
    return np.where(change < 0, -2 * change - 1, 2 * change)


def _sums(codes: Int[np.ndarray, "N C"]) -> Int[np.ndarray, "N C"]:
    return np.cumsum(np.where(codes % 2, -(codes + 1) // 2, codes // 2), axis=0)


def _planes(values: Int[np.ndarray, "N C"], width: int) -> bytes:
    """Columns one after the other, each as ``width`` planes of bytes."""
    columns = values.T.astype("<u4")[:, :, None].view(np.uint8)[..., :width]
    return columns.transpose(0, 2, 1).tobytes()


def _from_planes(data: bytes, columns: int, width: int) -> Int[np.ndarray, "N C"]:
    planes = np.frombuffer(data, dtype=np.uint8).reshape(columns, width, -1).astype(np.int64)
    return (planes << (8 * np.arange(width))[:, None]).sum(axis=1).T


def _pack_materials(materials: Sequence[Material], counts: Sequence[int]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Descriptions and the pictures they number; equal pictures are kept once."""
    textures: dict[bytes, int] = {}
    described = []
    for material, count in zip(materials, counts, strict=True):
        image = None if material.texture is None else _webp(material.texture)
        color, opacity = [round(255 * value) for value in material.color], round(255 * material.opacity)
        number = None if image is None else textures.setdefault(image, len(textures))
        described.append({"color": color, "opacity": opacity, "texture": number, "num_faces": count})
    return described, list(textures)


def _webp(texture: UInt8[np.ndarray, "H W 4"]) -> bytes:
    image = Image.fromarray(texture)
    image.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=_WEBP_QUALITY, method=6)
    return file.getvalue()


def _unpack(data: bytes, limits: Limits) -> TexturedTriangles:
    """The reverse of :func:`_pack`; raises what damaged numbers lead to."""
    line, _, body = data.partition(b"\n")
    header = json.loads(line)
    counts = [int(item["num_faces"]) for item in header["materials"]]
    num_faces, num_vertices, steps = sum(counts), int(header["num_vertices"]), int(header["steps"])
    _check_numbers(counts, num_vertices, steps, limits)
    sizes = [num_faces * 3 * _NUMBER, num_vertices * 3 * _POSITION]
    sizes += [
        num_vertices * 2 * _NUMBER * bool(header["has_uv"]),
        num_vertices * 3 * _COLOR * bool(header["has_colors"]),
    ]
    parts = _cut(body, [*sizes, *map(int, header["textures"])])
    faces = _faces_of(_from_planes(parts[0], 3, _NUMBER))
    positions = _sums(_from_planes(parts[1], 3, _POSITION)) / steps - 0.5
    if faces.min() < 0 or faces.max() >= num_vertices or np.abs(positions).max() > 0.5:
        raise ValueError("a number leaves its range")
    uv = _sums(_from_planes(parts[2], 2, _NUMBER)) / _UV_STEPS if parts[2] else np.zeros((num_vertices, 2))
    colors = _from_planes(parts[3], 3, _COLOR) / 255 if parts[3] else np.ones((num_vertices, 3))
    textures = [_texture(part) for part in parts[4:]]
    return TexturedTriangles(
        vertices=positions,
        faces=faces,
        uv=uv,
        vertex_colors=colors,
        face_material=np.repeat(np.arange(len(counts)), counts),
        materials=tuple(_material(item, textures) for item in header["materials"]),
    )


def _check_numbers(counts: Sequence[int], num_vertices: int, steps: int, limits: Limits) -> None:
    if min(counts, default=0) < 1 or num_vertices < 3 or steps not in (_FINE, _COARSE):
        raise ValueError(f"{num_vertices} vertices in {steps} steps, and materials with {list(counts)} faces")
    if sum(counts) > limits.max_faces or num_vertices > limits.max_vertices:
        raise InputError(
            f"an object has {sum(counts):,} faces and {num_vertices:,} vertices, "
            f"more than {limits.max_faces:,} and {limits.max_vertices:,}; simplify it."
        )


def _cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Parts of these lengths, which must make up all of the data."""
    ends = np.cumsum([0, *sizes]).tolist()
    if ends[-1] != len(data):
        raise ValueError(f"it has {len(data):,} bytes of numbers and pictures and declares {ends[-1]:,}")
    return [data[start:stop] for start, stop in zip(ends[:-1], ends[1:], strict=True)]


def _texture(data: bytes) -> UInt8[np.ndarray, "H W 4"]:
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
        if max(image.size) > MAX_TEXTURE:
            raise ValueError(f"a texture of {image.width} x {image.height} pixels")
        return np.asarray(image.convert("RGBA"))


def _material(item: dict[str, Any], textures: Sequence[UInt8[np.ndarray, "H W 4"]]) -> Material:
    red, green, blue, opacity = (int(value) for value in (*item["color"], item["opacity"]))
    if not all(0 <= value <= 255 for value in (red, green, blue, opacity)):
        raise ValueError(f"a material has the colour {item['color']} and opacity {item['opacity']}")
    texture = None if item["texture"] is None else textures[int(item["texture"])]
    return Material(color=(red / 255, green / 255, blue / 255), opacity=opacity / 255, texture=texture)
