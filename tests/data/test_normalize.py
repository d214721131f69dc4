import numpy as np
import pytest
import trimesh
from PIL import Image

from mdtdist.data.normalize import flatness, load_normalized, load_triangles, normalize
from tests.data.shapes import write_obj


def _material(path):
    (material,) = load_triangles(path).materials
    return material


def test_longest_side_is_one_and_the_centre_is_the_origin(tmp_path):
    mesh = load_normalized(write_obj(tmp_path, mtl="Kd 1 0 0", extent=(1, 2, 4)))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    assert np.allclose(high - low, [0.25, 1, 0.5], atol=1e-5)  # file x, z, y
    assert np.allclose(low + high, 0, atol=1e-9)
    assert np.abs(mesh.vertices).max() < 0.5
    assert flatness(mesh) == pytest.approx(0.25, abs=1e-5)


def test_up_of_the_file_is_z_and_its_front_is_minus_y(tmp_path):
    # A long bar along x with a small marker at one point fixes all three axes.
    bar = trimesh.creation.box(extents=[4, 1, 1])
    marker = trimesh.creation.box(
        extents=[0.1] * 3, transform=trimesh.transformations.translation_matrix([1, 0.6, 0.7])
    )
    path = tmp_path / "bar.glb"
    trimesh.Scene([bar, marker]).export(path)
    mesh = load_normalized(path)
    is_marker = mesh.face_material == 1
    centre = mesh.vertices[mesh.faces[is_marker].reshape(-1)].mean(axis=0)
    assert centre[0] > 0.2 and centre[1] < -0.1 and centre[2] > 0.1  # right, front, up


def test_rotation_comes_before_the_change_of_axes(tmp_path):
    path = write_obj(tmp_path, mtl="Kd 1 0 0", extent=(1, 2, 4))
    quarter_turn_about_y = (0, 0, 1, 0, 1, 0, -1, 0, 0)
    extent = np.ptp(load_normalized(path, rotation=quarter_turn_about_y).vertices, axis=0)
    assert np.allclose(extent, [1, 0.25, 0.5], atol=1e-5)


def test_rotation_matrix_is_row_major(tmp_path):
    mesh = load_triangles(write_obj(tmp_path, mtl="Kd 1 0 0"))
    shear = (1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # x' = x + y / 2
    extent = np.ptp(normalize(mesh, rotation=shear).vertices, axis=0) * 4
    assert np.allclose(extent, [2, 4, 2], atol=1e-4)


def test_material_colour_and_opacity_are_read(tmp_path):
    material = _material(write_obj(tmp_path, mtl="Kd 0.25 0.5 1.0\nd 0.3"))
    assert material.color == pytest.approx((0.25, 0.5, 1.0)) and material.opacity == pytest.approx(0.3)
    assert material.texture is None


def test_missing_texture_falls_back_to_the_colour(tmp_path):
    material = _material(write_obj(tmp_path, mtl="Kd 0 1 0\nmap_Kd absent.png"))
    assert material.texture is None and material.color == pytest.approx((0, 1, 0))


def test_texture_replaces_the_colour(tmp_path):
    Image.new("RGBA", (3, 2), (10, 20, 30, 40)).save(tmp_path / "t.png")
    material = _material(write_obj(tmp_path, mtl="Kd 0 0 0\nmap_Kd t.png"))
    assert material.texture.shape == (2, 3, 4) and material.texture[0, 0].tolist() == [10, 20, 30, 40]
    assert material.color == (1.0, 1.0, 1.0) and material.has_holes


def test_invisible_material_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="invisible"):
        load_triangles(write_obj(tmp_path, mtl="Kd 1 1 1\nd 0"))


def test_file_without_triangles_is_an_error(tmp_path):
    path = tmp_path / "points.ply"
    trimesh.PointCloud(np.eye(3)).export(path)
    with pytest.raises(ValueError, match="no triangles"):
        load_triangles(path)
