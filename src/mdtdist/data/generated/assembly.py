"""From solids and finishes to one model: paint each part, put it in place, merge."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.finishes import Finish
from mdtdist.data.generated.solids import Solid, rotation
from mdtdist.representations.triangles import TexturedTriangles

Parts = list[TexturedTriangles]


def painted(solid: Solid, finish: Finish) -> TexturedTriangles:
    """A solid with a finish; lengths on the surface become repeats of the texture."""
    return TexturedTriangles(
        vertices=solid.vertices,
        faces=solid.faces,
        uv=solid.uv / np.array(finish.tile) if finish.material.texture is not None else np.zeros_like(solid.uv),
        vertex_colors=np.ones_like(solid.vertices),
        face_material=np.zeros(len(solid.faces), dtype=np.int64),
        materials=(finish.material,),
    )


def coat(solids: Iterable[Solid], finish: Finish) -> Parts:
    """Several solids with the same finish."""
    return [painted(solid, finish) for solid in solids]


def placed(
    part: TexturedTriangles, x: float = 0.0, y: float = 0.0, z: float = 0.0, *, turn: float = 0.0, scale: float = 1.0
) -> TexturedTriangles:
    """A part scaled, turned about z by ``turn`` degrees (counter-clockwise from above), then shifted."""
    vertices = scale * part.vertices @ rotation("z", turn).T + np.array([x, y, z])
    return replace(part, vertices=vertices)


def merge(parts: Sequence[TexturedTriangles]) -> TexturedTriangles:
    """Several parts as one model; a material that parts share is kept once."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    materials = {id(material): material for part in parts for material in part.materials}
    place = {key: index for index, key in enumerate(materials)}
    return TexturedTriangles(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        uv=np.concatenate([part.uv for part in parts]),
        vertex_colors=np.concatenate([part.vertex_colors for part in parts]),
        face_material=np.concatenate(
            [np.array([place[id(material)] for material in part.materials])[part.face_material] for part in parts]
        ),
        materials=tuple(materials.values()),
    )


def extent(part: TexturedTriangles) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Lower and upper corner of the bounding box."""
    used = part.vertices[part.faces.reshape(-1)]
    return used.min(axis=0), used.max(axis=0)


def fitted(part: TexturedTriangles, width: float, depth: float, height: float) -> TexturedTriangles:
    """A part scaled as a whole to fit a box and put on the origin, in the middle of it."""
    low, high = extent(part)
    scale = float((np.array([width, depth, height]) / (high - low).clip(1e-9)).min())
    x, y = (-scale * (low + high) / 2)[:2]
    return placed(part, x, y, -scale * float(low[2]), scale=scale)
