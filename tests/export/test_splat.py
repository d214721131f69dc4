import struct

import numpy as np
import pytest
import torch
import trimesh

from mdtdist.errors import InputError
from mdtdist.export.ply import write_ply
from mdtdist.export.splat import encode_splat, write_splat
from tests.export.conftest import make_gaussians
from tests.export.test_ply import matrices, raw


def read_splat(path):
    """The fields as the viewer reads them: floats as they are, colours / 255, rotations (byte - 128) / 128."""
    content = path.read_bytes()
    assert len(content) % 32 == 0
    rows = np.array([struct.unpack("<6f8B", content[start : start + 32]) for start in range(0, len(content), 32)])
    return rows[:, :3], rows[:, 3:6], rows[:, 6:10] / 255, (rows[:, 10:] - 128) / 128


@pytest.fixture
def order(gaussians):
    """Falling volume times opacity."""
    return np.argsort(-(gaussians.scales.prod(1) * gaussians.opacities).numpy())


def test_positions_scales_colours_and_opacities(gaussians, order, tmp_path):
    write_splat(gaussians, tmp_path / "a.splat")
    positions, scales, colors, _ = read_splat(tmp_path / "a.splat")
    means = gaussians.means.numpy()[order]
    np.testing.assert_array_equal(positions, means[:, [0, 2, 1]] * [1, -1, 1])
    np.testing.assert_array_equal(scales, gaussians.scales.numpy()[order])
    np.testing.assert_allclose(colors[:, :3], gaussians.colors.clamp_max(1).numpy()[order], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(colors[:, 3], gaussians.opacities.numpy()[order], atol=0.5 / 255 + 1e-6)


def test_rotations_turn_with_the_positions(gaussians, order, tmp_path):
    write_splat(gaussians, tmp_path / "a.splat")
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    expected = turn @ matrices(gaussians.rotations[order])
    rotations = read_splat(tmp_path / "a.splat")[3]
    np.testing.assert_allclose(matrices(rotations), expected, atol=0.02)  # eight bits; observed 0.011
    np.testing.assert_allclose(np.linalg.norm(rotations, axis=1), 1, atol=0.01)  # viewers do not normalise


def test_the_same_gaussians_as_in_the_ply(gaussians, order, tmp_path):
    write_splat(gaussians, tmp_path / "a.splat")
    write_ply(gaussians, tmp_path / "a.ply")
    values = raw(tmp_path / "a.ply")[1][order]
    positions, scales, _, rotations = read_splat(tmp_path / "a.splat")
    np.testing.assert_array_equal(positions, values[:, :3])
    np.testing.assert_allclose(scales, np.exp(values[:, 10:13]), rtol=1e-5)
    np.testing.assert_allclose(matrices(rotations), matrices(values[:, 13:17]), atol=0.02)


def test_turns_about_an_axis_are_exact():
    """A byte cannot hold +1; the quaternion of a half turn or of none is stored as its negative."""
    one = make_gaussians(np.zeros((1, 3)), np.ones((1, 3)))
    # The turn of the file space undone, so that the file has the identity.
    one.rotations[0] = torch.tensor([0.5**0.5, -(0.5**0.5), 0, 0])
    np.testing.assert_array_equal(encode_splat(one)["rotation"], [[0, 128, 128, 128]])
    identity = trimesh.transformations.quaternion_matrix([-1, 0, 0, 0])[:3, :3]
    np.testing.assert_array_equal(identity, np.eye(3))


def test_colours_outside_of_the_range_are_clamped():
    bright = make_gaussians(np.zeros((1, 3)), np.array([[1.7, -0.3, 0.5]]))
    np.testing.assert_array_equal(encode_splat(bright)["color"][0, :3], [255, 0, 128])


def test_an_unwritable_place_is_named(gaussians, tmp_path):
    with pytest.raises(InputError, match="choose a folder that exists"):
        write_splat(gaussians, tmp_path / "absent" / "a.splat")
