import hashlib
import math

import numpy as np
import pytest
import torch

from mdtdist.data.trellis.view_law import (
    condition_cameras,
    feature_cameras,
    fitting_fov,
    fitting_radius,
    radical_inverse,
    view_directions,
)
from mdtdist.errors import InputError

RECORDED_PLACE, RECORDED_FOV = [0.961568, -0.259812, -1.859055], 0.8462645
RECORDED_FEATURE_PLACE = [-0.401587, 0.102364, -1.956591]


def _sha(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def _radius(camera) -> float:
    return float(camera.camera_to_world[:3, 3].double().norm())


def _pitch(camera) -> float:
    return math.asin(float(camera.camera_to_world[2, 3]) / _radius(camera))


def test_radical_inverse_mirrors_the_binary_digits():
    assert [radical_inverse(n) for n in range(8)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


def test_views_without_offsets_stand_where_the_formula_says():
    directions = view_directions(np.zeros(2), count=8)
    # u = 0, 1/8, 2/8 ... 7/8: pitch = asin(2 u' - 1), u' = 2 u below 1/4 and 2 u / 3 + 1 / 3 from there
    sines = [-1, -1 / 2, 0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6]
    assert np.sin(directions[:, 1]) == pytest.approx(sines, abs=1e-12)
    assert directions[:, 0] == pytest.approx([2 * math.pi * radical_inverse(n) for n in range(8)])


def test_offsets_shift_height_within_its_step_and_yaw_around_the_circle():
    directions = view_directions(np.array([0.5, 0.75]), count=4)
    assert np.sin(directions[:, 1]) == pytest.approx([-1 / 2, 1 / 6, 1 / 2, 5 / 6])  # u = 1/8, 3/8, 5/8, 7/8
    assert directions[:, 0] == pytest.approx([1.5 * math.pi, 0.5 * math.pi, 0, math.pi])


@pytest.mark.parametrize("number", range(5))
def test_a_quarter_of_the_views_comes_from_below(number):
    assert sum(_pitch(camera) < 0 for camera in condition_cameras(_sha(number))) == 6
    assert sum(_pitch(camera) < 0 for camera in feature_cameras(_sha(number))) in (37, 38)  # 150 / 4


def test_views_are_even_over_the_upper_half_of_the_sphere():
    directions = view_directions(np.array([0.3, 0.9]), count=3000)
    upper = directions[directions[:, 1] > 0]
    counts, _, _ = np.histogram2d(np.sin(upper[:, 1]), upper[:, 0], bins=5, range=[[0, 1], [0, 2 * math.pi]])
    assert np.abs(counts / len(upper) * 25 - 1).max() < 0.07  # seen 0.035; sin pitch is even on a sphere


def test_the_bounding_sphere_just_fits_a_condition_view():
    for camera in condition_cameras(_sha(1)):
        assert math.sin(camera.fov / 2) * _radius(camera) == pytest.approx(math.sqrt(3) / 2, rel=1e-5)
        assert math.radians(10) <= camera.fov <= math.radians(70)
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    for camera in condition_cameras(_sha(2)):
        pixels, _ = camera.project(corners, 1024)
        assert (pixels >= 0).all() and (pixels <= 1024).all()


def test_fitting_radius_and_angle_invert_each_other():
    assert fitting_radius(math.radians(60)) == pytest.approx(math.sqrt(3))
    assert fitting_fov(fitting_radius(0.4)) == pytest.approx(0.4)


def test_the_inverse_square_of_the_distance_is_uniform():
    k = np.array([_radius(camera) ** -2 for number in range(40) for camera in condition_cameras(_sha(number))])
    low, high = fitting_radius(math.radians(10)) ** -2, fitting_radius(math.radians(70)) ** -2
    spread = (k - low) / (high - low)
    assert -1e-5 < spread.min() < 0.02 and 0.98 < spread.max() < 1 + 1e-5
    # Kolmogorov-Smirnov distance; 960 uniform numbers stay below 0.044 in 95 of 100 draws
    assert np.abs(np.sort(spread) - (np.arange(960) + 0.5) / 960).max() < 0.044


def test_feature_views_look_at_the_middle_from_two_units():
    cameras = feature_cameras(_sha(3))
    assert len(cameras) == 150
    for camera in cameras:
        assert _radius(camera) == pytest.approx(2, abs=1e-5) and camera.fov == pytest.approx(math.radians(40))
        pixel, depth = camera.project(torch.zeros(1, 3), 512)
        assert pixel[0].tolist() == pytest.approx([256, 256], abs=1e-3) and float(depth) == pytest.approx(2, abs=1e-5)


def test_the_views_of_an_asset_never_change():
    # Recorded: prepared folders of different machines and years must agree.
    first = condition_cameras("0123456789abcdef" * 4)[0]
    assert first.camera_to_world[:3, 3].tolist() == pytest.approx(RECORDED_PLACE, abs=1e-5)
    assert first.fov == pytest.approx(RECORDED_FOV, abs=1e-6)
    assert feature_cameras("0123456789abcdef" * 4)[0].camera_to_world[:3, 3].tolist() == pytest.approx(
        RECORDED_FEATURE_PLACE, abs=1e-5
    )


def test_assets_and_kinds_of_views_have_their_own_random_numbers():
    yaws = {
        round(math.atan2(float(c.camera_to_world[1, 3]), float(c.camera_to_world[0, 3])), 4)
        for number in range(3)
        for c in (condition_cameras(_sha(number))[0], feature_cameras(_sha(number))[0])
    }
    assert len(yaws) == 6


def test_what_is_no_hash_and_no_count_is_refused():
    with pytest.raises(InputError, match="'chair' is no SHA-256"):
        condition_cameras("chair")
    with pytest.raises(InputError, match="0 views"):
        feature_cameras(_sha(0), count=0)
