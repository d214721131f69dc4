import numpy as np
import pytest

from mdtdist.data.generated.assembly import extent, merge
from mdtdist.data.generated.parts.panels import book, books, frame_bars, panel
from mdtdist.data.generated.solids import join


def test_picture_is_upright_seen_from_the_front():
    solid = panel(0.8, 0.5)
    corner = np.argmin(solid.vertices[:, 0] + solid.vertices[:, 2])
    assert solid.uv[corner].tolist() == [0.0, 0.0]  # lower left
    assert solid.uv[np.argmax(solid.vertices[:, 0] + solid.vertices[:, 2])] == pytest.approx([0.8, 0.5])
    corners = solid.vertices[solid.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normal[:, 1] < 0).all()


def test_frame_surrounds_its_opening():
    vertices = join(frame_bars(0.8, 0.5, 0.1, 0.04)).vertices
    assert vertices.min(axis=0) == pytest.approx([-0.4, -0.02, 0.0])
    assert vertices.max(axis=0) == pytest.approx([0.4, 0.02, 0.5])
    assert not ((np.abs(vertices[:, 0]) < 0.29) & (np.abs(vertices[:, 2] - 0.25) < 0.14)).any()


def test_books_stand_within_their_shelf():
    for seed in range(5):
        low, high = extent(merge(books(np.random.default_rng(seed), 0.5, 0.2, 0.3)))
        assert low[0] == pytest.approx(-0.25)
        assert high[0] <= 0.25 + 0.06 and high[2] <= 0.305
        assert low[2] == 0.0


def test_pages_are_seen_above_and_behind_but_not_on_the_spine():
    cover, pages = book(np.random.default_rng(0), 0.04, 0.2, 0.3)
    assert extent(pages)[1][2] > extent(cover)[1][2]
    assert extent(pages)[0][1] > extent(cover)[0][1]
    assert extent(pages)[1][1] > extent(cover)[1][1]
