"""Wavefront OBJ files, with a material library and a picture where the mesh has a texture."""

from pathlib import Path

import numpy as np

from mdtdist.export.appearance import encode_png, require_drawable
from mdtdist.export.axes import to_y_up
from mdtdist.export.normals import vertex_normals
from mdtdist.files import appear_whole
from mdtdist.representations import Mesh


def write_obj(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh as OBJ: metres, Y up, front +Z, which importers take for granted (the format does not say).

    A textured mesh gets ``<stem>.mtl`` and ``<stem>_texture.png`` beside it (spaces in the stem become underscores);
    illumination model 0, constant colour, because the colours already contain the light they were seen in. Vertex
    colours follow the position in sRGB (``v x y z r g b``, which most readers understand).

    Args:
        mesh: at least one triangle; a texture is shown instead of vertex colours, as in ``Mesh``.
        path: file to write; each of the files appears whole or not at all, the OBJ last.

    Raises:
        InputError: if the mesh has no faces or is not finite, or a file cannot be written.
    """
    path = Path(path)
    require_drawable(mesh)
    stem = "_".join(path.stem.split())  # names in an OBJ end at a space
    library, picture = path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}_texture.png")
    if mesh.texture is not None:
        with appear_whole(picture) as temporary:
            temporary.write_bytes(encode_png(mesh.texture))
        with appear_whole(library) as temporary:
            temporary.write_text(_material(picture.name), encoding="utf-8")
    with appear_whole(path) as temporary:
        temporary.write_text(encode_obj(mesh, library=library.name), encoding="utf-8")


def encode_obj(mesh: Mesh, *, library: str) -> str:
    """The text of the file; ``library`` is the name of the material library of a textured mesh."""
    positions = to_y_up(mesh.vertices)
    has_texture = mesh.texture is not None
    if mesh.vertex_colors is not None and not has_texture:
        positions = np.concatenate([positions, mesh.vertex_colors.clip(0, 1)], axis=1)
    lines = ["# mdtdist", *([f"mtllib {library}"] if has_texture else []), "o object"]
    lines += _rows("v", positions)
    if mesh.uv is not None:
        lines += _rows("vt", mesh.uv)
    lines += _rows("vn", to_y_up(vertex_normals(mesh)))
    lines += ["usemtl surface"] if has_texture else []
    if mesh.uv is None:
        lines += _rows("f", np.repeat(mesh.faces + 1, 2, axis=1), " %d//%d" * 3)
    else:
        lines += _rows("f", np.repeat(mesh.faces + 1, 3, axis=1), " %d/%d/%d" * 3)
    return "\n".join(lines) + "\n"


def _rows(keyword: str, values: np.ndarray, pattern: str | None = None) -> list[str]:
    """One line per row; numbers have the digits of a 32-bit float."""
    pattern = keyword + (pattern or " %.7g" * values.shape[1])
    return [pattern % tuple(row) for row in (values + 0).tolist()]  # -0 + 0 is 0


def _material(picture: str) -> str:
    return f"newmtl surface\nillum 0\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nmap_Kd {picture}\n"
