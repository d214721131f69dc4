import pytest
import torch

from mdtdist.representations.flexicubes import ExtractedMesh
from tests.parity.meshes import align_mesh, match_points

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def _renamed(faces):
    """The tetrahedron with vertices, faces and the starts of faces in another order."""
    order = torch.tensor([2, 0, 3, 1])
    inverse = order.argsort()
    turned = inverse[faces].roll(1, dims=1)[torch.tensor([3, 1, 0, 2])]
    return ExtractedMesh(vertices=VERTICES[order] + 1e-4, faces=turned, attributes=VERTICES[order] * 2)


def test_the_same_mesh_in_another_order_is_aligned():
    vertices, faces, attributes = align_mesh(_renamed(FACES), VERTICES, FACES.int())
    assert torch.allclose(vertices, VERTICES, atol=1e-3) and torch.equal(attributes, 2 * VERTICES)
    assert torch.equal(faces, FACES)


def test_a_face_turned_over_and_another_number_of_faces_show():
    flipped = FACES.clone()
    flipped[2] = flipped[2].flip(0)
    assert not torch.equal(align_mesh(_renamed(flipped), VERTICES, FACES)[1], FACES)
    assert align_mesh(_renamed(FACES), VERTICES, FACES[:3])[1].shape != FACES[:3].shape


def test_points_that_do_not_match_one_to_one_are_refused():
    with pytest.raises(ValueError, match="4 points do not match the 4"):
        match_points(VERTICES, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="4 points do not match the 3"):
        match_points(VERTICES, VERTICES[:3])
