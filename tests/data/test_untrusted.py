"""Models that lie, climb out of their folder, explode or are damaged: refused with a reason, never a crash."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
import trimesh
from PIL import Image

from mdtdist.data import file_headers
from mdtdist.data.normalize import load_normalized
from mdtdist.data.untrusted import Limits, load_checked, resolve_inside
from mdtdist.errors import InputError
from tests.data.shapes import write_obj


def _refused(path, match, **limits):
    with pytest.raises(InputError, match=match):
        load_checked(path, Limits(**limits))


def _box(path):
    trimesh.creation.box().export(path)
    return path


def _png(width, height, path=None):
    """A valid PNG header with a size nobody pays for: the pixels are one short row of zeros."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    if path is not None:
        path.write_bytes(data)
    return data


def _glb(tree, binary=b""):
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    body += struct.pack("<I4s", len(binary), b"BIN\0") + binary if binary else b""
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


def _triangle(**changes):
    """A glTF tree with one triangle in its binary chunk, and that chunk."""
    binary = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32).tobytes()
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    }
    return tree | changes, binary


def _textured_gltf(tmp_path, uri):
    tree, binary = _triangle(
        images=[{"uri": uri}],
        textures=[{"source": 0}],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    )
    tree["buffers"] = [{"byteLength": 36, "uri": "own.bin"}]
    (tmp_path / "own.bin").write_bytes(binary)
    path = tmp_path / "model.gltf"
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl", "off"])
def test_honest_files_pass(tmp_path, suffix):
    assert len(load_checked(_box(tmp_path / f"box.{suffix}")).faces) == 12


def test_honest_hand_made_glb_passes(tmp_path):
    path = tmp_path / "one.glb"
    path.write_bytes(_glb(*_triangle()))
    assert load_checked(path).faces.tolist() == [[0, 1, 2]]


# ------------------------------------------------------------------------------------------- paths outside the folder


@pytest.mark.parametrize(
    "name", ["../secret.png", "../absent.png", "/etc/hostname", "sub/../../secret.png", "http://host/x.png"]
)
def test_texture_outside_its_folder_is_refused(tmp_path, name):
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    _refused(write_obj(tmp_path / "model", mtl=f"Kd 1 1 1\nmap_Kd {name}"), "outside its folder")


def test_material_library_outside_its_folder_is_refused(tmp_path):
    (tmp_path / "secret.mtl").write_text("newmtl paint\nKd 1 0 0\n")
    path = write_obj(tmp_path / "model", mtl="Kd 1 1 1")
    path.write_text(path.read_text().replace("mtllib model.mtl", "mtllib ../secret.mtl"))
    _refused(path, "'../secret.mtl', outside its folder")


def test_link_out_of_the_folder_is_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    path = write_obj(tmp_path / "model", mtl="Kd 1 1 1\nmap_Kd t.png")
    os.symlink(tmp_path / "secret.png", path.parent / "t.png")
    _refused(path, "'t.png', outside its folder")


@pytest.mark.parametrize("uri", ["../secret.png", "..%2Fsecret.png", "%2Fetc%2Fhostname", "file:///etc/hostname"])
def test_gltf_picture_outside_its_folder_is_refused(tmp_path, uri):
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "model").mkdir()
    _refused(_textured_gltf(tmp_path / "model", uri), "outside its folder")


def test_gltf_buffer_outside_its_folder_is_refused(tmp_path):
    tree, binary = _triangle()
    tree["buffers"][0]["uri"] = "../secret.bin"
    (tmp_path / "secret.bin").write_bytes(binary)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "model.gltf"
    path.write_text(json.dumps(tree))
    _refused(path, "'../secret.bin', outside its folder")


def test_names_inside_the_folder_are_found(tmp_path):
    (tmp_path / "sub dir").mkdir()
    picture = tmp_path / "sub dir" / "t.png"
    Image.new("RGB", (2, 2), (9, 8, 7)).save(picture)
    load_checked(_textured_gltf(tmp_path, "sub%20dir/t.png"))
    assert resolve_inside(tmp_path, "sub dir/t.png") == picture.resolve()
    assert resolve_inside(tmp_path / "sub dir", "/home/artist/t.png") == picture.resolve()  # that of its own folder
    assert resolve_inside(tmp_path, "absent.png") is None


