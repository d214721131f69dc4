"""Smooth vertex normals."""

import numpy as np
from jaxtyping import Float

from mdtdist.representations import Mesh


def vertex_normals(mesh: Mesh) -> Float[np.ndarray, "V 3"]:
    """Unit normals, averaged over the faces around a position with their area as weight.

    Vertices at the same position (the two sides of a texture seam) share one normal. A vertex without a proper face
    gets +Z.
    """
    corners = mesh.vertices[mesh.faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length: twice the area
    _, position = np.unique(mesh.vertices, axis=0, return_inverse=True)
    position = position.ravel()
    sums = np.zeros((position.max() + 1, 3))
    for corner in range(3):
        np.add.at(sums, position[mesh.faces[:, corner]], face_normals)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 1e-20, sums / np.maximum(lengths, 1e-20), [0.0, 0.0, 1.0])[position]
