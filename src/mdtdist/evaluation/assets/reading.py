"""Files that generators export, as something to measure: splats or triangles, Z up, in the unit cube."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdtdist.data.untrusted import load_checked
from mdtdist.errors import InputError
from mdtdist.evaluation.assets.alignment import (
    EXPORTERS,
    Alignment,
    How,
    RotationChoice,
    align_gaussians,
    align_triangles,
    as_matrix,
    as_vector,
    axes_rotation,
    fit_cube,
    parse_up,
    turn,
)
from mdtdist.evaluation.assets.ply_header import read_ply_header
from mdtdist.export.axes import to_splat_axes
from mdtdist.export.ply import read_ply
from mdtdist.representations import Gaussians
from mdtdist.representations.triangles import TexturedTriangles

MAX_SPLATS = 10_000_000  # TRELLIS writes some 500 000, LGM 65 536
_MAX_ELEMENTS = 20_000_000  # vertices or faces of a mesh
_MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
_MIN_OPACITY = 0.1  # fainter splats say nothing about where an object ends
_STRAY = 1e-3  # share of the splats at either end of an axis that may lie outside of the object
_CUBE = 0.6  # half of the unit cube, and room for splats that stick out of it
_MAX_JSON = 2**26  # bytes of a glTF document
_GREY = 0.02  # of a colour channel: what is no colour


@dataclass(frozen=True, kw_only=True)
class Asset3D:
    """One asset in object space: right-handed, Z up, front -Y, in the unit cube unless a scale was given.

    Attributes:
        path: where it was read.
        gaussians: float32, on the CPU; None for triangles.
        triangles: None for Gaussians.
        alignment: how the file was turned and scaled.
        is_unlit: whether its colours already contain the light they are seen in; true of splats, of glTF files that
            say so (KHR_materials_unlit), and of coloured meshes of this package.
    """

    path: Path
    gaussians: Gaussians | None = None
    triangles: TexturedTriangles | None = None
    alignment: Alignment
    is_unlit: bool = True

    def __post_init__(self) -> None:
        assert (self.gaussians is None) != (self.triangles is None)

    @property
    def has_color(self) -> bool:
        """Whether there is anything but one grey, which is what exporters of shapes write."""
        return self.triangles is None or _has_color(self.triangles)


def read_asset(
    path: Path, *, up: str = "auto", scale: str | float = "auto", rotation: Sequence[float] | None = None
) -> Asset3D:
    """Read a splat PLY, or a mesh as GLB, glTF, OBJ, PLY or STL.

    Args:
        path: the file. Which kind a PLY is its properties tell. Splats are as 3D Gaussian splatting (Kerbl et al.,
            2023) stores them: logits of opacity, logarithms of scales, quaternions wxyz; harmonics above degree 0 are
            ignored. Infinite logits, which saturated opacities become, are read as 0 and 1.
        up: "auto", an axis ("y", "-y", "z", with a front "y:+x"), or an exporter ("trellis", "lgm", "gltf").
            Automatically, glTF and OBJ are Y up with the front to +Z, mesh PLY and STL are Z up with the front to -Y.
            Splats with normals are turned as TRELLIS writes them, those without as LGM, which leaves the normals out.
        scale: "fit" centres the object and makes its longest side 1; a number multiplies the coordinates of the file.
            "auto" leaves files alone whose exporter works in the unit cube (splats as TRELLIS writes them, anything of
            mdtdist) if they lie in it, because a stray voxel would shift the whole object, and fits all others.
            Splats end where all but one in a thousand of the visible ones (opacity 0.1) do, along each axis.
        rotation: row-major 3x3, applied first, in the axes of the file.

    Raises:
        InputError: if the file is missing, of another kind, cut short or too large, or holds nothing to see or numbers
            that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is no file; expected an exported asset, so check the path")
    if path.suffix.lower() not in _MESH_SUFFIXES:
        raise InputError(f"{path} is of no kind that is read; expected {', '.join(_MESH_SUFFIXES)}")
    return _read(path, up=up, scale=scale, rotation=rotation)


