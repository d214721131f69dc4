"""Every mesh format, read back by another library: positions, bounds, orientation, colours."""

import dataclasses

import numpy as np
import pytest
import trimesh

from mdtdist.errors import InputError
from mdtdist.export import write_glb, write_obj, write_usdz
from tests.export.readers import encode_srgb, load

WRITERS = {"glb": write_glb, "obj": write_obj, "usdz": write_usdz}


@pytest.fixture(params=WRITERS)
def written(request, painted_box, tmp_path):
    """The painted box as another library reads it from a file of each format."""
    if request.param == "usdz":
        pytest.importorskip("pxr", reason="the extra usdz is not installed")
    WRITERS[request.param](painted_box, tmp_path / f"a box.{request.param}")
    return load(tmp_path / f"a box.{request.param}")


def test_positions_bounds_and_faces(written, painted_box):
    expected = painted_box.vertices[:, [0, 2, 1]] * [1, 1, -1]
    corners, expected_corners = written.vertices[written.faces], expected[painted_box.faces]
    np.testing.assert_allclose(corners, expected_corners, atol=1e-7)  # float32; observed 2e-8
    # x: 0.05 +- 0.4; y is our z, 0.2 +- 0.15; z is our -y, 0.1 +- 0.25.
    np.testing.assert_allclose(written.vertices.min(0), [-0.35, 0.05, -0.15], atol=1e-7)
    np.testing.assert_allclose(written.vertices.max(0), [0.45, 0.35, 0.35], atol=1e-7)


def test_faces_and_normals_point_outwards(written):
    solid = trimesh.Trimesh(written.vertices, written.faces, process=False)
    assert solid.volume == pytest.approx(0.8 * 0.5 * 0.3, rel=1e-5)  # a mirrored file would be negative
    np.testing.assert_allclose(np.linalg.norm(written.normals, axis=1), 1, atol=1e-5)
    outwards = written.vertices - (solid.bounds.sum(0) / 2)
    assert (np.einsum("vi,vi->v", outwards, written.normals) > 0).all()


def test_colours_stay_where_they_were(written, painted_box):
    middles = painted_box.vertices[painted_box.faces].mean(1)
    # Half a texel and eight bits; observed 0.004. Mirrored texture coordinates would be far off.
    np.testing.assert_allclose(written.colors(), middles + 0.5, atol=0.01)


def test_the_picture_is_the_texture_itself(written, painted_box):
    if painted_box.texture is None:
        assert written.picture is None
    else:
        np.testing.assert_array_equal(written.picture, painted_box.texture)
        np.testing.assert_allclose(written.uv[written.faces], painted_box.uv[painted_box.faces], atol=1e-6)


@pytest.mark.parametrize("writer", WRITERS.values())
def test_meshes_that_nobody_could_show_are_refused(writer, quad, tmp_path):
    nothing = dataclasses.replace(quad, faces=np.zeros((0, 3), int))
    broken = dataclasses.replace(quad, vertices=quad.vertices * [1, 1, np.nan])
    lost = dataclasses.replace(quad, uv=None)
    for mesh, message in ((nothing, "has no faces"), (broken, "4 vertices that are not finite"), (lost, "expected uv")):
        with pytest.raises(InputError, match=message):
            writer(mesh, tmp_path / "a.file")
    assert not list(tmp_path.iterdir())


def test_the_reference_curve_is_srgb():
    np.testing.assert_allclose(encode_srgb(np.array([0.0, 0.002, 0.2140411, 1.0])), [0, 0.02584, 0.5, 1], atol=1e-6)
