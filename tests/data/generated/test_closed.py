from dataclasses import replace

import pytest

from mdtdist.data.generated.solids import box
from tests.data.generated.closed import open_edges, volume


def test_missing_or_flipped_faces_are_found():
    cube = box(1.0, 1.0, 1.0)
    assert open_edges(cube) == 0
    assert open_edges(replace(cube, faces=cube.faces[1:])) == 3
    flipped = cube.faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert open_edges(replace(cube, faces=flipped)) > 0


def test_inside_out_is_negative():
    cube = box(1.0, 2.0, 3.0)
    assert volume(cube) == pytest.approx(6.0)
    assert volume(replace(cube, faces=cube.faces[:, ::-1])) == pytest.approx(-6.0)
