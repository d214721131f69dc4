import numpy as np
import pytest

from mdtdist.data.generated.assembly import extent, merge
from mdtdist.data.generated.finishes import plain
from mdtdist.data.generated.parts.wheels import spoked_wheel, wheel_pairs
from mdtdist.data.generated.solids import join


def test_wheels_stand_on_the_floor_under_both_sides():
    low, high = extent(merge(wheel_pairs(1.8, 0.3, [-1.0, 1.2], plain((0.5, 0.5, 0.5)), thickness=0.2)))
    assert low[2] == pytest.approx(0, abs=0.01)
    assert high[2] == pytest.approx(0.6, abs=0.01)
    assert low[0] == pytest.approx(-high[0])
    assert high[0] == pytest.approx(0.95, abs=0.01)  # a quarter of the tyre stands out
    assert (low[1], high[1]) == pytest.approx((-1.3, 1.5), abs=0.01)


def test_spoked_wheel_turns_about_x():
    vertices = join(spoked_wheel(0.3, spokes=8)).vertices
    assert np.ptp(vertices, axis=0) == pytest.approx([0.054, 0.6, 0.6], abs=0.01)