def turn_asset(asset: Asset3D, choice: RotationChoice) -> Asset3D:
    """An asset turned as ``choose_rotation`` found for its system."""
    identity = Alignment(rotation=choice.rotation, scale=1.0, offset=(0.0, 0.0, 0.0), how="detected", sentence="")
    return replace(
        asset,
        gaussians=None if asset.gaussians is None else align_gaussians(asset.gaussians, identity),
        triangles=None if asset.triangles is None else align_triangles(asset.triangles, identity),
        alignment=turn(asset.alignment, choice),
    )


def asset_of_gaussians(gaussians: Gaussians, *, name: str = "") -> Asset3D:
    """Gaussians that are in object space already, as a pipeline makes them."""
    moved = {key: value.detach().float() for key, value in vars(gaussians.to("cpu")).items()}
    alignment = Alignment(
        rotation=as_matrix(np.eye(3)),
        scale=1.0,
        offset=(0.0, 0.0, 0.0),
        how="given",
        sentence="as the model made it, neither turned nor scaled",
    )
    return Asset3D(path=Path(name), gaussians=Gaussians(**moved), alignment=alignment)


def _read(path: Path, *, up: str, scale: str | float, rotation: Sequence[float] | None) -> Asset3D:
    suffix = path.suffix.lower()
    if suffix == ".ply":
        header = read_ply_header(path, max_count=_MAX_ELEMENTS)
        if header.is_splats:
            if (count := header.counts["vertex"]) > MAX_SPLATS:
                raise InputError(f"{path} announces {count} Gaussians; expected at most {MAX_SPLATS}")
            gaussians = _read_splats(path)
            align = partial(_align, up=up, scale=scale, rotation=rotation, kind=_splat_kind(header.has_normals))
            alignment = align(*_splat_bounds(path, gaussians))
            return Asset3D(path=path, gaussians=align_gaussians(gaussians, alignment), alignment=alignment)
        if not header.has_faces:
            raise InputError(f"{path} holds points without faces; expected Gaussian splats or a mesh")
    triangles = _load_triangles(path)
    used = triangles.vertices[triangles.faces.reshape(-1)]
    document = _gltf_document(path) if suffix in (".glb", ".gltf") else {}
    is_ours = _is_ours(path, document)
    kind = replace(_MESH_KINDS[suffix], words="as mdtdist writes it", in_cube=True) if is_ours else _MESH_KINDS[suffix]
    alignment = _align(used, up=up, scale=scale, rotation=rotation, kind=kind)
    return Asset3D(
        path=path,
        triangles=align_triangles(triangles, alignment),
        alignment=alignment,
        is_unlit=_says_unlit(document) if document else is_ours and _has_color(triangles),
    )


def _is_ours(path: Path, document: dict[str, Any]) -> bool:
    """Whether this package wrote the mesh, which it says in the file."""
    if path.suffix.lower() == ".obj":
        with path.open("rb") as file:
            return file.readline(100).strip() == b"# mdtdist"
    return _generator(document) == "mdtdist"


@dataclass(frozen=True)
class _Kind:
    """Axes that a kind of file has by convention, and words for it; whether its coordinates are those of the cube."""

    up: str
    front: str
    words: str
    in_cube: bool = False


_MESH_KINDS = {
    ".glb": _Kind(*EXPORTERS["gltf"], "as glTF defines"),
    ".gltf": _Kind(*EXPORTERS["gltf"], "as glTF defines"),
    ".obj": _Kind(*EXPORTERS["gltf"], "as is usual for OBJ, which does not say"),
    ".ply": _Kind("+z", "-y", "as is usual for mesh PLY, which does not say"),
    ".stl": _Kind("+z", "-y", "as is usual for STL, which does not say"),
}


def _splat_kind(has_normals: bool) -> _Kind:
    if has_normals:
        return _Kind(*EXPORTERS["trellis"], "splats with normals, as TRELLIS and mdtdist write them", in_cube=True)
    return _Kind(*EXPORTERS["lgm"], "splats without normals, as LGM writes them")


