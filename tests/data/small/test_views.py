import math

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from mdtdist.data.small import views as small_views  # noqa: E402
from mdtdist.data.small.views import condition_cameras, condition_light, other_cameras, render_views  # noqa: E402
from mdtdist.data.views import read_views, write_views  # noqa: E402
from mdtdist.render.triangle_rasterizer import TriangleRasterizer  # noqa: E402
from mdtdist.representations.triangles import Material  # noqa: E402
from tests.data.shapes import BLUE, RED, facing_square, join  # noqa: E402

CUBE = join(facing_square(-0.5, Material(color=RED), half=0.5), facing_square(0.5, Material(color=BLUE), half=0.5))


def positions(cameras):
    return torch.stack([camera.camera_to_world[:3, 3] for camera in cameras]).double().numpy()


@pytest.fixture
def many():
    return [camera for seed in range(50) for camera in condition_cameras(CUBE, np.random.default_rng(seed))]


def test_condition_cameras_stand_straight_in_front(many):
    places = positions(many)
    assert np.abs(places[:, 0]).max() < 1e-5 and (places[:, 1] < 0).all()
    pitch = np.degrees(np.arcsin(places[:, 2] / np.linalg.norm(places, axis=1)))
    fov = np.degrees([camera.fov for camera in many])
    for values, low, high in ((pitch, -10, 45), (fov, 20, 60)):
        assert low <= values.min() < low + 3 and high - 3 < values.max() <= high
    assert abs(np.corrcoef(pitch, fov)[0, 1]) < 0.2


def test_the_object_fits_and_is_not_small(many):
    reach = math.sqrt(0.75)
    for camera in many:
        pixels, depth = camera.project(torch.from_numpy(CUBE.vertices).float(), 100)
        assert (pixels > 0).all() and (pixels < 100).all() and (depth > 0.1).all()
        distance = float(camera.camera_to_world[:3, 3].norm())
        assert math.asin(reach / distance) == pytest.approx(camera.fov / 2, rel=0.02)


def test_other_cameras_are_spread_over_the_sphere():
    directions = positions(other_cameras(CUBE, np.random.default_rng(3)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    angles = np.degrees(np.arccos((directions @ directions.T - 2 * np.eye(10)).clip(-1, 1)))
    assert angles.min() > 40  # seen 45; ten caps on a sphere can be 66 apart
    points = np.random.default_rng(0).normal(size=(2000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.degrees(np.arccos((points @ directions.T).max(axis=1))).max() < 55
    assert (directions[:, 2] < -0.4).sum() == (directions[:, 2] > 0.4).sum() == 3


def test_lights_shine_from_the_front_and_above():
    lights = [condition_light(np.random.default_rng(seed)) for seed in range(200)]
    directions = np.array([light.direction for light in lights])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (directions[:, 1] < 0).all() and (directions[:, 2] > 0.25).all() and abs(directions[:, 0].mean()) < 0.1
    ambient = np.array([light.ambient for light in lights])
    assert 0.45 <= ambient.min() < 0.5 and 0.8 < ambient.max() <= 0.85
    assert all(light.ambient + light.diffuse == pytest.approx(1) for light in lights)


def test_views_are_read_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(small_views, "COND_SIZE", 64)
    monkeypatch.setattr(small_views, "OTHER_SIZE", 48)
    first, again, other = (list(render_views(CUBE, seed=seed)) for seed in (1, 1, 2))
    assert all((a.rgba == b.rgba).all() for a, b in zip(first, again, strict=True))
    assert any((a.rgba != b.rgba).any() for a, b in zip(first, other, strict=True))
    write_views(tmp_path, first)
    for before, after in zip(first, read_views(tmp_path), strict=True):
        assert (before.rgba == after.rgba).all() and before.is_cond == after.is_cond
        # Half a step of 1/16384; views of a narrow angle stand farther away and have coarser ones.
        assert np.abs(before.depth - after.depth).max() <= 2 / 65535 * (2 if before.depth.max() > 4 else 1) + 1e-6
    assert [view.is_cond for view in first] == [True] * 4 + [False] * 10
    assert [view.rgba.shape for view in first] == [(64, 64, 4)] * 4 + [(48, 48, 4)] * 10


def test_depth_beyond_four_units_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(small_views, "COND_FOV", (math.radians(20), math.radians(20.01)))
    monkeypatch.setattr(small_views, "COND_SIZE", 32)
    views = list(render_views(CUBE, seed=0))[:4]
    write_views(tmp_path, views)
    assert max(view.depth.max() for view in views) > 5
    for before, after in zip(views, read_views(tmp_path), strict=True):
        assert np.abs(before.depth - after.depth).max() < 1e-4


def test_condition_views_have_lights_of_their_own_and_the_others_the_usual_one(monkeypatch):
    monkeypatch.setattr(small_views, "COND_SIZE", 32)
    views, rasterizer = list(render_views(CUBE, seed=5)), TriangleRasterizer(CUBE, samples_per_unit=300)
    differs = []
    for view in views:
        usual = rasterizer.render(view.camera, size=view.rgba.shape[0])
        assert (usual.rgba[..., 3] == view.rgba[..., 3]).all()
        differs.append(int(np.abs(usual.rgba.astype(int) - view.rgba).max()) > 2)
    assert differs == [True] * 4 + [False] * 10


def test_a_view_of_nothing_fails(tmp_path):
    view = next(render_views(CUBE, seed=0))
    view.rgba[:] = 0
    with pytest.raises(ValueError, match="view 0 shows nothing"):
        write_views(tmp_path, [view])
    assert not (tmp_path / "transforms.json").exists()
