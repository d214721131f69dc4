import numpy as np
import pytest

from mdtdist.data.generated import textures
from mdtdist.data.generated.finishes import anything, glass, poster

_LIGHT, _DARK = (0.9, 0.8, 0.7), (0.2, 0.1, 0.0)
_PATTERNS = (
    "wood_grain",
    "boards",
    "weave",
    "cloth",
    "stripes",
    "checks",
    "dots",
    "speckle",
    "marble",
    "mottled",
    "gradient",
    "bricks",
)


def _rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", _PATTERNS)
def test_pattern_is_opaque_repeatable_and_between_its_colours(name):
    image = getattr(textures, name)(_rng(), _LIGHT, _DARK)
    assert image.shape == (64, 64, 4)
    assert image.dtype == np.uint8
    assert (image[..., 3] == 255).all()
    assert (image == getattr(textures, name)(_rng(), _LIGHT, _DARK)).all()
    values = image[..., :3].reshape(-1, 3) / 255
    assert (values >= np.array(_DARK) - 0.003).all() and (values <= np.array(_LIGHT) + 0.003).all()
    assert values.std(axis=0).min() > 0.01


@pytest.mark.parametrize("name", ["wood_grain", "marble", "mottled", "gradient"])
def test_smooth_patterns_have_no_seam(name):
    field = getattr(textures, name)(_rng(3), _LIGHT, _DARK)[..., 0].astype(int)
    for axis in (0, 1):
        steps = np.abs(field - np.roll(field, 1, axis=axis))
        seam = np.take(steps, 0, axis=axis)
        assert seam.max() <= np.delete(steps, 0, axis=axis).max()


def test_noise_is_periodic_and_has_its_cells():
    noise = textures.value_noise(_rng(), (4, 8))
    assert 0 <= noise.min() < 0.3 and 0.7 < noise.max() <= 1
    again = _rng().random((4, 8))
    assert noise[::16, ::8] == pytest.approx(again)


@pytest.mark.parametrize("name", ["wood_grain", "boards"])
def test_grain_runs_along_columns(name):
    field = getattr(textures, name)(_rng(1), _LIGHT, _DARK)[..., 0].astype(float)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.5 * np.abs(np.diff(field, axis=0)).mean()


def test_blend_ends():
    image = textures.blend(np.array([[0.0, 1.0], [0.5, 2.0]]), (0.0, 0.0, 0.0), (1.0, 0.2, 0.0))
    assert image[..., :3].tolist() == [[[0, 0, 0], [255, 51, 0]], [[128, 26, 0], [255, 51, 0]]]


def test_chess_board_is_half_dark():
    for seed in range(8):
        red = textures.checks(_rng(seed), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))[..., 0]
        assert red.mean() == pytest.approx(127.5, abs=0.6)


def test_finishes_are_valid_materials():
    rng = _rng(5)
    for _ in range(60):
        finish = anything(rng)
        assert all(0 <= channel <= 1 for channel in finish.material.color)
        assert finish.material.opacity == 1.0
        assert min(finish.tile) > 0
    assert 0 < glass(rng).material.opacity < 1


def test_poster_covers_its_panel_once():
    finish = poster(_rng(), 0.8, 0.5)
    assert finish.tile == (0.8, 0.5)
    assert finish.material.texture.shape == (128, 128, 4)
