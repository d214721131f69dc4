"""Colours of glTF are linear light and multiply; what is shown is sRGB. Other formats hold what is shown."""

import json
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image

from mdtdist.data.gltf_colors import display_colors, with_default_materials
from mdtdist.data.untrusted import load_checked
from mdtdist.evaluation.assets.reading import read_asset
from mdtdist.export.appearance import linear_light
from mdtdist.export.glb import write_glb
from mdtdist.representations import Mesh

HALF = 0.21404114048223255  # linear light of sRGB 0.5, ((0.5 + 0.055) / 1.055) ** 2.4
BYTE = 0.006  # what half a step of eight bits of linear light is near sRGB 0.5, and a little more: 0.0045
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype="<f4")
COMPONENTS = {"u1": 5121, "<u2": 5123, "<f4": 5126}


def _write(path, *, colors=None, kind="<f4", material=None, generator="someone", texture=None):
    """A triangle as GLB or glTF; colours [3, 3 or 4] in [0, 1], stored as ``kind``."""
    arrays = {"POSITION": (CORNERS, "<f4")}
    if colors is not None:
        scale = 1 if kind == "<f4" else np.iinfo(kind).max
        alpha = np.ones((3, 1))  # rows of RGBA need no padding
        stored = np.concatenate([np.broadcast_to(colors, (3, 3)), alpha], axis=1) * scale
        arrays["COLOR_0"] = ((stored if scale == 1 else stored.round()).astype(kind), kind)
    if texture is not None:
        arrays["TEXCOORD_0"] = (np.full((3, 2), 0.5, dtype="<f4"), "<f4")
    views, accessors, binary = [], [], b""
    for values, stored_kind in arrays.values():
        view = {"bufferView": len(views), "componentType": COMPONENTS[stored_kind], "count": 3}
        accessors.append(view | {"type": f"VEC{values.shape[1]}", "normalized": stored_kind != "<f4"})
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes})
        binary += values.tobytes()
    primitive = {"attributes": {name: i for i, name in enumerate(arrays)}}
    tree = {
        "asset": {"version": "2.0", "generator": generator},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    if material is not None:
        primitive["material"] = 0
        tree["materials"] = [{"pbrMetallicRoughness": dict(material)}]
    if texture is not None:
        Image.new("RGB", (2, 2), texture).save(path.parent / "t.png")
        tree["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        tree |= {"textures": [{"source": 0}], "images": [{"uri": "t.png"}]}
    if path.suffix == ".gltf":
        (path.parent / "own.bin").write_bytes(binary)
        tree["buffers"][0]["uri"] = "own.bin"
        path.write_text(json.dumps(tree))
        return path
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.write_bytes(head + body)
    return path


def _exchange_generator(path, generator):
    """Another generator in a GLB of trimesh."""
    data = path.read_bytes()
    size = struct.unpack("<I", data[12:16])[0]
    tree = json.loads(data[20 : 20 + size])
    assert "trimesh" in tree["asset"]["generator"]
    tree["asset"]["generator"] = generator
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, len(data) - size + len(text), len(text), b"JSON")
    path.write_bytes(head + text + data[20 + size :])


@pytest.fixture(params=[".glb", ".gltf"])
def path(request, tmp_path):
    return tmp_path / f"one{request.param}"


def test_display_colours_invert_linear_light():
    shown = np.linspace(0, 1, 300).reshape(-1, 3)
    assert np.abs(display_colors(linear_light(shown)) - shown).max() < 1e-7  # 3e-8, where the two pieces meet
    assert display_colors(np.array([0.0, HALF, 1.0])).tolist() == [0.0, pytest.approx(0.5, abs=1e-12), 1.0]


def test_linear_factor_is_shown_as_srgb(path):
    triangles = load_checked(_write(path, material={"baseColorFactor": [HALF, 1.0, 0.0, 1.0]}))
    (material,) = triangles.materials
    assert material.color == pytest.approx((0.5, 1.0, 0.0), abs=BYTE)  # observed 0.0018
    assert (triangles.vertex_colors == 1).all()


def test_factor_beside_a_texture_is_converted_and_the_texture_is_not(path):
    material = {"baseColorFactor": [HALF] * 3 + [1.0]}
    (read,) = load_checked(_write(path, material=material, texture=(128, 64, 32))).materials
    assert read.color == pytest.approx((0.5,) * 3, abs=BYTE)
    assert read.texture is not None and read.texture[0, 0].tolist() == [128, 64, 32, 255]


def test_opacity_is_no_colour(path):
    _write(path.with_suffix(".gltf"), material={"baseColorFactor": [HALF] * 4})
    tree = json.loads(path.with_suffix(".gltf").read_text())
    tree["materials"][0]["alphaMode"] = "BLEND"
    path.with_suffix(".gltf").write_text(json.dumps(tree))
    (material,) = load_checked(path.with_suffix(".gltf")).materials
    assert material.opacity == pytest.approx(HALF, abs=0.002)


@pytest.mark.parametrize("texture", [None, (128, 64, 32)])
@pytest.mark.parametrize("kind", list(COMPONENTS))
def test_vertex_colours_stay_beside_a_material(path, kind, texture):
    material = {"baseColorFactor": [HALF] * 3 + [1.0]}
    triangles = load_checked(_write(path, colors=[HALF, 1.0, 0.0], kind=kind, material=material, texture=texture))
    assert triangles.vertex_colors[2] == pytest.approx((0.5, 1.0, 0.0), abs=BYTE)
    (read,) = triangles.materials
    assert read.color == pytest.approx((0.5,) * 3, abs=BYTE) and (read.texture is None) == (texture is None)


@pytest.mark.parametrize("kind", list(COMPONENTS))
def test_vertex_colours_without_a_material_are_shown_as_srgb(path, kind):
    triangles = load_checked(_write(path, colors=[HALF, 1.0, 0.0], kind=kind))
    assert triangles.vertex_colors[2] == pytest.approx((0.5, 1.0, 0.0), abs=BYTE if kind == "u1" else 1e-5)
    assert triangles.materials[0].color == (1.0, 1.0, 1.0)


def test_dark_vertex_colours_keep_their_levels(path):
    dark = np.array([1.0, 2.0, 3.0]) / 255
    read = load_checked(_write(path, colors=linear_light(dark))).vertex_colors[0]
    assert read == pytest.approx(dark, abs=1e-6)  # as bytes of linear light all three would be 0


def test_a_glb_with_another_document_says_its_own_size(tmp_path):
    path = _write(tmp_path / "one.glb", colors=[0.2, 0.4, 0.6])
    data = path.read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    changed = with_default_materials(path, tree)
    assert changed is not None
    content = changed.read()
    assert struct.unpack("<I", content[8:12])[0] == len(content) > len(data)
    assert with_default_materials(path, tree) is None  # once


def test_a_primitive_without_colours_keeps_our_grey(path):
    (material,) = load_checked(_write(path)).materials
    assert material.color == (0.8, 0.8, 0.8)


def test_files_of_trimesh_hold_what_is_shown(path):
    generator = "https://github.com/mikedh/trimesh"
    material = {"baseColorFactor": [0.2, 0.4, 0.6, 1.0]}
    read = load_checked(_write(path, colors=[0.6, 0.4, 0.2], kind="u1", material=material, generator=generator))
    assert read.materials[0].color == pytest.approx((0.2, 0.4, 0.6), abs=1e-12)
    np.testing.assert_allclose(read.vertex_colors, np.broadcast_to([0.6, 0.4, 0.2], (3, 3)), atol=1e-12)
    read = load_checked(_write(path, colors=[0.6, 0.4, 0.2], kind="u1", generator=generator))
    np.testing.assert_allclose(read.vertex_colors, np.broadcast_to([0.6, 0.4, 0.2], (3, 3)), atol=1e-12)


@pytest.mark.parametrize("with_material", [False, True])
def test_what_trimesh_writes_is_linear_once_someone_else_signs_it(tmp_path, with_material):
    path, box = tmp_path / "box.glb", trimesh.creation.box()
    if with_material:
        material = trimesh.visual.material.PBRMaterial(baseColorFactor=[128, 128, 128, 255])
        box.visual = trimesh.visual.TextureVisuals(material=material)
    else:
        box.visual.vertex_colors = np.full((8, 4), 128, dtype=np.uint8)
    box.export(path)

    def shown():
        read = load_checked(path)
        return np.asarray(read.materials[0].color) * read.vertex_colors[0]

    assert shown() == pytest.approx([128 / 255] * 3, abs=1e-12)
    _exchange_generator(path, "mdtdist")
    assert shown() == pytest.approx([0.736647] * 3, abs=1e-5)  # 1.055 * (128 / 255) ** (1 / 2.4) - 0.055


@pytest.mark.parametrize("asset", [{"version": "2.0"}, {"version": "2.0", "generator": 7}])
def test_a_file_that_names_no_generator_is_as_gltf_says(tmp_path, asset):
    path = _write(tmp_path / "one.gltf", material={"baseColorFactor": [HALF] * 3 + [1.0]})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"asset": asset}))
    assert load_checked(path).materials[0].color == pytest.approx((0.5,) * 3, abs=BYTE)


