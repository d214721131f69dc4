import numpy as np
import pytest

from mdtdist.data.generated.finishes import plain
from mdtdist.data.generated.parts.supports import LEGS, Span, spread_feet, stand
from mdtdist.data.generated.solids import join

_SPAN = Span(width=0.5, depth=0.4, height=0.45, thickness=0.04)


@pytest.mark.parametrize("kind", LEGS)
def test_legs_reach_from_the_floor_to_the_seat(kind):
    for seed in range(4):
        vertices = join(LEGS[kind](np.random.default_rng(seed), _SPAN)).vertices
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        assert low[2] == pytest.approx(0, abs=0.02), seed
        assert high[2] == pytest.approx(_SPAN.height, abs=0.02), seed
        assert (low + high)[:2] == pytest.approx([0, 0], abs=0.09), seed  # three feet are not even
        assert (high - low)[0] < 1.5 * _SPAN.width and (high - low)[1] < 1.5 * _SPAN.depth


def test_weights_choose_the_kind():
    parts = stand(np.random.default_rng(0), _SPAN, plain((0.5, 0.5, 0.5)), {"sled": 1.0, "trestle": 0.0})
    expected = LEGS["sled"](np.random.default_rng(1), _SPAN)
    assert len(parts) == len(expected)


def test_first_foot_points_to_the_front():
    first = spread_feet(np.random.default_rng(0), 0.3, 0.05, 0.04)[0]
    assert first.vertices[:, 1].min() == pytest.approx(-0.3, abs=0.01)
    assert first.vertices[:, 2].min() == pytest.approx(0, abs=0.005)
