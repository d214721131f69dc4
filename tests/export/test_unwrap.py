import numpy as np
import trimesh

from mdtdist.export.unwrap import unwrap
from mdtdist.representations import Mesh


def ball(subdivisions):
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return Mesh(vertices=np.asarray(sphere.vertices), faces=np.asarray(sphere.faces))


def test_unwrap_keeps_the_triangles_and_stays_in_the_unit_square():
    mesh = ball(2)
    result = unwrap(mesh, texture_size=128)
    np.testing.assert_allclose(result.vertices[result.faces], mesh.vertices[mesh.faces], atol=1e-6)
    assert len(result.uv) == len(result.vertices) >= len(mesh.vertices)
    assert result.uv.min() >= 0 and result.uv.max() <= 1


def test_charts_do_not_overlap():
    mesh = unwrap(ball(2), texture_size=128)
    corners = mesh.uv[mesh.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum()
    assert 0.3 < area <= 1
    points = np.random.default_rng(0).uniform(size=(400, 2))
    edges = np.roll(corners, -1, axis=1) - corners
    offsets = points[:, None, None] - corners
    side = edges[..., 0] * offsets[..., 1] - edges[..., 1] * offsets[..., 0]
    covering = ((side > 1e-9).all(-1) | (side < -1e-9).all(-1)).sum(1)
    assert covering.max() == 1


def test_a_large_mesh_is_decimated_first():
    assert len(unwrap(ball(3), texture_size=64, max_faces=300).faces) <= 300
