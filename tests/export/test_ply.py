import numpy as np
import pytest
import torch
import trimesh
from plyfile import PlyData

from mdtdist.errors import InputError
from mdtdist.export.axes import to_y_up
from mdtdist.export.ply import read_ply, splat_fields, write_ply


def raw(path):
    """Field names and values, read without our reader."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property float")]
    return names, np.frombuffer(body, "<f4").reshape(-1, len(names))


def matrices(quaternions):
    """Rotation matrices by trimesh, which also takes wxyz."""
    return np.stack([trimesh.transformations.quaternion_matrix(q)[:3, :3] for q in np.asarray(quaternions)])


def test_reading_back_gives_the_same_gaussians(gaussians, tmp_path):
    write_ply(gaussians, tmp_path / "a.ply")
    back = read_ply(tmp_path / "a.ply")
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(back, name), getattr(gaussians, name), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matrices(back.rotations), matrices(gaussians.rotations), atol=1e-5)


def test_field_names_and_units_are_the_standard_ones(gaussians, tmp_path):
    write_ply(gaussians, tmp_path / "a.ply")
    names, values = raw(tmp_path / "a.ply")
    assert " ".join(names) == (
        "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    )
    np.testing.assert_allclose(1 / (1 + np.exp(-values[:, 9])), gaussians.opacities, atol=1e-6)
    np.testing.assert_allclose(np.exp(values[:, 10:13]), gaussians.scales, rtol=1e-5)
    np.testing.assert_allclose(values[:, 6:9], gaussians.sh[:, 0])
    assert not values[:, 3:6].any()


def test_the_file_is_the_glb_turned_by_180_degrees_about_x(gaussians, tmp_path):
    write_ply(gaussians, tmp_path / "a.ply")
    _, values = raw(tmp_path / "a.ply")
    np.testing.assert_allclose(values[:, :3], to_y_up(gaussians.means.numpy()) * [1, -1, -1])


def test_covariances_turn_with_the_positions(gaussians, tmp_path):
    write_ply(gaussians, tmp_path / "a.ply")
    _, values = raw(tmp_path / "a.ply")
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) -> (x, -z, y)
    np.testing.assert_allclose(matrices(values[:, 13:17]), turn @ matrices(gaussians.rotations), atol=1e-5)


def test_certain_opacities_stay_finite(gaussians, tmp_path):
    gaussians.opacities[:2] = torch.tensor([0.0, 1.0])
    write_ply(gaussians, tmp_path / "a.ply")
    assert np.isfinite(raw(tmp_path / "a.ply")[1]).all()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_an_independent_reader_opens_every_degree(gaussians, tmp_path, degree):
    write_ply(gaussians, tmp_path / "a.ply", sh_degree=degree)
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    assert [p.name for p in vertex.properties] == splat_fields(degree) and len(vertex) == len(gaussians)
    names = [name for name in splat_fields(degree) if name.startswith("f_rest_")]
    assert len(names) == {0: 0, 1: 9, 2: 24, 3: 45}[degree]
    assert not any(vertex[name].any() for name in names)
    positions = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    np.testing.assert_array_equal(positions, gaussians.means.numpy()[:, [0, 2, 1]] * [1, -1, 1])
    np.testing.assert_array_equal(vertex["f_dc_1"], gaussians.sh[:, 0, 1])
    np.testing.assert_allclose(1 / (1 + np.exp(-vertex["opacity"])), gaussians.opacities, atol=1e-6)
    torch.testing.assert_close(read_ply(tmp_path / "a.ply").means, gaussians.means)


def test_another_degree_is_refused(gaussians, tmp_path):
    with pytest.raises(InputError, match="sh_degree is 4; expected 0, 1, 2 or 3"):
        write_ply(gaussians, tmp_path / "a.ply", sh_degree=4)
    assert not list(tmp_path.iterdir())


def test_wrong_files_are_named(gaussians, tmp_path):
    path = tmp_path / "a.ply"
    with pytest.raises(InputError, match="cannot read"):
        read_ply(path)
    path.write_bytes(b"solid")
    with pytest.raises(InputError, match="not a binary little-endian PLY"):
        read_ply(path)
    write_ply(gaussians, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(InputError, match="cut short"):
        read_ply(path)
    path.write_bytes(whole.replace(b"opacity", b"opaque_"))
    with pytest.raises(InputError, match="no field opacity"):
        read_ply(path)
