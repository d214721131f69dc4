import dataclasses
import io
import json
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.export.finish import finish_mesh
from mdtdist.export.glb import encode_glb, write_glb
from mdtdist.export.surface import extract_surface


def chunks(content):
    """The document and the binary chunk; checks magic, version, lengths and alignment on the way."""
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    json_length, json_kind = struct.unpack_from("<I4s", content, 12)
    assert json_kind == b"JSON" and json_length % 4 == 0
    binary_length, binary_kind = struct.unpack_from("<I4s", content, 20 + json_length)
    assert binary_kind == b"BIN\0" and 28 + json_length + binary_length == len(content)
    return json.loads(content[20 : 20 + json_length]), content[28 + json_length :]


def test_the_material_is_opaque_unlit_and_has_one_texture(quad):
    document, binary = chunks(encode_glb(quad))
    (material,) = document["materials"]
    assert material["alphaMode"] == "OPAQUE" and material["doubleSided"] is True
    assert material["extensions"] == {"KHR_materials_unlit": {}}
    assert document["extensionsUsed"] == ["KHR_materials_unlit"]
    assert len(document["textures"]) == len(document["images"]) == 1
    assert document["asset"] == {"version": "2.0", "generator": "mdtdist"}
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    image = Image.open(io.BytesIO(binary[view["byteOffset"] :][: view["byteLength"]]))
    assert image.format == "PNG"
    np.testing.assert_array_equal(np.asarray(image), quad.texture)


def test_accessors_fit_their_views_and_positions_have_exact_bounds(quad):
    document, binary = chunks(encode_glb(quad))
    assert document["buffers"] == [{"byteLength": len(binary)}]
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(binary)
    position = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert position["min"] == [-0.5, 0.25, -0.5] and position["max"] == [0.5, 0.25, 0.5]


def test_up_becomes_plus_y_and_the_front_plus_z(quad, tmp_path):
    write_glb(quad, tmp_path / "quad.glb")
    (mesh,) = trimesh.load(tmp_path / "quad.glb").geometry.values()
    np.testing.assert_allclose(mesh.vertices, quad.vertices[:, [0, 2, 1]] * [1, 1, -1])
    np.testing.assert_allclose(mesh.face_normals, [[0, 1, 0]] * 2, atol=1e-12)
    np.testing.assert_allclose(mesh.vertex_normals, [[0, 1, 0]] * 4, atol=1e-6)


def test_the_upper_left_of_the_texture_stays_at_v_one(quad, tmp_path):
    write_glb(quad, tmp_path / "quad.glb")
    (mesh,) = trimesh.load(tmp_path / "quad.glb").geometry.values()
    np.testing.assert_allclose(mesh.visual.uv, quad.uv)  # trimesh, too, counts v from the lower edge
    colors = mesh.visual.material.to_color(np.array([[0.1, 0.9], [0.9, 0.9], [0.1, 0.1]]))[:, :3]
    np.testing.assert_array_equal(colors, [[255, 0, 0], [0, 0, 255], [0, 0, 255]])


def test_a_whole_asset_keeps_bounds_and_colours(marked_box, tmp_path):
    logits, gaussians = marked_box
    mesh = finish_mesh(extract_surface(logits), gaussians, faces=800, texture_size=256).mesh
    write_glb(mesh, tmp_path / "box.glb")
    (loaded,) = trimesh.load(tmp_path / "box.glb").geometry.values()
    # The box is 16 x 12 x 8 voxels of 1 / 32; its middle is the origin.
    np.testing.assert_allclose(loaded.extents, np.array([16, 8, 12]) / 32, atol=0.4 / 32)
    markers = {
        (0, 1, 0): [0.9, 0.1, 0.1],
        (0, 0, 1): [0.1, 0.9, 0.1],
        (1, 0, 0): [0.1, 0.1, 0.9],
        (0, -1, 0): [0.5] * 3,
    }
    for direction, color in markers.items():
        face = (loaded.triangles_center @ direction - 0.3 * np.abs(loaded.triangles_center).sum(1)).argmax()
        uv = loaded.visual.uv[loaded.faces[face]].mean(0)
        np.testing.assert_allclose(loaded.visual.material.to_color(uv[None])[0, :3] / 255, color, atol=0.03)


def test_a_mesh_without_texture_is_lit(quad):
    document, _ = chunks(encode_glb(dataclasses.replace(quad, uv=None, texture=None)))
    assert "textures" not in document and "extensions" not in document["materials"][0]


def test_vertex_colours_are_written_in_linear_light_and_unlit(quad):
    colors = np.array([[1.0, 0, 0.5], [0, 0.5, 0], [0, 0, 1], [2, -1, 0.04045]])
    document, binary = chunks(encode_glb(dataclasses.replace(quad, uv=None, texture=None, vertex_colors=colors)))
    assert document["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert document["extensionsUsed"] == ["KHR_materials_unlit"]
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"], accessor["count"]) == (5126, "VEC3", 4)
    values = np.frombuffer(binary, "<f4", 12, document["bufferViews"][accessor["bufferView"]]["byteOffset"])
    half, knee = 0.2140411, 0.0031308  # sRGB 0.5 and the end of its linear part, in linear light
    np.testing.assert_allclose(values.reshape(4, 3), [[1, 0, half], [0, half, 0], [0, 0, 1], [1, 0, knee]], rtol=1e-5)


def test_a_texture_is_shown_instead_of_vertex_colours(quad):
    document, _ = chunks(encode_glb(dataclasses.replace(quad, vertex_colors=np.full((4, 3), 0.5))))
    assert "COLOR_0" not in document["meshes"][0]["primitives"][0]["attributes"]
    assert len(document["textures"]) == 1


def test_a_failed_write_leaves_nothing_behind(quad, tmp_path):
    broken = dataclasses.replace(quad, faces=np.array([[0, 1, 9]]))
    (tmp_path / "old.glb").write_bytes(b"before")
    with pytest.raises(IndexError):
        write_glb(broken, tmp_path / "old.glb")
    assert [path.name for path in tmp_path.iterdir()] == ["old.glb"]
    assert (tmp_path / "old.glb").read_bytes() == b"before"


def test_an_unwritable_place_is_named(quad, tmp_path):
    with pytest.raises(InputError, match="choose a folder that exists"):
        write_glb(quad, tmp_path / "absent" / "quad.glb")
    with pytest.raises(InputError, match="is a folder"):
        write_glb(quad, tmp_path)
    assert not list(tmp_path.iterdir())