def test_path_of_the_authors_machine_is_an_absent_file(tmp_path):
    (material,) = load_checked(write_obj(tmp_path, mtl="Kd 0 1 0\nmap_Kd /home/artist/absent.png")).materials
    assert material.texture is None and material.color == pytest.approx((0, 1, 0))


# ------------------------------------------------------------------------------------------------- lies about counts

_PLY = "ply\nformat {kind} 1.0\nelement vertex {v}\nproperty float x\nproperty float y\nproperty float z\n"
_PLY += "element face {f}\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_ply_header_of_a_billion_vertices_is_refused(tmp_path, kind):
    path = tmp_path / "bomb.ply"
    path.write_text(_PLY.format(kind=kind, v=10**9, f=1))
    _refused(path, "1,000,000,000 vertices, more than")
    path.write_text(_PLY.format(kind=kind, v=10**6, f=1))  # within the limit, but not in the file
    _refused(path, "promises at least .* cut short")


def test_stl_header_of_a_billion_faces_is_refused(tmp_path):
    path = tmp_path / "bomb.stl"
    path.write_bytes(b"\0" * 80 + struct.pack("<I", 10**9) + b"\0" * 50)
    _refused(path, "1,000,000,000 faces, more than")
    path.write_bytes(b"solid " + b"\0" * 74 + struct.pack("<I", 10**6) + b"\0" * 50)
    with pytest.raises(InputError):
        load_checked(path)


def test_glb_array_without_data_is_refused_by_its_count(tmp_path):
    tree, binary = _triangle(accessors=[{"componentType": 5126, "count": 10**9, "type": "VEC3"}])
    path = tmp_path / "bomb.glb"
    path.write_bytes(_glb(tree, binary))
    _refused(path, "1,000,000,000 entries in one array")
    tree["accessors"] = [{"componentType": 5126, "count": 2 * 10**7, "type": "MAT4"}] * 4
    path.write_bytes(_glb(tree, binary))
    _refused(path, "arrays have 5,120,000,000 bytes")


def test_glb_that_shows_a_mesh_a_million_times_is_refused(tmp_path):
    path = tmp_path / "copies.glb"
    tree, binary = _triangle(nodes=[{"mesh": 0}] * 50)
    path.write_bytes(_glb(tree, binary))
    _refused(path, "50 faces over all its nodes, more than 49", max_faces=49)
    _refused(path, "150 vertices over all its nodes", max_vertices=149)


@pytest.mark.parametrize("cut", [10, 40, 400])
def test_glb_cut_short_is_refused(tmp_path, cut):
    path = _box(tmp_path / "box.glb")
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    _refused(path, "cut short")
    path.write_bytes(data[:8] + struct.pack("<I", len(data) + cut) + data[12:])  # all there, but more is promised
    _refused(path, "cut short")


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "off"])
def test_too_many_faces_or_vertices_are_refused(tmp_path, suffix):
    path = _box(tmp_path / f"box.{suffix}")
    _refused(path, "12 faces, more than 11", max_faces=11)
    _refused(path, "vertices, more than 7|36 vertices", max_vertices=7)


def test_obj_lines_are_counted_across_blocks(tmp_path, monkeypatch):
    for size in range(1, 9):
        monkeypatch.setattr(file_headers, "_CHUNK", size)
        assert file_headers._count(io.BytesIO(b"f 1\nf 2\nv 3\nvf f\nf 4"), (b"\nv ", b"\nf ")) == (1, 3)
    path = _box(tmp_path / "box.obj")
    _refused(path, "12 faces, more than 11", max_faces=11)
    assert len(load_checked(path, Limits(max_faces=12)).faces) == 12


def test_text_stl_is_counted(tmp_path):
    path = tmp_path / "box.stl"
    path.write_text(trimesh.creation.box().export(file_type="stl_ascii"))
    assert len(load_checked(path).faces) == 12
    _refused(path, "12 faces, more than 11", max_faces=11)


def test_large_and_empty_files_are_refused(tmp_path):
    _refused(_box(tmp_path / "box.stl"), "684 bytes, more than 683", max_file_bytes=683)
    (tmp_path / "none.obj").touch()
    _refused(tmp_path / "none.obj", "empty")
    _refused(tmp_path / "absent.obj", "is no file")


