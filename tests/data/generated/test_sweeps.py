import math

import numpy as np
import pytest

from mdtdist.data.generated.sweeps import (
    arc,
    cylinder,
    extrude,
    fill_polygon,
    fluted,
    hollow,
    narrowed,
    revolve,
    rod,
    rounded_path,
    spline,
    torus,
    tube,
    upright,
)
from tests.data.generated.closed import open_edges, volume

_L_SHAPE = [(0.0, 0.0), (3.0, 0.0), (3.0, 1.0), (1.0, 1.0), (1.0, 2.0), (0.0, 2.0)]  # area 4


def _polygon_area(sides):
    """Of a regular polygon in the unit circle."""
    return sides / 2 * math.sin(2 * math.pi / sides)


def test_cylinder_is_a_prism():
    solid = cylinder(0.5, 2.0, sides=12)
    assert volume(solid) == pytest.approx(_polygon_area(12) * 0.25 * 2.0)
    assert open_edges(solid) == 0
    assert solid.vertices[:, 2].min() == 0.0


def test_cone_frustum_volume():
    solid = cylinder(0.5, 3.0, top=0.25, sides=8)
    assert volume(solid) == pytest.approx(_polygon_area(8) * (0.25 + 0.125 + 0.0625))


def test_torus_volume_is_its_section_along_its_ring():
    # Pappus with polygons: section area times 2 pi R, the circle replaced by a polygon.
    solid = torus(1.0, 0.25, sides=24, rings=8)
    assert volume(solid) == pytest.approx(_polygon_area(8) * 0.0625 * 2 * math.pi, rel=0.015)
    assert volume(solid) == pytest.approx(_polygon_area(8) * 0.0625 * 2 * _polygon_area(24), rel=1e-9)
    assert open_edges(solid) == 0


def test_hollow_vessel_has_walls_and_floor():
    outside = [(1.0, 0.0), (1.0, 0.05), (1.0, 2.0)]  # the second point lies within the floor
    section = hollow(outside, 0.1)
    assert section == [(0, 0), *outside, (0.9, 2.0), (0.9, 0.1), (0, 0.1)]
    solid = revolve(section, sides=16)
    assert volume(solid) == pytest.approx(_polygon_area(16) * (2.0 - 0.81 * 1.9))
    assert open_edges(solid) == 0


def test_grain_of_a_turned_post_runs_along_it():
    solid = cylinder(0.1, 2.0)
    wall = np.abs(np.hypot(solid.vertices[:, 0], solid.vertices[:, 1]) - 0.1) < 1e-9
    assert np.ptp(solid.uv[wall, 0]) == pytest.approx(2.0)
    assert np.ptp(solid.uv[wall, 1]) == pytest.approx(0.2 * math.pi)


@pytest.mark.parametrize("end", [(0.0, 0.0, 2.0), (0.0, 2.0, 0.0), (-2.0, 0.0, 0.0), (1.2, -1.6, 0.0)])
def test_rod_is_a_prism_in_every_direction(end):
    solid = rod((0.0, 0.0, 0.0), end, 0.5, sides=6)
    assert volume(solid) == pytest.approx(_polygon_area(6) * 0.25 * 2.0)
    assert open_edges(solid) == 0


def test_square_bar_has_upright_sides():
    solid = rod((0, 0, 0), (1, 0, 0), 0.5, sides=4)
    half = 0.5 / math.sqrt(2)
    assert np.abs(solid.vertices).max(axis=0)[1:] == pytest.approx([half, half])


def test_bent_tube_and_ring_are_closed():
    line = rounded_path([(0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1)], 0.2)
    assert open_edges(tube(line, np.linspace(0.05, 0.02, len(line)))) == 0
    circle = np.column_stack([arc(1.0, 0, 330, pieces=11), np.zeros(12)])
    ring = tube(circle, 0.1, sides=6, is_loop=True)
    assert open_edges(ring) == 0
    assert volume(ring) == pytest.approx(2 * math.pi * _polygon_area(6) * 0.01, rel=0.05)  # observed 0.01


def test_extruded_concave_plate():
    solid = extrude(_L_SHAPE, 0.5)
    assert volume(solid) == pytest.approx(2.0)
    assert open_edges(solid) == 0
    assert solid.vertices[:, 2].min() == 0.0


def test_upright_plate_shows_its_outline_to_the_front():
    solid = upright(_L_SHAPE, 0.5)
    assert volume(solid) == pytest.approx(2.0)
    assert solid.vertices.min(axis=0) == pytest.approx([0.0, -0.25, 0.0])
    assert solid.vertices.max(axis=0) == pytest.approx([3.0, 0.25, 2.0])
    top = solid.vertices[solid.vertices[:, 2] > 1.5]
    assert top[:, 0].max() == pytest.approx(1.0)


@pytest.mark.parametrize("spikes", [3, 7])
def test_star_is_filled_exactly(spikes):
    line = arc(1.0, 0, 360, pieces=2 * spikes)[:-1]
    line[1::2] *= 0.3
    corners = line[fill_polygon(line)]
    (ax, ay), (bx, by) = (corners[:, index].T - corners[:, 0].T for index in (1, 2))
    areas = (ax * by - ay * bx) / 2
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(spikes * 0.3 * math.sin(math.pi / spikes))
    assert len(areas) == 2 * spikes - 2


def test_spline_meets_its_points_and_keeps_straight_lines():
    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]])
    assert spline(points, steps=4)[::4] == pytest.approx(points)
    straight = spline([(0.0, 0.0), (1.0, 2.0), (2.0, 4.0)], steps=5)
    assert straight[:, 1] == pytest.approx(2 * straight[:, 0])
    assert straight[:, 0] == pytest.approx(np.linspace(0, 2, 11))


def test_rounded_corner_is_cut_inside():
    line = rounded_path([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)], 0.2, steps=2)
    expected = [[0, 0], [0.8, 0], [0.95, 0.05], [1, 0.2], [1, 1]]
    assert line == pytest.approx(np.array(expected))


def test_waves_follow_the_angle():
    solid = fluted(cylinder(1.0, 1.0, sides=64), 4, 0.1)
    radius = np.hypot(solid.vertices[:, 0], solid.vertices[:, 1])
    ahead = (solid.vertices[:, 0] > 0.5) & (np.abs(solid.vertices[:, 1]) < 1e-9)
    assert radius[ahead] == pytest.approx(np.full(ahead.sum(), 1.1))
    assert radius.max() == pytest.approx(1.1)
    assert radius[radius > 0.1].min() == pytest.approx(0.9)


def test_narrowing_depends_on_the_height():
    solid = narrowed(cylinder(1.0, 1.0, sides=4), lambda z: 1 - 0.5 * z, "x")
    top = solid.vertices[solid.vertices[:, 2] > 0.5]
    assert top[:, 0].max() == pytest.approx(0.5)
    assert top[:, 1].max() == pytest.approx(1.0)
