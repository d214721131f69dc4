"""Voxel and mesh files, the transform into the cube, and the cameras of a rendered folder."""

import json

import numpy as np
import plyfile
import pytest
from PIL import Image

from mdtdist.data.sources import Asset
from mdtdist.data.trellis.cycles import render_cycles, to_cube
from mdtdist.data.trellis.normalization import load_normalized_asset
from mdtdist.data.trellis.ply import num_voxels, read_voxels, write_mesh, write_voxels
from mdtdist.data.trellis.renders import read_transforms, write_transforms
from mdtdist.data.trellis.view_law import condition_cameras
from mdtdist.errors import InputError
from tests.data.shapes import RED, WHITE, Material, facing_square, join, write_obj

SHA = "ab" * 32
VOXELS = np.array([[0, 0, 0], [1, 62, 63], [63, 63, 63]], dtype=np.uint8)


@pytest.fixture
def box(tmp_path):
    """A box of 1 x 2 x 4 in the axes of its file (Y up) with a corner at the origin."""
    path = write_obj(tmp_path / "model", mtl="Kd 0.8 0.1 0.1")
    return Asset(source_id="box", sha256=SHA, path=path, name="box")


def test_voxels_are_the_centres_of_cells(tmp_path):
    write_voxels(tmp_path / "a.ply", VOXELS, resolution=64)
    data = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    points = np.stack([data["x"], data["y"], data["z"]], axis=1)
    assert points.dtype == np.float32
    assert (points == np.array([[0.5, 0.5, 0.5], [1.5, 62.5, 63.5], [63.5] * 3]) / 64 - 0.5).all()
    assert (read_voxels(tmp_path / "a.ply", resolution=64) == VOXELS).all()
    assert num_voxels(tmp_path / "a.ply") == 3


def test_voxels_of_a_text_file_are_read_too(tmp_path):
    lines = ["ply", "format ascii 1.0", "element vertex 1", *(f"property float {a}" for a in "xyz"), "end_header"]
    (tmp_path / "a.ply").write_text("\n".join([*lines, "-0.4921875 0.4921875 0.0078125", ""]))
    assert read_voxels(tmp_path / "a.ply", resolution=64).tolist() == [[0, 63, 32]]
    assert num_voxels(tmp_path / "a.ply") == 1


