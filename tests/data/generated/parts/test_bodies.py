import numpy as np
import pytest

from mdtdist.data.generated.parts.bodies import ball, limb
from tests.data.generated.closed import open_edges


def test_limb_goes_through_its_joint():
    solid = limb((0, 0, 1), (0.3, 0, 0.5), (0, 0, 0), (0.1, 0.08, 0.05))
    assert open_edges(solid) == 0
    assert solid.vertices[:, 0].max() == pytest.approx(0.38, abs=0.01)
    assert (solid.vertices[:, 2].min(), solid.vertices[:, 2].max()) == pytest.approx((0, 1), abs=0.06)


def test_ball_sits_at_its_place():
    solid = ball((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), sides=16)
    assert np.ptp(solid.vertices, axis=0) == pytest.approx([0.2, 0.4, 0.6])
    assert ball(0.5, (0, 0, 0)).vertices[:, 2].max() == pytest.approx(0.5)
