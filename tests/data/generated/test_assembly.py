import numpy as np
import pytest

from mdtdist.data.generated.assembly import coat, extent, fitted, merge, painted, placed
from mdtdist.data.generated.finishes import plain, printed
from mdtdist.data.generated.solids import box

_RED, _GREY = plain((1.0, 0.0, 0.0)), plain((0.5, 0.5, 0.5))
_PATTERN = printed(np.full((4, 4, 4), 255, dtype=np.uint8), (0.5, 0.25))


def test_lengths_become_repeats():
    part = painted(box(1.0, 0.1, 0.1), _PATTERN)
    assert part.uv[:, 0].max() == pytest.approx(1.0 / 0.5)
    assert not painted(box(1.0, 0.1, 0.1), _RED).uv.any()


def test_placing_scales_turns_and_moves_in_this_order():
    part = placed(painted(box(1.0, 0.2, 0.5).moved(x=0.5), _RED), 1.0, 2.0, 3.0, turn=90, scale=2.0)
    low, high = extent(part)  # +x turns to +y
    assert low == pytest.approx([0.8, 2.0, 3.0])
    assert high == pytest.approx([1.2, 4.0, 4.0])


def test_shared_materials_are_kept_once():
    first = merge(coat([box(1, 1, 1), box(1, 1, 2)], _RED))
    model = merge([first, painted(box(1, 1, 3), _GREY), painted(box(1, 1, 4), _RED)])
    assert [material.color for material in model.materials] == [(1.0, 0.0, 0.0), (0.5, 0.5, 0.5)]
    assert model.face_material.tolist() == [0] * 24 + [1] * 12 + [0] * 12
    heights = [model.vertices[model.faces[model.face_material == index], 2].max() for index in (0, 1)]
    assert heights == [4.0, 3.0]


def test_fitting_keeps_proportions_and_stands_on_the_origin():
    part = fitted(placed(painted(box(2.0, 1.0, 4.0), _RED), 5.0, 6.0, 7.0), 1.0, 1.0, 1.0)
    low, high = extent(part)
    assert low == pytest.approx([-0.25, -0.125, 0.0])
    assert high == pytest.approx([0.25, 0.125, 1.0])