def _align(
    points: Float[np.ndarray, "N 3"],
    quantile: float = 0.0,
    *,
    up: str,
    scale: str | float,
    rotation: Sequence[float] | None,
    kind: _Kind,
) -> Alignment:
    """The alignment of a file whose surface is at ``points``, of which a share may be strays."""
    how: How = "from the format" if up == "auto" else "given"
    axes = (kind.up, kind.front) if up == "auto" else parse_up(up)
    matrix = axes_rotation(*axes)
    words = f"{axes[0]} is up and the front faces {axes[1]}: {kind.words if up == 'auto' else 'given'}"
    if rotation is not None:
        matrix = matrix @ np.asarray(rotation, dtype=np.float64).reshape(3, 3)
        words += ", after a rotation of its own"
    low, high = np.quantile(points @ matrix.T, [quantile, 1 - quantile], axis=0)
    if scale == "auto" and kind.in_cube and _fills_cube(low, high):
        factor, offset = 1.0, np.zeros(3)
        words += "; kept where it is in the unit cube"
    elif scale in ("auto", "fit"):
        factor, offset = fit_cube(low, high)
        words += "; centred and scaled until the longest side is 1"
    else:
        factor, offset = _given_scale(scale), np.zeros(3)
        words += f"; coordinates of the file times {factor:g}"
    return Alignment(rotation=as_matrix(matrix), scale=factor, offset=as_vector(offset), how=how, sentence=words)


def _fills_cube(low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> bool:
    """Whether an object may be in the unit cube on purpose: not beyond it, and not much smaller."""
    return bool(np.abs([low, high]).max() <= _CUBE and (high - low).max() >= _CUBE / 2)


def _given_scale(scale: str | float) -> float:
    try:
        value = float(scale)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"scale is {scale!r}; expected auto, fit or a positive number")
    return value


# ------------------------------------------------------------------------------------------------------------ splats


def _read_splats(path: Path) -> Gaussians:
    """Gaussians in the axes of the file; all numbers are finite."""
    gaussians = read_ply(path)
    if not len(gaussians):
        raise InputError(f"{path} holds no Gaussian; expected at least one")
    for name, values in vars(gaussians).items():
        if count := int((~values.isfinite()).reshape(len(gaussians), -1).any(1).sum()):
            raise InputError(f"{path} has {count} Gaussians whose {name} are not finite; export the file again")
    if count := int((gaussians.rotations.norm(dim=1) == 0).sum()):
        raise InputError(f"{path} has {count} Gaussians with a quaternion of zeros; expected rotations")
    means, rotations = to_splat_axes(gaussians.means, gaussians.rotations)  # the reader turned them
    return replace(gaussians, means=means, rotations=rotations)


def _splat_bounds(path: Path, gaussians: Gaussians) -> tuple[Float[np.ndarray, "N 3"], float]:
    visible = gaussians.means[gaussians.opacities >= _MIN_OPACITY]
    if not len(visible):
        raise InputError(f"{path} has no Gaussian with an opacity of {_MIN_OPACITY} or more; there is nothing to see")
    return visible.double().numpy(), _STRAY


# ------------------------------------------------------------------------------------------------------------ meshes


def _load_triangles(path: Path) -> TexturedTriangles:
    """Triangles in the axes of the file; whatever is wrong with it is said with its name."""
    try:
        return load_checked(path)
    except InputError as error:
        raise InputError(f"{path} cannot be measured: {error}") from error


def _gltf_document(path: Path) -> dict[str, Any]:
    """The JSON of a glTF file; empty where it cannot be read, because the model itself could be."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".gltf":
                text = file.read(_MAX_JSON)
            else:
                length = struct.unpack("<4sIIII", file.read(20))[3]
                text = file.read(min(length, _MAX_JSON))
        document = json.loads(text)
    except (OSError, ValueError, struct.error):
        return {}
    return document if isinstance(document, dict) else {}


def _says_unlit(document: dict[str, Any]) -> bool:
    """Whether all materials are unlit."""
    materials = document.get("materials") or []
    return bool(materials) and all(
        "KHR_materials_unlit" in (material.get("extensions") or {}) for material in materials
    )


def _generator(document: dict[str, Any]) -> str:
    """The program that wrote a glTF file."""
    return str((document.get("asset") or {}).get("generator", ""))


def _has_color(triangles: TexturedTriangles) -> bool:
    used = [triangles.materials[index] for index in np.unique(triangles.face_material)]
    if any(material.texture is not None for material in used):
        return True
    colors = triangles.vertex_colors[np.unique(triangles.faces)] if len(used) else np.ones((1, 3))
    shades = np.concatenate([np.array([material.color for material in used]), colors])
    is_one = all(np.ptp(values, axis=0).max() <= _GREY for values in (shades[: len(used)], colors))
    return not (is_one and np.ptp(shades, axis=1).max() <= _GREY)
