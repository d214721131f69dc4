"""Any surface to a mesh that is ready for a file: simplified and coloured, within a time budget."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from mdtdist.errors import InputError
from mdtdist.export.appearance import require_drawable
from mdtdist.export.bake import bake_texture, colors_at
from mdtdist.export.budget import TimeBudget, refine
from mdtdist.export.normals import vertex_normals
from mdtdist.export.surface import decimate, without_cavities
from mdtdist.export.unwrap import unwrap
from mdtdist.representations import Gaussians, Mesh

_LEAST_FACES, _TEXTURE_SIZES = 4, (16, 8192)
_FIRST_FACES, _FIRST_TEXTURE = 500, 64  # what a time budget begins with: about 0.1 s on one core


@dataclass(frozen=True, kw_only=True)
class FinishedMesh:
    """A mesh and what was done to get it.

    Attributes:
        mesh: simplified, with a texture or vertex colours.
        texture_size: side of the texture, texels; None with vertex colours.
        num_faces_before: faces of the surface it was made of.
        is_cut_short: whether the time budget stopped it before the wanted faces and texture size were reached.
        seconds: of each stage: ``simplify``, then ``unwrap`` and ``bake``, or ``color``.
    """

    mesh: Mesh
    texture_size: int | None
    num_faces_before: int
    is_cut_short: bool
    seconds: dict[str, float]

    def metadata(self) -> dict[str, object]:
        """What was done, as plain data for a json file."""
        return {
            "faces": len(self.mesh.faces),
            "faces_before": self.num_faces_before,
            "colors": "texture" if self.texture_size else "vertices" if self.mesh.vertex_colors is not None else "none",
            "texture_size": self.texture_size,
            "is_cut_short": self.is_cut_short,
            "seconds": {stage: round(seconds, 4) for stage, seconds in self.seconds.items()},
        }


def finish_mesh(
    surface: Mesh,
    gaussians: Gaussians | None = None,
    *,
    faces: int | None = 4000,
    texture_size: int | None = 512,
    time_budget: float | None = None,
) -> FinishedMesh:
    """Simplify a surface and give it a texture, or vertex colours.

    With a time budget, unwrapping and baking begin small and are repeated with more faces and texels as long as the
    next size is expected to fit (see ``refine``): half of the time left after simplification goes to unwrapping, whose
    time grows with the square of the number of faces, the rest to baking.

    Args:
        surface: from the mesh decoder or from ``extract_surface``.
        gaussians: the same object; where the colours come from. None takes the vertex colours of the surface.
        faces: upper limit of the number of faces; None keeps all, which takes minutes to unwrap beyond 100k.
        texture_size: side of the square texture, texels; None gives vertex colours instead.
        time_budget: seconds for all of it; None for no limit.

    Returns:
        The mesh, and what was done. Without any source of colours and without a texture, the mesh has no colours.

    Raises:
        InputError: for a value out of range, a surface without faces, or a texture without a source of colours.
    """
    _check(faces, texture_size, time_budget)
    require_drawable(surface)
    source = surface if gaussians is None else gaussians
    budget = TimeBudget(time_budget)
    seconds: dict[str, float] = {}
    result = partial(FinishedMesh, num_faces_before=len(surface.faces), seconds=seconds)
    with _timed(seconds, "simplify"):
        mesh = _simplify(surface, faces)
    if texture_size is None:
        with _timed(seconds, "color"):
            return result(mesh=_color_vertices(mesh, source), texture_size=None, is_cut_short=False)
    with _timed(seconds, "unwrap"):
        face_counts = _halvings(len(mesh.faces), least=_FIRST_FACES)
        work = partial(_unwrap, mesh, texture_size)
        charts, num_faces = refine(work, face_counts, budget.half())
    with _timed(seconds, "bake"):
        sizes = _halvings(texture_size, least=_FIRST_TEXTURE)
        textured, size = refine(lambda texels: bake_texture(charts, source, size=texels), sizes, budget)
    is_cut_short = num_faces < face_counts[-1] or size < texture_size
    return result(mesh=textured, texture_size=size, is_cut_short=is_cut_short)


def _check(faces: int | None, texture_size: int | None, time_budget: float | None) -> None:
    if faces is not None and faces < _LEAST_FACES:
        raise InputError(f"faces is {faces}; expected at least {_LEAST_FACES}, or None to keep all")
    least, most = _TEXTURE_SIZES
    if texture_size is not None and not least <= texture_size <= most:
        raise InputError(
            f"texture_size is {texture_size}; expected {least} to {most} texels, or None for vertex colours"
        )
    if time_budget is not None and not time_budget > 0:
        raise InputError(f"time_budget is {time_budget}; expected seconds above 0, or None for no limit")


def _simplify(surface: Mesh, faces: int | None) -> Mesh:
    """At most ``faces`` faces and the vertices that they use, no walls of hollows; colours stay on untouched faces."""
    surface = without_cavities(surface)
    if faces is not None and len(surface.faces) > faces:
        vertices, triangles = decimate(surface.vertices, surface.faces, target_faces=faces)
        surface = Mesh(vertices=vertices, faces=triangles)
        require_drawable(surface)
    used, triangles = np.unique(surface.faces, return_inverse=True)
    colors = None if surface.vertex_colors is None else surface.vertex_colors[used]
    return Mesh(vertices=surface.vertices[used], faces=triangles.reshape(-1, 3), vertex_colors=colors)


def _color_vertices(mesh: Mesh, source: Gaussians | Mesh) -> Mesh:
    """The mesh with the colours of the source, or none if it has none."""
    if isinstance(source, Mesh) and (source.vertex_colors is None or mesh.vertex_colors is not None):
        return mesh
    return dataclasses.replace(mesh, vertex_colors=colors_at(mesh.vertices, vertex_normals(mesh), source))


def _unwrap(mesh: Mesh, texture_size: int, num_faces: int) -> Mesh:
    return unwrap(mesh, texture_size=texture_size, max_faces=num_faces)


def _halvings(size: int, *, least: int) -> list[int]:
    """The size and its halves that are not below ``least``, growing."""
    sizes = [size]
    while sizes[0] // 2 >= least:
        sizes.insert(0, sizes[0] // 2)
    return sizes


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long the block takes."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
