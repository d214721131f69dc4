import numpy as np
import pytest

from mdtdist.data.generated.assembly import extent, merge
from mdtdist.data.generated.finishes import plain
from mdtdist.data.generated.parts.fronts import cabinet_finishes, carcass, handle, with_door, with_drawers
from mdtdist.data.generated.solids import join

_FINISHES = (plain((1.0, 0.0, 0.0)), plain((0.0, 1.0, 0.0)), plain((0.0, 0.0, 1.0)))


@pytest.mark.parametrize("make", [with_drawers, with_door])
def test_fronts_and_handles_are_on_the_front(make):
    for seed in range(5):
        model = merge(make(np.random.default_rng(seed), 0.5, 0.4, 0.8, _FINISHES))
        low, high = extent(model)
        assert high == pytest.approx([0.25, 0.2, 0.8])
        assert low[2] == pytest.approx(0)
        colors = np.array([model.materials[index].color for index in model.face_material])
        middle = model.triangles.mean(axis=1)
        assert middle[colors[:, 1] == 1][:, 1].max() < -0.19  # drawers or door
        assert middle[colors[:, 2] == 1][:, 1].max() < -0.2  # handles
        assert low[1] > -0.28


def test_drawers_do_not_overlap():
    parts = with_drawers(np.random.default_rng(0), 0.5, 0.4, 0.8, _FINISHES)[1::2]
    bounds = [extent(part) for part in parts]
    assert len(bounds) > 1
    assert all(above[0][2] > below[1][2] for below, above in zip(bounds, bounds[1:], strict=False))


@pytest.mark.parametrize("style", range(4))
def test_handles_stick_out(style):
    vertices = handle(style, 0.1).vertices
    assert vertices[:, 1].min() < -0.008
    assert vertices[:, 1].max() < 0.011
    assert np.ptp(vertices[:, 0]) < 0.12


def test_carcass_is_open_to_the_front():
    vertices = join(carcass(0.8, 0.3, 1.0, 3)).vertices
    assert np.ptp(vertices, axis=0) == pytest.approx([0.8, 0.3, 1.0])
    assert len(carcass(0.8, 0.3, 1.0, 3)) == 2 + 4 + 1
    assert len(carcass(0.8, 0.3, 1.0, 3, with_back=False)) == 2 + 4


def test_finishes_come_in_three():
    assert len(cabinet_finishes(np.random.default_rng(0))) == 3
