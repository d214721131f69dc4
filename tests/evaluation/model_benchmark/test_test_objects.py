"""What is measured on: the input view, the noise, the scores."""

import math

import numpy as np
import pytest
import torch

from mdtdist.data import PreparedFolder
from mdtdist.data.views import FRONT_YAW, View, asset_cameras
from mdtdist.evaluation.model_benchmark.test_objects import (
    EVALUATION_VIEWS,
    input_view,
    load_test_objects,
    noise_at,
    object_noise,
    on_white,
    structure_scores,
    views_around,
)
from mdtdist.render.cameras import orbit_camera
from tests.evaluation.tiny import RESOLUTION, SIZE, write_prepared


def views_from(angles: list[tuple[float, float, bool]]) -> list[View]:
    picture = np.zeros((2, 2, 4), np.uint8)
    return [
        View(
            camera=orbit_camera(FRONT_YAW + math.radians(yaw), math.radians(pitch)),
            rgba=picture,
            depth=np.zeros((2, 2), np.float32),
            is_cond=is_cond,
        )
        for yaw, pitch, is_cond in angles
    ]


def test_input_is_the_condition_view_nearest_to_three_quarters_from_the_front():
    assert input_view(views_from([(-30, 20, True), (0, 20, True), (35, 15, True), (30, 20, False)])) == 2
    assert input_view(views_from([(30, -40, True), (5, 20, True), (210, -20, True)])) == 1


def test_evaluation_views_never_show_the_input():
    for seed in range(30):
        cameras = asset_cameras(seed)
        views = [
            View(camera=camera, rgba=np.zeros((2, 2, 4), np.uint8), depth=np.zeros((2, 2), np.float32), is_cond=i < 8)
            for i, camera in enumerate(cameras)
        ]
        assert input_view(views) not in EVALUATION_VIEWS


def test_other_layouts_are_evaluated_from_the_views_nearest_to_four_sides():
    around = [(0, 0, False), (178, 25, False), (-55, 18, False), (-120, 60, False), (85, 0, False), (60, 80, False)]
    assert views_around(views_from([(-50, 20, True), (180, 20, True), *around])) == (4, 6, 3, 5)
    assert sorted(views_around(views_from([(0, angle, False) for angle in (0, 10, 20, 30)]))) == [0, 1, 2, 3]


def test_transparent_pixels_are_white():
    rgba = np.array([[[255, 0, 0, 255], [0, 255, 0, 0], [0, 0, 255, 51]]], np.uint8)
    picture = on_white(rgba)
    assert torch.allclose(picture[:, 0].T, torch.tensor([[1, 0, 0], [1, 1, 1], [0.8, 0.8, 1]]))


def test_noise_depends_on_object_and_seed_alone():
    one = object_noise("ab" * 32, seed=0, channels=2, resolution=3)
    assert torch.equal(one, object_noise("ab" * 32, seed=0, channels=2, resolution=3))
    assert not torch.equal(one, object_noise("ab" * 32, seed=1, channels=2, resolution=3))
    assert not torch.equal(one, object_noise("ac" * 32, seed=0, channels=2, resolution=3))


def test_shared_voxels_share_their_noise():
    noises = [torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)]
    coords = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 1], [1, 3, 2, 1]], dtype=torch.int32)
    rows = noise_at(noises, coords)
    assert torch.equal(rows[0], noises[0][:, 1, 2, 3]) and torch.equal(rows[2], noises[1][:, 3, 2, 1])
    assert torch.equal(noise_at(noises, coords[[0, 2]])[1], rows[2])


def test_scores_of_a_cube_shifted_by_one():
    a, b = torch.zeros(2, 16, 16, 16, dtype=torch.bool)
    a[4:8, 4:8, 4:8] = b[5:9, 4:8, 4:8] = True
    scores = structure_scores(a, b)
    assert scores["iou"] == pytest.approx(3 / 5) and scores["f1"] == 1
    assert scores["iou16"] == pytest.approx(2 / 3) and scores["chamfer"] == pytest.approx(1 / 4 / 16)


def test_objects_of_a_prepared_folder(tmp_path):
    data = PreparedFolder(write_prepared(tmp_path), resolution=RESOLUTION)
    objects = load_test_objects(data)
    assert [item.sha256 for item in objects] == sorted(data.ids("test"))
    item = objects[0]
    assert item.crop.shape == (4, 128, 128) and item.occupancy.shape == (8, 8, 8)
    assert item.pictures.shape == (4, 3, SIZE, SIZE) and len(item.cameras) == 4
    truth = data.views(item.sha256)[EVALUATION_VIEWS[2]]
    assert torch.equal(item.pictures[2], on_white(truth.rgba))
    assert torch.equal(item.cameras[2].camera_to_world, truth.camera.camera_to_world)
    assert len(load_test_objects(data, limit=1)) == 1
