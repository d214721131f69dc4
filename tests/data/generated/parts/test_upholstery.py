import numpy as np
import pytest

from mdtdist.data.generated.parts.upholstery import curved, cushion, leaning, pillow, seat_board, slats
from mdtdist.data.generated.solids import box, join
from tests.data.generated.closed import open_edges, volume


def test_cushion_bulges_in_the_middle_only():
    flat, stuffed = cushion(0.5, 0.4, 0.1, puff=0.0), cushion(0.5, 0.4, 0.1, puff=0.5)
    assert open_edges(stuffed) == 0
    assert volume(stuffed) > 1.1 * volume(flat)
    assert stuffed.vertices[:, 2].max() == pytest.approx(0.15)
    assert np.abs(stuffed.vertices[:, :2]).max(axis=0) == pytest.approx([0.25, 0.2])


def test_pillow_stands_and_faces_the_front():
    solid = pillow(0.4, 0.3, 0.1)
    assert np.ptp(solid.vertices, axis=0) == pytest.approx([0.4, 0.1, 0.3])
    assert solid.vertices[:, 2].min() == pytest.approx(0)


def test_backs_lean_away_from_the_front():
    (solid,) = leaning([box(0.4, 0.02, 1.0)], 30)
    top = solid.vertices[solid.vertices[:, 2] > 0.5]
    assert top[:, 1].mean() == pytest.approx(0.5)  # sine of 30 degrees


def test_curved_boards_come_forward_at_their_sides():
    solid = curved(box(0.4, 0.02, 1.0), 0.1, 0.4)
    assert solid.vertices[:, 1].min() == pytest.approx(-0.11)


def test_slats_fill_the_depth_with_gaps():
    boards = slats(1.0, 0.5, 4, 0.02, gap=0.25)
    spans = [(board.vertices[:, 1].min(), board.vertices[:, 1].max()) for board in boards]
    assert spans[0][0] == pytest.approx(-0.25)
    assert spans[-1][1] == pytest.approx(0.25)
    wide = spans[0][1] - spans[0][0]
    assert [after[0] - before[1] for before, after in zip(spans, spans[1:], strict=False)] == pytest.approx(
        [wide / 3] * 3
    )


def test_every_seat_board_keeps_its_size():
    for seed in range(8):
        vertices = join(seat_board(np.random.default_rng(seed), 0.5, 0.4, 0.03)).vertices
        assert np.ptp(vertices, axis=0)[:2] == pytest.approx([0.5, 0.4])
        assert vertices[:, 2].min() == pytest.approx(0)
