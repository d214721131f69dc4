import numpy as np
import pytest
import torch
import trimesh

from mdtdist.errors import InputError
from mdtdist.export.surface import decimate, extract_surface, fill_shell, taubin_smooth, without_cavities
from mdtdist.representations import Mesh
from tests.export.conftest import shell_logits


def as_trimesh(mesh):
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_a_hollow_ball_becomes_one_closed_outward_surface_in_the_right_place():
    grid = (np.indices((32, 32, 32)) + 0.5) / 32 - 0.5
    center, radius = np.array([0.1, -0.05, 0.15]), 0.25
    solid = ((grid - center[:, None, None, None]) ** 2).sum(0) < radius**2
    ball = as_trimesh(extract_surface(shell_logits(solid, noise=0.7), target_faces=1500))
    assert ball.is_watertight and ball.body_count == 1 and len(ball.faces) == 1500
    assert ball.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.05)  # positive: outward; observed 0.99
    np.testing.assert_allclose(ball.center_mass, center, atol=0.004)  # an eighth of a voxel
    np.testing.assert_allclose(np.linalg.norm(ball.vertices - center, axis=1), radius, atol=1 / 32)


def test_a_shell_with_holes_is_still_filled():
    solid = np.zeros((20, 20, 20), bool)
    solid[4:16, 4:16, 4:16] = True
    shell = shell_logits(solid).numpy() > 0
    shell[9:11, 9:11, 15] = False
    filled = fill_shell(shell)
    assert filled[5:15, 5:15, 5:15].all()
    assert not (filled & ~solid).any()


def test_an_open_bowl_is_not_filled():
    bowl = np.zeros((20, 20, 20), bool)
    bowl[4:16, 4:16, 4:16] = True
    bowl[5:15, 5:15, 5:] = False
    np.testing.assert_array_equal(fill_shell(bowl), bowl)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_legs_of_one_voxel_stay_and_reach_the_floor(table, noise):
    mesh = as_trimesh(extract_surface(shell_logits(table, noise=noise)))
    assert mesh.body_count == 1
    # The legs begin at voxel 2, whose lower face is at 2 / 32 - 0.5, and the top ends at voxel 22.
    assert (mesh.bounds[:, 2] + 0.5) * 32 == pytest.approx([2, 23], abs=0.5)
    for height in (4.5, 10.5, 16.5):
        cut = trimesh.intersections.mesh_plane(mesh, [0, 0, 1], [0, 0, height / 32 - 0.5]).reshape(-1, 3)
        cut = (cut[:, :2] + 0.5) * 32
        for corner in np.array([[5.5, 8.5], [5.5, 23.5], [26.5, 8.5], [26.5, 23.5]]):
            leg = cut[np.abs(cut - corner).max(1) < 2]
            np.testing.assert_allclose((leg.min(0) + leg.max(0)) / 2, corner, atol=0.4)
            assert (np.ptp(leg, axis=0) > 0.5).all() and (np.ptp(leg, axis=0) < 1.3).all()


def test_an_object_that_touches_the_border_is_closed():
    mesh = as_trimesh(extract_surface(torch.full((8, 8, 8), 5.0)))
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [0.5] * 3], atol=0.3 / 8)


def test_floating_dirt_is_dropped_and_the_only_voxel_is_kept(table):
    logits = shell_logits(table)
    logits[1, 1, 30] = 4.0
    assert as_trimesh(extract_surface(logits)).bounds[1, 2] < 24 / 32 - 0.5
    lonely = torch.full((16, 16, 16), -4.0)
    lonely[3, 8, 12] = 1.0
    middle = as_trimesh(extract_surface(lonely)).bounds.mean(0)
    np.testing.assert_allclose(middle, np.array([3.5, 8.5, 12.5]) / 16 - 0.5, atol=0.005)


def test_level_moves_the_threshold():
    logits = torch.full((8, 8, 8), -4.0)
    logits[2:6, 2:6, 2:6] = 1.0
    with pytest.raises(InputError, match="no voxel has a logit above 1.5"):
        extract_surface(logits, level=1.5)


def test_taubin_smoothing_keeps_the_volume_and_removes_noise():
    ball = trimesh.creation.icosphere(subdivisions=3)
    rough = ball.vertices * (1 + 0.03 * np.random.default_rng(0).normal(size=(len(ball.vertices), 1)))
    smooth = taubin_smooth(rough, ball.faces, steps=10)
    assert np.linalg.norm(smooth, axis=1).std() < 0.5 * np.linalg.norm(rough, axis=1).std()
    volume = trimesh.Trimesh(smooth, ball.faces, process=False).volume
    assert volume == pytest.approx(ball.volume, rel=0.02)


def test_decimation_leaves_small_meshes_alone():
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = decimate(ball.vertices, ball.faces, target_faces=1000)
    assert vertices is ball.vertices and faces is ball.faces


def test_walls_of_hollows_are_left_out_and_open_pieces_stay():
    outer, inner = trimesh.creation.icosphere(radius=0.4), trimesh.creation.icosphere(radius=0.3)
    beside = trimesh.creation.box(
        extents=(0.1, 0.1, 0.1), transform=trimesh.transformations.translation_matrix([1, 0, 0])
    )
    sheet = np.array([[0, 2, 1]])  # its tetrahedron with the origin has a negative volume
    parts = [
        (outer.vertices, outer.faces),
        (inner.vertices, inner.faces[:, ::-1]),
        (beside.vertices, beside.faces),
        (np.eye(3), sheet),
    ]
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    mesh = Mesh(
        vertices=np.concatenate([vertices for vertices, _ in parts]),
        faces=np.concatenate([faces + start for (_, faces), start in zip(parts, starts, strict=True)]),
    )
    kept = without_cavities(mesh).faces
    assert len(kept) == len(mesh.faces) - len(inner.faces)
    assert not np.isin(kept, np.arange(starts[1], starts[2])).any() and (kept >= starts[3]).any()
