"""Texture coordinates for a mesh."""

import numpy as np
import xatlas

from mdtdist.export.surface import decimate
from mdtdist.representations import Mesh


def unwrap(mesh: Mesh, *, texture_size: int = 512, padding: int = 3, max_faces: int = 8000) -> Mesh:
    """Cut the surface into charts and pack them into the unit square (xatlas).

    xatlas cannot be interrupted and its time grows faster than the number of faces (measured on one core: 4k faces
    0.4 s, 10k faces 1.7 s), so the face count is its time budget: a larger mesh is decimated first.

    Args:
        mesh: any triangles; existing texture coordinates, texture and vertex colours are dropped.
        texture_size: side of the texture to be baked, texels; ``padding`` refers to it.
        padding: empty texels between charts.
        max_faces: upper limit of the number of faces.

    Returns:
        Mesh with ``uv`` and the same faces in the same order; vertices on chart borders are doubled.
    """
    vertices, faces = decimate(mesh.vertices, mesh.faces, target_faces=max_faces)
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding = texture_size, padding
    atlas.generate(pack_options=options)
    originals, faces, uv = atlas[0]
    return Mesh(vertices=vertices[originals], faces=faces.astype(np.int64), uv=uv.astype(np.float64))
