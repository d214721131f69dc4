"""Changes of pictures: nothing at strength zero, each by hand with its draws fixed, and always premultiplied."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtdist.errors import InputError
from mdtdist.training import augment as module
from mdtdist.training.augment import (
    Augmentation,
    augment,
    change_color,
    change_edge,
    change_frame,
    change_light,
    change_sharpness,
)
from mdtdist.training.config import from_dict

CHANGES = {
    "color": change_color,
    "light": change_light,
    "frame": change_frame,
    "edge": change_edge,
    "blur": change_sharpness,
}
FULL = Augmentation(color=1.0, light=1.0, frame=1.0, edge=1.0, blur=1.0)
SIZE = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(num: int = 3, size: int = SIZE) -> torch.Tensor:
    """A coloured box with a soft left edge on nothing."""
    image = torch.zeros(num, 4, size, size)
    image[..., 8:-8, 10:-6] = torch.rand(num, 4, 1, 1, generator=seeded(5)) * 0.5 + 0.25
    image[:, 3, 8:-8, 10:-6] = 1
    image[:, 3, 8:-8, 10] = 0.5
    return torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)


def straight(image: torch.Tensor) -> torch.Tensor:
    """The colours of the box, one pixel inside its right edge."""
    return image[:, :3, SIZE // 2, -8] / image[:, 3:, SIZE // 2, -8]


@pytest.fixture
def fixed(monkeypatch):
    """Draws at the upper ends of their ranges, or where a test wants them."""

    def fix(share: float = 1.0, spread: float = 1.0, noise: float = 1.0, **constants: float) -> None:
        full = lambda crops, num: torch.ones(len(crops), num, 1, 1)  # noqa: E731
        monkeypatch.setattr(module, "_share", lambda crops, generator: share * full(crops, 1))
        monkeypatch.setattr(
            module, "_spread", lambda crops, width, generator, *, num=1: spread * width * full(crops, num)
        )
        monkeypatch.setattr(module, "_smooth_noise", lambda crops, generator: noise * torch.ones_like(crops[:, 3:]))
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)

    return fix


@pytest.mark.parametrize("name", CHANGES)
def test_strength_zero_gives_the_crops_back(name):
    image = crops()
    assert CHANGES[name](image, 0.0, generator=seeded()) is image
    assert augment(image, Augmentation(), generator=seeded()) is image


@pytest.mark.parametrize("name", CHANGES)
def test_each_strength_belongs_to_its_change(name, monkeypatch):
    asked = {}
    for other, change in CHANGES.items():
        spy = lambda image, strength, *, generator, other=other: asked.update({other: strength}) or image  # noqa: E731
        monkeypatch.setattr(module, change.__name__, spy)
    augment(crops(), Augmentation(**{name: 0.7}), generator=seeded())
    assert asked == {other: 0.7 if other == name else 0 for other in CHANGES}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1))
def test_what_comes_out_is_premultiplied_and_in_range(seed, strength):
    image = torch.rand(2, 4, 20, 24, generator=seeded(seed))
    image = torch.cat([image[:, :3] * image[:, 3:], image[:, 3:].round()], 1)
    image[:, :3] = torch.minimum(image[:, :3], image[:, 3:])
    changed = augment(image, Augmentation(**dict.fromkeys(CHANGES, strength)), generator=seeded(seed))
    assert changed.shape == image.shape and changed.dtype == image.dtype and not torch.equal(changed, image)
    assert (changed[:, :3] <= changed[:, 3:]).all() and changed.min() >= 0 and changed.max() <= 1


@pytest.mark.parametrize("name", CHANGES)
def test_draws_follow_from_the_generator_and_differ_between_samples(name):
    image, options = crops(1).expand(3, -1, -1, -1), Augmentation(**{name: 1.0})
    first, again, other = (augment(image, options, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])


def test_the_strengths_do_not_decide_what_is_drawn_next():
    after = []
    for options in (Augmentation(), Augmentation(light=0.3), FULL):
        generator = seeded()
        augment(crops(), options, generator=generator)
        after.append(generator.get_state())
    assert torch.equal(after[0], after[1]) and torch.equal(after[1], after[2])


@pytest.mark.parametrize("name", ["color", "light"])
def test_colours_change_under_their_alpha_alone(name):
    image = crops()
    changed = CHANGES[name](image, 1.0, generator=seeded())
    assert torch.equal(changed[:, 3:], image[:, 3:]) and not torch.equal(changed, image)
    if name == "color":  # of a box of one colour, the soft edge keeps the colour of the rest
        assert torch.allclose(changed[:, :3, 16, 10] / 0.5, straight(changed), atol=1e-5)


def test_colours_by_hand(fixed):
    image, zero = crops(), dict.fromkeys(("_GAIN", "_BRIGHTNESS", "_CONTRAST", "_SATURATION"), 0.0)
    colour = straight(image)
    fixed(**zero | {"_GAIN": 0.3})
    torch.testing.assert_close(straight(change_color(image, 0.5, generator=seeded())), 1.15 * colour)
    fixed(**zero | {"_BRIGHTNESS": 0.15})
    torch.testing.assert_close(straight(change_color(image, 1.0, generator=seeded())), colour + 0.15)
    fixed(spread=-1.0, **zero | {"_SATURATION": 0.6})
    grey = (colour @ torch.tensor([0.2126, 0.7152, 0.0722]))[:, None]
    expected = grey + 0.4 * (colour - grey)
    torch.testing.assert_close(straight(change_color(image, 1.0, generator=seeded())), expected)


def test_contrast_is_about_the_mean_of_the_object(fixed):
    fixed(_GAIN=0.0, _BRIGHTNESS=0.0, _SATURATION=0.0, _CONTRAST=0.4)
    image = torch.zeros(1, 4, 4, 4)
    image[:, 3, 1:3, 1:3] = 1
    image[0, :3, 1:3, 1:3] = torch.tensor([[0.5, 0.4], [0.4, 0.3]])
    changed = change_color(image, 1.0, generator=seeded())
    torch.testing.assert_close(changed[0, 0, 1:3, 1:3], torch.tensor([[0.54, 0.4], [0.4, 0.26]]))
    assert (changed[0, :, 0] == 0).all()


@pytest.mark.parametrize(("spread", "axis"), [(0.0, -1), (0.5, -2)])
def test_light_rises_along_its_direction(fixed, spread, axis):
    """An angle of 0 points to the right, one of a quarter turn down."""
    fixed(spread=spread)
    image = torch.full((1, 4, SIZE, SIZE), 0.25)
    image[:, 3] = 1
    changed = change_light(image, 0.8, generator=seeded())[0, 0]
    profile = changed.movedim(axis, 0)
    torch.testing.assert_close(profile, profile[:, :1].expand(-1, SIZE))
    edge = 1 - 1 / SIZE
    assert profile[-1, 0].item() == pytest.approx(0.25 * math.exp(0.4 * edge), rel=1e-4)
    assert profile[0, 0].item() == pytest.approx(0.25 * math.exp(-0.4 * edge), rel=1e-4)


def centre(image: torch.Tensor) -> torch.Tensor:
    """Mean (x, y) of the mass of alpha, from the middle of the picture, pixels."""
    alpha, places = image[0, 3], torch.arange(SIZE) + 0.5 - SIZE / 2
    return torch.stack([(alpha.sum(0) * places).sum(), (alpha.sum(1) * places).sum()]) / alpha.sum()


@pytest.mark.parametrize(("share", "zoom"), [(1.0, 1.15), (0.0, 0.9), (0.4, 1.0)])
def test_zoom_moves_away_from_the_middle(fixed, share, zoom):
    fixed(share=share, spread=0.0)
    image = torch.zeros(1, 4, SIZE, SIZE)
    image[..., 18:22, 6:10] = 0.5  # x from -10 to -6, y from 2 to 6
    changed = change_frame(image, 1.0, generator=seeded())
    torch.testing.assert_close(centre(changed), zoom * torch.tensor([-8.0, 4.0]), atol=0.05, rtol=0)
    assert changed[0, 3].sum() / image[0, 3].sum() == pytest.approx(zoom**2, rel=0.02)


def test_shift_is_a_share_of_the_side_to_the_right_and_down(fixed, monkeypatch):
    fixed(share=0.4)
    widths = torch.tensor([1.0, 0.5])[None, :, None, None]
    monkeypatch.setattr(module, "_spread", lambda crops, width, generator, *, num: width * widths)
    image = torch.zeros(1, 4, SIZE, SIZE)
    image[..., 12:20, 12:20] = 0.5
    changed = change_frame(image, 1.0, generator=seeded())
    torch.testing.assert_close(centre(changed), SIZE * torch.tensor([0.05, 0.025]), atol=1e-3, rtol=0)


def test_wide_cut_out_has_a_fringe_of_one_colour_and_a_narrow_one_keeps_its_own(fixed):
    image = torch.zeros(1, 4, SIZE, SIZE)
    image[:, 3, 10:20, 8:16] = 1
    image[:, 1, 10:20, 8:16] = 0.5
    fixed()
    wide = change_edge(image, 1.0, generator=seeded())
    assert (wide[0, 3, 8:22, 6:18] == 1).all() and wide[0, 3].sum() == 14 * 12
    fringe = wide[0, :3, 8, 6]
    torch.testing.assert_close(fringe, torch.rand(3, generator=seeded()))
    assert (wide[0, :3, 8:10, 6:18] == fringe[:, None, None]).all() and torch.equal(
        wide[..., 10:20, 8:16], image[..., 10:20, 8:16]
    )
    fixed(noise=-1.0)
    narrow = change_edge(image, 1.0, generator=seeded())
    expected = torch.zeros_like(image)
    expected[..., 12:18, 10:14] = image[..., 12:18, 10:14]
    assert torch.equal(narrow, expected)
    half = change_edge(image, 0.5, generator=seeded())
    assert half[0, 3, 10, 8] == 0.5 and half[0, 1, 10, 8] == 0.25


def test_edges_change_smoothly_and_both_ways():
    noise = module._smooth_noise(torch.zeros(4, 4, 64, 48), seeded())
    assert noise.shape == (4, 1, 64, 48) and noise.min() < -0.5 and noise.max() > 0.5 and noise.abs().max() <= 1
    assert max(noise.diff(dim=axis).abs().max() for axis in (-1, -2)) < 2 / 12


def test_blur_spreads_a_pixel_by_the_binomial_weights(fixed):
    fixed(_NOISE=0.0)
    image = torch.zeros(1, 4, 9, 9)
    image[..., 4, 3] = 1
    changed = change_sharpness(image, 1.0, generator=seeded())
    weights = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    expected = torch.zeros(9, 9)
    expected[2:7, 1:6] = weights[:, None] * weights
    torch.testing.assert_close(changed, expected.expand(1, 4, -1, -1))
    half = change_sharpness(image, 0.5, generator=seeded())
    torch.testing.assert_close(half, (image + changed) / 2)


def test_noise_is_grey_and_on_the_object(fixed, monkeypatch):
    fixed(_NOISE=0.03)
    monkeypatch.setattr(module, "_blurred", lambda crops: crops)
    image = torch.full((1, 4, 64, 64), 0.5)
    image[:, 3] = 1
    image[..., :32] = 0
    image[:, :, 32:] *= 0.5
    noise = change_sharpness(image, 1.0, generator=seeded()) - image
    assert (noise[..., :32] == 0).all() and (noise[:, 3] == 0).all()
    assert noise[0, 0, :32, 32:].std().item() == pytest.approx(0.03, rel=0.1)
    assert noise[0, 0, 32:, 32:].std().item() == pytest.approx(0.015, rel=0.1)
    torch.testing.assert_close(noise[:, 0], noise[:, 2])


def test_strengths_are_checked():
    assert from_dict(Augmentation, {"color": 1, "edge": 0.5}) == Augmentation(color=1.0, edge=0.5)
    with pytest.raises(InputError, match="light is 1.5; expected a strength from 0 to 1"):
        from_dict(Augmentation, {"light": 1.5})
    with pytest.raises(InputError, match="did you mean 'blur'"):
        from_dict(Augmentation, {"blurr": 0.5})