def test_damaged_voxels_are_refused(tmp_path):
    write_voxels(tmp_path / "a.ply", VOXELS, resolution=64)
    (tmp_path / "cut.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-7])
    (tmp_path / "none.ply").write_bytes(b"nothing")
    for name in ("cut.ply", "none.ply", "absent.ply"):
        with pytest.raises(InputError, match=name):
            read_voxels(tmp_path / name, resolution=64)
    with pytest.raises(InputError, match="no PLY"):
        num_voxels(tmp_path / "none.ply")


def test_mesh_has_the_used_vertices_and_all_faces(tmp_path):
    mesh = join(facing_square(-0.4, Material(color=RED)), facing_square(0.2, Material(color=WHITE)))
    mesh.faces[:2] = [[4, 5, 6], [4, 6, 7]]  # the first square is not used any more
    write_mesh(tmp_path / "mesh.ply", mesh)
    data = plyfile.PlyData.read(tmp_path / "mesh.ply")
    vertices = np.stack([data["vertex"][axis] for axis in "xyz"], axis=1)
    faces = np.stack(data["face"]["vertex_indices"])
    assert len(vertices) == 4 and np.allclose(vertices[faces], mesh.triangles)


def test_scale_and_offset_take_the_upright_model_into_the_cube(box):
    normalized = load_normalized_asset(box)
    assert normalized.scale == pytest.approx(1 / 4)  # 4 is the depth in the file, z
    # Z up: x in [0, 1], y in [-4, 0], z in [0, 2]
    assert normalized.offset == pytest.approx((-0.125, 0.5, -0.25))
    used = normalized.triangles.vertices[normalized.triangles.faces.reshape(-1)]
    low, high = used.min(axis=0), used.max(axis=0)
    assert low == pytest.approx([-0.125, -0.5, -0.25], abs=1e-5) and high == pytest.approx([0.125, 0.5, 0.25], abs=1e-5)


def test_transforms_hold_what_trellis_reads(box, tmp_path):
    cameras = condition_cameras(SHA, count=3)
    write_transforms(tmp_path, cameras, load_normalized_asset(box))
    data = json.loads((tmp_path / "transforms.json").read_text())
    assert set(data) == {"aabb", "scale", "offset", "frames"}
    assert data["aabb"] == [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]
    assert [set(frame) for frame in data["frames"]] == [{"file_path", "camera_angle_x", "transform_matrix"}] * 3
    assert data["frames"][2]["file_path"] == "002.png"
    matrix = np.array(data["frames"][1]["transform_matrix"])
    # Blender axes: the camera looks along its -z, so its +z points away from the origin.
    assert matrix[:3, 2] * np.linalg.norm(matrix[:3, 3]) == pytest.approx(matrix[:3, 3], abs=1e-5)
    for (path, read), camera in zip(read_transforms(tmp_path), cameras, strict=True):
        assert path.parent == tmp_path and read.fov == camera.fov
        assert (read.camera_to_world == camera.camera_to_world).all()


def test_an_incomplete_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="render them again"):
        read_transforms(tmp_path)
    (tmp_path / "transforms.json").write_text('{"frames": [{"file_path": "000.png"}]}')
    with pytest.raises(InputError, match="KeyError"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("rotation", [None, (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0)])
def test_blender_gets_the_transform_into_the_cube(box, rotation):
    """Blender turns a Y-up file upright by itself; what is left to do gives the vertices that all others see."""
    import trimesh

    asset = Asset(source_id="box", sha256=SHA, path=box.path, name="box", rotation=rotation)
    normalized = load_normalized_asset(asset)
    raw = np.asarray(trimesh.load(box.path, process=False, force="mesh").vertices)
    imported = np.stack([raw[:, 0], -raw[:, 2], raw[:, 1], np.ones(len(raw))], axis=1)
    placed = (imported @ to_cube(normalized).T)[:, :3]
    expected = normalized.triangles.vertices
    assert np.allclose(np.unique(placed.round(4), axis=0), np.unique(expected.round(4), axis=0), atol=1e-4)


def _fake_blender(folder, body: str):
    path = folder / "python"
    path.write_text(f"#!/usr/bin/env python3\nimport json, shutil, sys\njob = json.load(open(sys.argv[-1]))\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_cycles_pictures_are_those_that_blender_wrote(box, tmp_path):
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(tmp_path / "picture.png")
    body = (
        "assert sys.argv[1] == '-P' and job['size'] == 4 and job['samples'] == 2, job\n"
        f"[shutil.copy({str(tmp_path / 'picture.png')!r}, f\"{{job['out']}}/{{i:03d}}.png\") "
        "for i in range(len(job['views']))]"
    )
    cameras = condition_cameras(SHA, count=2)
    out = tmp_path / "out"
    python = _fake_blender(tmp_path, body)
    render_cycles(load_normalized_asset(box), cameras, out, size=4, samples=2, python=python)
    assert sorted(path.name for path in out.iterdir()) == ["000.png", "001.png"]
    assert np.asarray(Image.open(out / "001.png"))[0, 0].tolist() == [10, 20, 30, 255]


def test_cycles_says_why_it_failed(box, tmp_path):
    python = _fake_blender(tmp_path, "sys.exit('no such importer')")
    with pytest.raises(ValueError, match="Blender failed: no such importer"):
        render_cycles(
            load_normalized_asset(box), condition_cameras(SHA, count=1), tmp_path, size=4, samples=1, python=python
        )


def test_cycles_without_blender_names_the_extra(box, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mdtdist\[blender\]"):
        render_cycles(load_normalized_asset(box), condition_cameras(SHA, count=1), tmp_path, size=4, samples=1)


@pytest.mark.slow
def test_cycles_draws_the_box(box, tmp_path):
    pytest.importorskip("bpy")
    render_cycles(load_normalized_asset(box), condition_cameras(SHA, count=1), tmp_path, size=32, samples=1)
    pixels = np.asarray(Image.open(tmp_path / "000.png"))
    assert 0.05 < (pixels[..., 3] > 128).mean() < 0.9
    assert pixels[pixels[..., 3] == 255].mean(axis=0)[:3].argmax() == 0  # the box is red
