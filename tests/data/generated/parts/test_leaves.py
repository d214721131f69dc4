import numpy as np
import pytest

from mdtdist.data.generated.parts.leaves import bumpy_ball, crown, frond, leaf
from mdtdist.data.generated.solids import join
from tests.data.generated.closed import open_edges, volume


def test_leaf_points_along_x_and_droops():
    level, hanging = leaf(1.0, 0.3, droop=0.0, rise=0), leaf(1.0, 0.3, droop=0.4, rise=0)
    assert level.vertices[:, 0].max() == pytest.approx(1.0)
    assert np.ptp(level.vertices[:, 1]) == pytest.approx(0.3, abs=0.03)
    assert hanging.vertices[:, 2].min() == pytest.approx(-0.4)


def test_rising_leaf_points_up():
    tip = leaf(1.0, 0.2, droop=0.0, rise=60).vertices[:, [0, 2]].max(axis=0)
    assert tip == pytest.approx([0.5, 0.866], abs=0.1)


def test_frond_arches_down():
    solid = frond(1.0, 0.5)
    assert solid.vertices[:, 2].min() < -0.45
    assert np.ptp(solid.vertices[:, 1]) > 0.3


def test_crown_fills_its_ellipsoid():
    leaves = crown(np.random.default_rng(0), 60, (1.0, 1.0, 2.0), 0.2)
    assert len(leaves) == 60
    extent = np.ptp(join(leaves).vertices, axis=0)
    assert 1.2 < extent[0] < 2.3
    assert 2.2 < extent[2] < 4.3


def test_clipped_bush_is_a_closed_ball():
    solid = bumpy_ball(np.random.default_rng(0), 0.5)
    assert open_edges(solid) == 0
    assert 0.2 < volume(solid) < 0.7
