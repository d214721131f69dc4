"""A model file to triangles with materials, upright in the unit cube."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mdtdist.representations.triangles import DEFAULT_COLOR, Material, TexturedTriangles

logger = logging.getLogger(__name__)

HALF_SIDE = 0.5 - 1e-6  # strictly inside the cube, so that no vertex falls on the far face of the last voxel
MIN_OPACITY = 0.02  # a material fainter than this is invisible: its faces are dropped


def load_triangles(path: Path) -> TexturedTriangles:
    """Read a GLB, glTF, OBJ, PLY or STL file, in the axes of the file. Invisible and degenerate faces are dropped.

    Raises:
        ValueError: if the file has no triangle or a position that is not finite.
    """
    import trimesh

    scene: Any = trimesh.load_scene(path, process=False)
    parts = []
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            parts.append(_part(geometry, np.asarray(transform)))
    if not parts:
        raise ValueError("the file has no triangles")
    return _merge(parts)


def normalize(
    triangles: TexturedTriangles, *, is_y_up: bool = True, rotation: tuple[float, ...] | None = None
) -> TexturedTriangles:
    """Turn upright, centre and scale the longest side to 1.

    Y-up files become Z-up by ``(x, y, z) -> (x, -z, y)``: a front that faced +z faces -Y.

    Args:
        rotation: row-major 3x3 applied first, in the axes of the file.

    Raises:
        ValueError: if all vertices coincide.
    """
    vertices = triangles.vertices
    if rotation is not None:
        vertices = vertices @ np.asarray(rotation, dtype=np.float64).reshape(3, 3).T
    if is_y_up:
        vertices = vertices[:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0])
    used = vertices[triangles.faces.reshape(-1)]
    low, high = used.min(axis=0), used.max(axis=0)
    if (side := float((high - low).max())) <= 0:
        raise ValueError("all vertices coincide")
    vertices = ((vertices - (low + high) / 2) / side).clip(-HALF_SIDE, HALF_SIDE)
    return replace(triangles, vertices=vertices)


def load_normalized(path: Path, *, rotation: tuple[float, ...] | None = None) -> TexturedTriangles:
    """:func:`load_triangles` then :func:`normalize`; OBJ and glTF are read as Y up, PLY and STL as Z up."""
    is_y_up = path.suffix.lower() in (".glb", ".gltf", ".obj")
    return normalize(load_triangles(path), is_y_up=is_y_up, rotation=rotation)


def flatness(triangles: TexturedTriangles) -> float:
    """Thinnest extent of the bounding box over the longest; 0 for a plane."""
    extent = np.ptp(triangles.vertices[triangles.faces.reshape(-1)], axis=0)
    return float(extent.min() / extent.max())


def _part(geometry: Any, transform: Float[np.ndarray, "4 4"]) -> TexturedTriangles:
    vertices = np.asarray(geometry.vertices, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3]
    material, colors, uv = _appearance(geometry)
    return TexturedTriangles(
        vertices=vertices,
        faces=np.asarray(geometry.faces, dtype=np.int64),
        uv=np.zeros((len(vertices), 2)) if uv is None else np.nan_to_num(np.asarray(uv, dtype=np.float64)[:, :2]),
        vertex_colors=np.ones((len(vertices), 3)) if colors is None else colors,
        face_material=np.zeros(len(geometry.faces), dtype=np.int64),
        materials=(material,),
    )


def _appearance(geometry: Any) -> tuple[Material, np.ndarray | None, np.ndarray | None]:
    """Material, vertex colours or None, texture coordinates or None."""
    visual = geometry.visual
    if visual.kind == "texture":
        uv = visual.uv if visual.uv is not None and len(visual.uv) == len(geometry.vertices) else None
        return _material(visual.material, has_uv=uv is not None), None, uv
    if visual.kind in ("vertex", "face"):
        return Material(color=(1.0, 1.0, 1.0)), np.asarray(visual.vertex_colors)[:, :3] / 255.0, None
    return Material(), None, None


def _material(material: Any, *, has_uv: bool) -> Material:
    if hasattr(material, "baseColorFactor"):
        factor = (255, 255, 255, 255) if material.baseColorFactor is None else material.baseColorFactor
        values = np.asarray(factor, dtype=np.float64) / 255.0
        image, opacity = material.baseColorTexture, float(values[3]) if material.alphaMode == "BLEND" else 1.0
        texture = _texture(image, with_alpha=material.alphaMode in ("MASK", "BLEND")) if has_uv else None
        return Material(color=tuple(values[:3]), opacity=opacity, texture=texture)
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
    except OSError:  # a truncated picture: fall back to the plain colour
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
        raise ValueError("a vertex position is not finite")
    opacity = np.array([material.opacity for material in merged.materials])
    keep = opacity[merged.face_material] >= MIN_OPACITY
    if not keep.any():
        raise ValueError("all faces are invisible")
    return replace(merged, faces=merged.faces[keep], face_material=merged.face_material[keep])
