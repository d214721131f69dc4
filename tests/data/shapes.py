"""Small models for the tests."""

from pathlib import Path

import numpy as np

from mdtdist.representations.triangles import Material, TexturedTriangles

RED, GREEN, BLUE, WHITE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)
_SQUARE_UV = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
_SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def square(corners: list[list[float]], material: Material) -> TexturedTriangles:
    """Four corners, uv (0, 0), (1, 0), (1, 1), (0, 1)."""
    return TexturedTriangles(
        vertices=np.array(corners, dtype=np.float64),
        faces=_SQUARE_FACES,
        uv=_SQUARE_UV,
        vertex_colors=np.ones((4, 3)),
        face_material=np.zeros(2, dtype=np.int64),
        materials=(material,),
    )


def facing_square(y: float, material: Material, *, half: float = 0.4) -> TexturedTriangles:
    """A square parallel to the XZ plane that faces the front camera, its texture upright as seen from there."""
    return square([[-half, y, -half], [half, y, -half], [half, y, half], [-half, y, half]], material)


def join(*parts: TexturedTriangles) -> TexturedTriangles:
    """Parts with one material each, as one model."""
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return TexturedTriangles(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)]),
        uv=np.concatenate([part.uv for part in parts]),
        vertex_colors=np.concatenate([part.vertex_colors for part in parts]),
        face_material=np.concatenate([part.face_material + i for i, part in enumerate(parts)]),
        materials=tuple(part.materials[0] for part in parts),
    )


def write_obj(folder: Path, *, mtl: str, name: str = "model", extent: tuple[float, float, float] = (1, 2, 4)) -> Path:
    """A box (Y up) from the origin to ``extent`` with one material called ``paint``."""
    import trimesh

    folder.mkdir(parents=True, exist_ok=True)
    box = trimesh.creation.box(extents=extent)
    vertices = np.asarray(box.vertices) + np.array(extent) / 2
    lines = [f"mtllib {name}.mtl", *(f"v {x} {y} {z}" for x, y, z in vertices), "vt 0.5 0.5", "usemtl paint"]
    lines += ["f " + " ".join(f"{index + 1}/1" for index in face) for face in box.faces]
    (folder / f"{name}.mtl").write_text(f"newmtl paint\n{mtl}\n")
    path = folder / f"{name}.obj"
    path.write_text("\n".join(lines) + "\n")
    return path
