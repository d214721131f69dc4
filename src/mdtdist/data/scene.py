"""A scene as trimesh read it to triangles with materials. Nothing here trusts what the file said."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mdtdist.data.gltf_colors import display_colors
from mdtdist.errors import InputError
from mdtdist.representations.triangles import DEFAULT_COLOR, Material, TexturedTriangles

logger = logging.getLogger(__name__)

MIN_OPACITY = 0.02  # a material fainter than this is invisible: its faces are dropped


def triangles_of_scene(scene: Any, *, max_faces: int, max_vertices: int, is_linear: bool = False) -> TexturedTriangles:
    """All triangles of a ``trimesh.Scene``, placed by its graph. Invisible faces are dropped.

    Args:
        scene: as loaded, unprocessed.
        max_faces, max_vertices: bounds over all instances, checked before anything is copied.
        is_linear: whether factors of materials and vertex colours are linear light; they become sRGB. Textures are
            sRGB in either case.

    Raises:
        InputError: without triangles, beyond the bounds, with positions that are not finite, with faces of vertices
            that do not exist, or if all faces are invisible.
    """
    import trimesh

    placed = []
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            placed.append((geometry, transform))
    check_count("faces", sum(len(geometry.faces) for geometry, _ in placed), max_faces)
    check_count("vertices", sum(len(geometry.vertices) for geometry, _ in placed), max_vertices)
    if not placed:
        raise InputError("the file has no triangles")
    return _merge([_part(geometry, np.asarray(transform), is_linear=is_linear) for geometry, transform in placed])


def check_count(what: str, count: int, limit: int) -> None:
    """Refuse a count above a limit.

    Raises:
        InputError: naming both.
    """
    if count > limit:
        raise InputError(f"the file has {count:,} {what}, more than {limit:,}; simplify it")


def _part(geometry: Any, transform: Float[np.ndarray, "4 4"], *, is_linear: bool) -> TexturedTriangles:
    with np.errstate(all="ignore"):  # what is not finite is refused after the merge
        vertices = np.asarray(geometry.vertices, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3]
    material, colors, uv = _appearance(geometry, is_linear=is_linear)
    faces = np.asarray(geometry.faces, dtype=np.int64)
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"a face names vertex {faces.max()} of {len(vertices)}; the file is damaged")
    return TexturedTriangles(
        vertices=vertices,
        faces=faces,
        uv=np.zeros((len(vertices), 2)) if uv is None else _finite(np.asarray(uv, dtype=np.float64)[:, :2]),
        vertex_colors=np.ones((len(vertices), 3)) if colors is None else colors,
        face_material=np.zeros(len(faces), dtype=np.int64),
        materials=(material,),
    )


def _finite(uv: Float[np.ndarray, "V 2"]) -> Float[np.ndarray, "V 2"]:
    """Texture coordinates without infinities: a wrong colour is no reason to lose the shape."""
    return np.nan_to_num(uv, nan=0.0, posinf=0.0, neginf=0.0)


def _appearance(geometry: Any, *, is_linear: bool) -> tuple[Material, np.ndarray | None, np.ndarray | None]:
    """Material, vertex colours or None, texture coordinates or None."""
    visual, to_display = geometry.visual, display_colors if is_linear else np.asarray
    if visual.kind == "texture":
        uv = visual.uv if visual.uv is not None and len(visual.uv) == len(geometry.vertices) else None
        found = _colors_beside_material(visual, len(geometry.vertices))
        material = _material(visual.material, has_uv=uv is not None, is_linear=is_linear)
        return material, None if found is None else to_display(found), uv
    if visual.kind in ("vertex", "face"):
        colors = np.asarray(visual.vertex_colors)
        if colors.shape[:1] == (len(geometry.vertices),):
            return Material(color=(1.0, 1.0, 1.0)), to_display(colors[:, :3] / 255.0), None
    return Material(), None, None


def _colors_beside_material(visual: Any, count: int) -> Float[np.ndarray, "V 3"] | None:
    """Vertex colours that a material of glTF is multiplied with, in [0, 1]; materials of other formats replace them."""
    values = getattr(visual, "vertex_attributes", {}).get("color")
    if values is None or not hasattr(visual.material, "baseColorFactor"):
        return None
    values = np.asarray(values)
    if values.ndim != 2 or len(values) != count or values.shape[1] < 3:
        return None
    scale = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1
    return np.nan_to_num(values[:, :3].astype(np.float64) / scale).clip(0, 1)


def _material(material: Any, *, has_uv: bool, is_linear: bool) -> Material:
    if hasattr(material, "baseColorFactor"):
        factor = (255, 255, 255, 255) if material.baseColorFactor is None else material.baseColorFactor
        values = np.asarray(factor, dtype=np.float64) / 255.0
        image, opacity = material.baseColorTexture, float(values[3]) if material.alphaMode == "BLEND" else 1.0
        texture = _texture(image, with_alpha=material.alphaMode in ("MASK", "BLEND")) if has_uv else None
        # Our product is that of sRGB values, glTF's that of linear ones. With a factor, a texture or vertex colours
        # alone they agree; where two of them are not 1, srgb(a) * srgb(b) for srgb(a * b) is an approximation, which
        # would be exact if sRGB were a power law.
        tint = display_colors(values[:3]) if is_linear else values[:3]
        return Material(color=tuple(tint), opacity=opacity, texture=texture)
    values = material.kwargs.get("kd", DEFAULT_COLOR)
    opacity = _opacity(material.kwargs)
    if material.image is not None and has_uv:
        # Exporters often leave a grey or black Kd beside a texture and mean the texture alone.
        return Material(color=(1.0, 1.0, 1.0), opacity=opacity, texture=_texture(material.image, with_alpha=True))
    color = tuple(np.clip(np.asarray(values, dtype=np.float64), 0, 1)) if np.size(values) == 3 else DEFAULT_COLOR
    return Material(color=color, opacity=opacity)


def _opacity(fields: dict[str, Any]) -> float:
    """Dissolve ``d`` of an MTL material."""
    try:
        return min(max(float(fields["d"][-1]), 0.0), 1.0) if fields.get("d") else 1.0
    except (TypeError, ValueError):
        return 1.0


def _texture(image: Any, *, with_alpha: bool) -> UInt8[np.ndarray, "H W 4"] | None:
    if image is None:
        return None
    try:
        texture = np.array(image.convert("RGBA"))
    except MemoryError:
        raise
    except Exception:  # a broken picture raises whatever its decoder stumbles over: fall back to the plain colour
        logger.warning("a texture cannot be read and is left out")
        return None
    if not with_alpha:
        texture[..., 3] = 255
    return texture


def _merge(parts: list[TexturedTriangles]) -> TexturedTriangles:
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    merged = TexturedTriangles(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)]),
        uv=np.concatenate([part.uv for part in parts]),
        vertex_colors=np.concatenate([part.vertex_colors for part in parts]),
        face_material=np.concatenate([part.face_material + i for i, part in enumerate(parts)]),
        materials=tuple(part.materials[0] for part in parts),
    )
    if not np.isfinite(merged.vertices).all():
        raise InputError("a vertex position is not finite")
    opacity = np.array([material.opacity for material in merged.materials])
    keep = opacity[merged.face_material] >= MIN_OPACITY
    if not keep.any():
        raise InputError("all faces are invisible")
    return replace(merged, faces=merged.faces[keep], face_material=merged.face_material[keep])