# ------------------------------------------------------------------------------------------------------------ geometry


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_position_that_is_not_finite_is_refused(tmp_path, value):
    path = tmp_path / "bad.obj"
    path.write_text(f"v 0 0 0\nv 1 0 0\nv 0 {value} 0\nf 1 2 3\n")
    _refused(path, "not finite")


def test_transform_that_is_not_finite_is_refused(tmp_path):
    tree, binary = _triangle(nodes=[{"mesh": 0, "scale": [float("nan"), 1, 1]}])
    path = tmp_path / "bad.glb"
    path.write_bytes(_glb(tree, binary))
    _refused(path, "not finite")


def test_zero_faces_are_refused(tmp_path):
    path = tmp_path / "points.ply"
    path.write_text(_PLY.format(kind="ascii", v=3, f=0) + "0 0 0\n1 0 0\n0 1 0\n")
    _refused(path, "no triangles")


def test_face_of_a_vertex_that_does_not_exist_is_refused(tmp_path):
    path = tmp_path / "bad.ply"
    path.write_text(_PLY.format(kind="ascii", v=3, f=1) + "0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
    _refused(path, "names vertex 7 of 3")


def test_extent_that_overflows_is_refused(tmp_path):
    path = tmp_path / "wide.obj"
    path.write_text("v -1.5e308 0 0\nv 1.5e308 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match="overflows"):
        load_normalized(path)


def test_texture_coordinates_that_are_not_finite_become_zero(tmp_path):
    path = tmp_path / "uv.obj"
    Image.new("RGB", (2, 2)).save(tmp_path / "t.png")
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    path.write_text(
        "mtllib m.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt inf 0\nvt nan 1\nvt 0.5 0.5\nf 1/1 2/2 3/3\n"
    )
    assert np.isfinite(load_checked(path).uv).all()


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("side", [9000, 30000])  # above our limit, and above Pillow's own
def test_oversized_texture_is_refused_before_it_is_decoded(tmp_path, side):
    path = write_obj(tmp_path, mtl="Kd 1 1 1\nmap_Kd bomb.png")
    _png(side, side, tmp_path / "bomb.png")
    _refused(path, "picture bomb.png")


def test_oversized_embedded_texture_is_refused(tmp_path):
    picture = _png(9000, 9000)
    tree, binary = _triangle(images=[{"bufferView": 1, "mimeType": "image/png"}])
    tree["bufferViews"].append({"buffer": 0, "byteOffset": 36, "byteLength": len(picture)})
    tree["buffers"] = [{"byteLength": 36 + len(picture)}]
    path = tmp_path / "bomb.glb"
    path.write_bytes(_glb(tree, binary + picture))
    _refused(path, "number 0 has 9000 x 9000 pixels")


def test_pictures_are_measured_together(tmp_path):
    lines = "".join(f"\nnewmtl m{i}\nmap_Kd t{i}.png" for i in range(3))
    for i in range(3):
        Image.new("RGB", (10, 10)).save(tmp_path / f"t{i}.png")
    path = write_obj(tmp_path, mtl=f"Kd 1 1 1{lines}")
    _refused(path, "more than 299 pixels together", max_total_pixels=299)
    load_checked(path, Limits(max_total_pixels=300))


def test_postscript_is_no_texture(tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, format="EPS")
    (tmp_path / "t.png").write_bytes(image.getvalue())  # named as what it is not
    _refused(write_obj(tmp_path, mtl="Kd 1 1 1\nmap_Kd t.png"), "t.png is EPS")


def test_broken_texture_leaves_the_colour(tmp_path):
    _png(4, 4, tmp_path / "t.png")  # no pixels
    (material,) = load_checked(write_obj(tmp_path, mtl="Kd 1 1 1\nmap_Kd t.png")).materials
    assert material.texture is None


# ------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["x.fbx", "x.blend", "x.usdz"])
def test_foreign_format_says_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    _refused(tmp_path / name, "convert it to GLB")


@pytest.mark.parametrize("name", ["x.zip", "x.py", "x"])
def test_archives_and_others_are_no_models(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    _refused(tmp_path / name, "is no 3D format read here")


def test_compression_that_is_not_read_says_so(tmp_path):
    path = tmp_path / "m.glb"
    path.write_bytes(_glb(*_triangle(extensionsRequired=["EXT_meshopt_compression"])))
    _refused(path, "meshopt-compressed; decompress it")
