import math

import numpy as np
import pytest
import torch

from mdtdist.data.sources import Asset, hash_file
from mdtdist.data.views import (
    COND_PITCH,
    FOV,
    NUM_COND_VIEWS,
    View,
    ViewFolder,
    asset_cameras,
    fitting_radius,
    read_views,
    render_asset,
    write_views,
)
from mdtdist.errors import InputError
from mdtdist.render.cameras import orbit_camera
from mdtdist.representations.triangles import Material
from tests.data.shapes import facing_square, write_obj


def _angles(camera):
    x, y, z = (camera.camera_to_world[:3, 3] / camera.camera_to_world[:3, 3].norm()).tolist()
    return math.degrees(math.atan2(x, -y)), math.degrees(math.asin(z))  # yaw from the front (-Y), to +X positive


def test_condition_views_fan_around_the_front():
    cameras = asset_cameras(seed=5)
    yaws, pitches = np.array([_angles(camera) for camera in cameras[:NUM_COND_VIEWS]]).T
    edges = np.linspace(-80, 80, NUM_COND_VIEWS + 1)
    assert ((yaws >= edges[:-1] - 1e-3) & (yaws <= edges[1:] + 1e-3)).all()
    assert (np.radians(pitches) >= COND_PITCH[0] - 1e-5).all() and (np.radians(pitches) <= COND_PITCH[1] + 1e-5).all()
    assert len(cameras) == 12


def test_other_views_see_back_top_and_bottom():
    yaws, pitches = np.array([_angles(camera) for camera in asset_cameras(seed=5)[NUM_COND_VIEWS:]]).T
    assert (np.abs(yaws) > 100).all()
    assert pitches.max() > 45 and pitches.min() < -30


def test_cameras_follow_the_seed():
    first, again, other = (torch.stack([c.camera_to_world for c in asset_cameras(seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_radius_grows_until_the_object_fits():
    assert fitting_radius(facing_square(0.0, Material(), half=0.3)) == 2.0
    large = facing_square(0.49, Material(), half=0.5)
    radius = fitting_radius(large)
    for yaw in np.linspace(0, 6, 20):
        camera = orbit_camera(yaw, 0.5, radius=radius, fov=FOV)
        pixels, _ = camera.project(torch.from_numpy(large.vertices).float(), 100)
        assert (pixels > 0).all() and (pixels < 100).all()


def test_rendered_folder_reads_back(tmp_path):
    pytest.importorskip("embreex")
    path = write_obj(tmp_path, mtl="Kd 1 0 0")
    asset = Asset(source_id="box", sha256=hash_file(path), path=path, name="box")
    render_asset(asset, tmp_path / "renders")
    views = read_views(tmp_path / "renders")
    assert [view.is_cond for view in views] == [True] * 8 + [False] * 4
    cameras = asset_cameras(int(asset.sha256[:16], 16))
    around = ViewFolder(tmp_path / "renders", only="around")
    assert len(around) == 4 and np.array_equal(around[1].rgba, views[9].rgba) and not any(v.is_cond for v in around)
    for view, camera in zip(views, cameras, strict=True):
        assert torch.allclose(view.camera.camera_to_world, camera.camera_to_world) and view.camera.fov == FOV
        assert view.rgba.shape == (128, 128, 4) and (view.depth > 0).mean() > 0.02
        assert ((view.depth > 0) == (view.rgba[..., 3] > 0)).all()
        assert 1.2 < view.depth[view.depth > 0].min() < 2 and view.depth.max() < 2.8


def test_incomplete_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="stage renders"):
        read_views(tmp_path)


def test_a_folder_without_views_around_is_refused(tmp_path):
    picture, depth = np.full((4, 4, 4), 255, np.uint8), np.ones((4, 4), np.float32)
    write_views(tmp_path, [View(camera=asset_cameras(0)[0], rgba=picture, depth=depth, is_cond=True)])
    assert len(ViewFolder(tmp_path)) == 1
    with pytest.raises(InputError, match="no views beside those from the front"):
        ViewFolder(tmp_path, only="around")
