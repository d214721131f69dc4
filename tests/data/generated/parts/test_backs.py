import numpy as np
import pytest

from mdtdist.data.generated.parts.backs import BACKS, any_back
from mdtdist.data.generated.solids import join


@pytest.mark.parametrize("kind", BACKS)
def test_backs_stand_and_have_their_size(kind):
    for seed in range(4):
        frame, filling = BACKS[kind](np.random.default_rng(seed), 0.45, 0.5, 0.03)
        vertices = join([*frame, *filling]).vertices
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        assert low[2] > -0.01, seed
        assert high[2] == pytest.approx(0.5, abs=0.09), seed
        assert high[0] - low[0] == pytest.approx(0.45, abs=0.03), seed
        assert low[0] == pytest.approx(-high[0], abs=1e-6)


def test_shell_wraps_around_the_front():
    _, (shell,) = BACKS["shell"](np.random.default_rng(0), 0.45, 0.5, 0.03)
    front = shell.vertices[shell.vertices[:, 1] < -0.15]
    assert len(front)
    assert front[:, 2].max() < 0.6 * shell.vertices[:, 2].max()  # low at the front


def test_any_back_reaches_every_kind():
    rng = np.random.default_rng(0)
    counts = {(len(frame), len(filling)) for frame, filling in (any_back(rng, 0.45, 0.5, 0.03) for _ in range(60))}
    assert len(counts) > 8
