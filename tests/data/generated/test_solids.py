import math

import numpy as np
import pytest

from mdtdist.data.generated.solids import (
    around,
    box,
    corners_of,
    face_areas,
    facing,
    grid,
    in_row,
    join,
    pair,
    path_lengths,
    rotation,
    rounded_box,
    superquadric,
)
from tests.data.generated.closed import open_edges, volume


def _extent(solid):
    return solid.vertices.min(axis=0).tolist(), solid.vertices.max(axis=0).tolist()


def test_box_stands_on_the_origin():
    solid = box(1.0, 2.0, 3.0)
    assert _extent(solid) == ([-0.5, -1.0, 0.0], [0.5, 1.0, 3.0])
    assert len(solid.faces) == 12
    assert volume(solid) == pytest.approx(6.0)
    assert open_edges(solid) == 0


def test_rounded_box_approaches_the_volume_of_box_plus_ball():
    (a, b, c), r = (0.6, 0.8, 1.2), 0.1
    x, y, z = (side - 2 * r for side in (a, b, c))
    expected = x * y * z + 2 * r * (x * y + y * z + z * x) + math.pi * r**2 * (x + y + z) + 4 / 3 * math.pi * r**3
    errors = [expected - volume(rounded_box(a, b, c, radius=r, segments=number)) for number in (2, 4, 8)]
    assert errors[0] > 0  # facets lie inside
    assert errors[2] < 1e-3 * expected
    assert np.diff(np.log2(errors)) == pytest.approx([-2, -2], abs=0.1)  # observed -1.97, -1.99


def test_rounded_box_keeps_its_extent_and_is_closed():
    solid = rounded_box(1.0, 0.5, 0.25, radius=0.05, segments=2, divisions=(3, 2, 1))
    low, high = _extent(solid)
    assert low == pytest.approx([-0.5, -0.25, 0.0])
    assert high == pytest.approx([0.5, 0.25, 0.25])
    assert open_edges(solid) == 0


def test_radius_of_a_thin_box_is_cut():
    solid = rounded_box(1.0, 1.0, 0.1, radius=0.4)
    assert _extent(solid)[1] == pytest.approx([0.5, 0.5, 0.1])
    assert open_edges(solid) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grain_runs_along_the_longest_side_of_a_board(axis):
    size = np.array([0.1, 0.1, 0.1])
    size[axis] = 2.0
    solid = box(*size)
    direction = solid.vertices[:, axis] - solid.vertices[:, axis].min()
    along = np.ptp(solid.vertices[solid.faces][..., axis], axis=1) > 1  # faces of the four long sides
    used = np.unique(solid.faces[along])
    assert solid.uv[used, 0] == pytest.approx(direction[used])
    assert solid.uv[used, 1].max() == pytest.approx(0.1)


def test_ellipsoid_volume_is_approached_from_inside():
    expected = 4 / 3 * math.pi * 0.5 * 0.4 * 0.3
    solid = superquadric((0.5, 0.4, 0.3), rings=40, sides=80)
    assert expected * 0.99 < volume(solid) < expected
    assert open_edges(solid) == 0


def test_superquadric_limits():
    octahedron = superquadric((1.0, 1.0, 1.0), roundness=(2.0, 2.0), rings=8, sides=8)
    assert volume(octahedron) == pytest.approx(4 / 3)
    # A square section whose half side is sqrt(1 - z^2): the integral of 4 (1 - z^2).
    barrel = superquadric((1.0, 1.0, 1.0), roundness=(1.0, 0.0), rings=64, sides=8)
    assert volume(barrel) == pytest.approx(16 / 3, rel=2e-3)


def test_mirror_image_stays_wound_outward():
    solid = box(0.2, 0.3, 0.4).moved(x=1.0)
    right, left = pair(solid)
    assert right is solid
    assert left.vertices[:, 0].max() == pytest.approx(-0.9)
    assert volume(left) == pytest.approx(volume(solid))
    assert volume(solid.scaled(-1, -1, 1)) == pytest.approx(volume(solid))


@pytest.mark.parametrize(("axis", "start", "end"), [("x", 1, 2), ("y", 2, 0), ("z", 0, 1)])
def test_quarter_turn_is_counter_clockwise(axis, start, end):
    assert rotation(axis, 90) @ np.eye(3)[start] == pytest.approx(np.eye(3)[end])


def test_facing_turns_the_top_to_the_front():
    solid = facing(box(0.2, 0.4, 0.1), y=-1.0, z=2.0)
    low, high = _extent(solid)
    assert low == pytest.approx([-0.1, -1.1, 1.8])
    assert high == pytest.approx([0.1, -1.0, 2.2])


def test_around_divides_the_circle():
    middles = [part.vertices.mean(axis=0)[:2] for part in around(4, box(0.1, 0.1, 0.1).moved(x=1.0), start=90)]
    assert np.array(middles) == pytest.approx(np.array([[0, 1], [-1, 0], [0, -1], [1, 0]]))


def test_row_is_centred():
    middles = [part.vertices[:, 0].mean() for part in in_row(3, 0.5, box(0.1, 0.1, 0.1))]
    assert middles == pytest.approx([-0.5, 0.0, 0.5])


def test_join_keeps_both_volumes():
    both = join([box(1, 1, 1), box(1, 1, 2).moved(x=3)])
    assert volume(both) == pytest.approx(3.0)
    assert both.faces.max() == len(both.vertices) - 1


def test_grid_faces_where_columns_cross_rows():
    x, y = np.meshgrid([0.0, 2.0], [0.0, 3.0])
    sheet = grid(np.stack([x, y, np.zeros_like(x)], axis=-1))
    corners = sheet.vertices[sheet.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normal[:, 2] > 0).all()
    assert face_areas(sheet.vertices, sheet.faces).sum() == pytest.approx(6.0)
    assert sheet.uv.max(axis=0).tolist() == [3.0, 2.0]  # u along the rows' way, v along the columns'


def test_lengths_and_corners():
    assert path_lengths(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])).tolist() == [0.0, 5.0, 6.0]
    assert corners_of(2.0, 4.0) == [(-1.0, -2.0), (1.0, -2.0), (-1.0, 2.0), (1.0, 2.0)]