@pytest.mark.parametrize("suffix", ["ply", "obj"])
def test_other_formats_are_left_alone(tmp_path, suffix):
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.full((8, 4), 51, dtype=np.uint8)
    box.export(tmp_path / f"box.{suffix}")
    assert (load_checked(tmp_path / f"box.{suffix}").vertex_colors == 0.2).all()


def test_colours_of_our_own_files_come_back(tmp_path):
    colors = np.array([[0.8, 0.5, 0.25], [0.0, 1.0, 0.5], [0.02, 0.03, 0.01]])
    faces = np.array([[0, 1, 2]])
    write_glb(Mesh(vertices=CORNERS.astype(np.float64), faces=faces, vertex_colors=colors), tmp_path / "a.glb")
    triangles = load_checked(tmp_path / "a.glb")
    np.testing.assert_allclose(triangles.vertex_colors, colors, atol=1e-6)
    assert triangles.materials[0].color == (1.0, 1.0, 1.0)
    texture = np.full((4, 4, 3), (90, 60, 30), dtype=np.uint8)
    mesh = Mesh(vertices=CORNERS.astype(np.float64), faces=faces, uv=np.eye(3)[:, :2], texture=texture)
    write_glb(mesh, tmp_path / "b.glb")
    (material,) = load_checked(tmp_path / "b.glb").materials
    assert material.color == (1.0, 1.0, 1.0) and material.texture is not None
    assert (material.texture[..., :3] == texture).all()


def test_an_asset_is_measured_with_the_colours_the_data_room_reads(path):
    """Once: colours that were converted twice would be 0.735."""
    _write(path, colors=[HALF, 1.0, 0.0], material={"baseColorFactor": [HALF] * 3 + [1.0]})
    asset = read_asset(path)
    assert asset.triangles is not None and asset.has_color
    assert asset.triangles.vertex_colors[0] == pytest.approx((0.5, 1.0, 0.0), abs=1e-5)
    assert asset.triangles.materials[0].color == pytest.approx((0.5,) * 3, abs=BYTE)
