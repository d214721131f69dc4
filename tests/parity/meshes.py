"""Comparing meshes as sets: the order of vertices and faces, and where a face starts, carry no meaning."""

import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from mdtdist.representations.flexicubes import DualSurface, ExtractedMesh


def align_mesh(
    mesh: ExtractedMesh | DualSurface, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Vertices, faces and attributes of ``mesh`` in the order of a recorded mesh.

    Faces that the recorded mesh does not have take the places that are left, so that they show as a difference.
    """
    order = match_points(mesh.vertices, vertices)
    renamed = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))[mesh.faces]
    attributes = None if mesh.attributes is None else mesh.attributes[order]
    return mesh.vertices[order], _align_faces(renamed, faces.long()), attributes


def match_points(points: Float[Tensor, "V 3"], recorded: Float[Tensor, "V 3"]) -> Int[Tensor, "V"]:
    """Row of the nearest point for every recorded one.

    Raises:
        ValueError: if that is not one to one.
    """
    order = torch.from_numpy(cKDTree(points.detach().double().numpy()).query(recorded.double().numpy())[1])
    if len(points) != len(recorded) or len(order.unique()) != len(points):
        raise ValueError(f"{len(points)} points do not match the {len(recorded)} recorded ones")
    return order


def _align_faces(faces: Int[Tensor, "F 3"], recorded: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    if len(faces) != len(recorded):
        return faces  # of another shape, which the comparison reports
    mine, theirs = _canonical(faces), _canonical(recorded)
    sorted_mine = faces.new_tensor(sorted(map(tuple, mine.tolist())))
    place = torch.tensor(sorted(range(len(theirs)), key=lambda row: tuple(theirs[row].tolist())))
    aligned = torch.empty_like(sorted_mine).index_copy_(0, place, sorted_mine)
    return aligned.gather(1, (torch.arange(3) - recorded.argmin(1)[:, None]) % 3)


def _canonical(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """Every face turned so that its least index comes first."""
    return faces.gather(1, (torch.arange(3) + faces.argmin(1)[:, None]) % 3)
