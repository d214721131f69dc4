import dataclasses

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.export.obj import encode_obj, write_obj


def test_a_textured_mesh_brings_its_material_and_picture(quad, tmp_path):
    write_obj(quad, tmp_path / "my chair.obj")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my chair.obj", "my_chair.mtl", "my_chair_texture.png"]
    assert "mtllib my_chair.mtl" in (tmp_path / "my chair.obj").read_text().splitlines()
    material = (tmp_path / "my_chair.mtl").read_text().splitlines()
    assert material[0] == "newmtl surface" and "illum 0" in material and "map_Kd my_chair_texture.png" in material


def test_the_text_of_a_square(quad):
    lines = encode_obj(quad, library="a.mtl").splitlines()
    assert lines[:4] == ["# mdtdist", "mtllib a.mtl", "o object", "v -0.5 0.25 0.5"]
    assert [line for line in lines if line.startswith("vt")] == ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    assert [line for line in lines if line.startswith("vn")] == ["vn 0 1 0"] * 4
    assert lines[-3:] == ["usemtl surface", "f 1/1/1 2/2/2 3/3/3", "f 1/1/1 3/3/3 4/4/4"]


def test_vertex_colours_follow_the_position_and_need_no_material(quad, tmp_path):
    colors = np.array([[1, 0, 0], [0, 0.5, 0], [0, 0, 2], [0.2, 0.4, 0.6]])
    mesh = dataclasses.replace(quad, uv=None, texture=None, vertex_colors=colors)
    write_obj(mesh, tmp_path / "a.obj")
    assert [path.name for path in tmp_path.iterdir()] == ["a.obj"]
    lines = (tmp_path / "a.obj").read_text().splitlines()
    assert lines[2:6] == [
        "v -0.5 0.25 0.5 1 0 0", "v 0.5 0.25 0.5 0 0.5 0", "v 0.5 0.25 -0.5 0 0 1", "v -0.5 0.25 -0.5 0.2 0.4 0.6"
    ]  # fmt: skip
    assert lines[-1] == "f 1//1 3//3 4//4" and not any("mtl" in line for line in lines)


def test_an_unwritable_place_is_named(quad, tmp_path):
    with pytest.raises(InputError, match="choose a folder that exists"):
        write_obj(quad, tmp_path / "absent" / "a.obj")
