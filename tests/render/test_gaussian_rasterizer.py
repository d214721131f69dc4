import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.render.cameras import orbit_camera
from mdtdist.render.gaussian_rasterizer import Rendering, render_gaussians, render_gaussians_plain
from mdtdist.representations import SH_C0, Gaussians

FRONT = orbit_camera(-math.pi / 2, 0.0)


def _gaussian(position: tuple[float, float, float], *, scale: float, opacity: float, color: list[float]) -> Gaussians:
    return Gaussians(
        means=torch.tensor([position], dtype=torch.float64),
        scales=torch.full((1, 3), scale, dtype=torch.float64),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
        opacities=torch.tensor([opacity], dtype=torch.float64),
        sh=(torch.tensor([[color]], dtype=torch.float64) - 0.5) / SH_C0,
    )


def _join(*parts: Gaussians) -> Gaussians:
    return Gaussians(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def _random_scene(count: int, *, seed: int = 0, spread: float = 0.3, dtype: torch.dtype = torch.float64) -> Gaussians:
    """Anisotropic Gaussians from a fraction of a pixel to a third of the picture."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Gaussians(
        means=spread * normal(count, 3),
        scales=0.02 * torch.exp(0.8 * normal(count, 3)),
        rotations=normal(count, 4),
        opacities=torch.sigmoid(2 * normal(count)),
        sh=normal(count, 1, 3),
    )


def _leaves(gaussians: Gaussians) -> dict[str, Tensor]:
    return {name: value.clone().requires_grad_() for name, value in vars(gaussians).items()}


def _images(rendering: Rendering) -> tuple[Tensor, Tensor, Tensor]:
    return rendering.color, rendering.alpha, rendering.depth


def _gradients(render: object, gaussians: Gaussians, **options: object) -> list[Tensor]:
    leaves = _leaves(gaussians)
    images = torch.cat([image.flatten() for image in _images(render(Gaussians(**leaves), **options))])
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return list(torch.autograd.grad(images @ weights.to(images), list(leaves.values())))


# Inside the view; with neighbours outside the picture and behind the camera; with very large ones.
SCENES = {
    "object": _random_scene(150),
    "everywhere": _random_scene(150, seed=1, spread=2.0),
    "large": replace(_random_scene(40, seed=2), scales=_random_scene(40, seed=3).scales * 10),
    "single": _random_scene(1, seed=4),
}


@pytest.mark.parametrize("scene", SCENES)
def test_fast_equals_plain(scene: str) -> None:
    options = {"camera": orbit_camera(0.4, 0.3), "size": 33, "background": (0.2, 0.5, 0.9)}
    fast = render_gaussians(SCENES[scene], **options)
    torch.testing.assert_close(_images(fast), _images(render_gaussians_plain(SCENES[scene], **options)))
    assert fast.alpha.max() > 0.3


@pytest.mark.parametrize("scene", SCENES)
def test_fast_gradients_equal_plain_gradients(scene: str) -> None:
    options = {"camera": orbit_camera(0.4, 0.3), "size": 24}
    fast = _gradients(render_gaussians, SCENES[scene], **options)
    torch.testing.assert_close(fast, _gradients(render_gaussians_plain, SCENES[scene], **options))


def test_float32_equals_plain() -> None:
    scene = _random_scene(400, dtype=torch.float32)
    fast, plain = (render(scene, FRONT, size=64) for render in (render_gaussians, render_gaussians_plain))
    torch.testing.assert_close(_images(fast), _images(plain), rtol=1e-5, atol=1e-5)


def test_gradient_is_that_of_the_values() -> None:
    scene = _random_scene(4, seed=5, spread=0.15)
    # A few random mixtures of all pixels check every pixel's gradient at a fraction of the cost.
    mixtures = torch.randn(4, 5 * 10 * 10, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def mixed_images(*fields: Tensor) -> Tensor:
        gaussians = Gaussians(**dict(zip(vars(scene), fields, strict=True)))
        images = _images(render_gaussians(gaussians, FRONT, size=10, background=(0.3, 0.6, 0.9)))
        return mixtures @ torch.cat([image.flatten() for image in images])

    assert torch.autograd.gradcheck(mixed_images, tuple(_leaves(scene).values()))


def test_isotropic_gaussian_has_the_analytic_picture() -> None:
    # The camera is 2 away from the origin; the Gaussian is 0.5 nearer, right and up.
    size, focal = 48, FRONT.focal(48)
    picture = render_gaussians(
        _gaussian((0.1, -0.5, 0.2), scale=0.05, opacity=0.8, color=[1, 0.5, 0]), FRONT, size=size
    )
    centers = torch.arange(size, dtype=torch.float64) + 0.5
    x, y = centers - (24 + focal * 0.1 / 1.5), centers - (24 - focal * 0.2 / 1.5)
    u, v = 0.1 / 1.5, -0.2 / 1.5
    covariance = torch.tensor([[1 + u * u, u * v], [u * v, 1 + v * v]], dtype=torch.float64)
    conic = torch.linalg.inv((focal * 0.05 / 1.5) ** 2 * covariance + 0.1 * torch.eye(2, dtype=torch.float64))
    exponent = conic[0, 0] * x[None] ** 2 + 2 * conic[0, 1] * x[None] * y[:, None] + conic[1, 1] * y[:, None] ** 2
    alpha = 0.8 * torch.exp(-exponent / 2)
    alpha = alpha * (alpha >= 1 / 255)
    torch.testing.assert_close(picture.alpha, alpha)
    torch.testing.assert_close(picture.color, alpha * torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)[:, None, None])
    torch.testing.assert_close(picture.depth, 1.5 * (alpha > 0).double())


def _brightest(picture: Rendering) -> tuple[int, int]:
    row, column = divmod(int(picture.alpha.argmax()), picture.alpha.shape[1])
    return row, column


def test_up_is_up_and_x_is_right_from_the_front() -> None:
    row, column = _brightest(
        render_gaussians(_gaussian((0.3, 0, 0), scale=0.02, opacity=0.9, color=[1, 1, 1]), FRONT, size=33)
    )
    assert row == 16 and column > 22
    row, column = _brightest(
        render_gaussians(_gaussian((0, 0, 0.3), scale=0.02, opacity=0.9, color=[1, 1, 1]), FRONT, size=33)
    )
    assert row < 10 and column == 16


def test_nearer_gaussian_hides_the_farther_one() -> None:
    red = _gaussian((0, -0.3, 0), scale=0.1, opacity=0.9, color=[1, 0, 0])
    blue = _gaussian((0, 0.3, 0), scale=0.1, opacity=0.9, color=[0, 0, 1])
    for scene in (_join(red, blue), _join(blue, red)):
        picture = render_gaussians(scene, FRONT, size=33)
        # The pixel in the middle sees 0.9 of the first and 0.1 * 0.9 of the second.
        expected = torch.tensor([0.9, 0.0, 0.09], dtype=torch.float64)
        torch.testing.assert_close(picture.color[:, 16, 16], expected)
        torch.testing.assert_close(picture.depth[16, 16].item(), (0.9 * 1.7 + 0.09 * 2.3) / 0.99)


def test_background_shows_through() -> None:
    background = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64, requires_grad=True)
    picture = render_gaussians(_random_scene(20), FRONT, size=16, background=background)
    black = render_gaussians(_random_scene(20), FRONT, size=16)
    torch.testing.assert_close(picture.color, black.color + (1 - black.alpha) * background[:, None, None])
    (gradient,) = torch.autograd.grad(picture.color.sum(), background)
    torch.testing.assert_close(gradient, (1 - black.alpha).sum().expand(3))


def test_alpha_stays_in_range_with_many_layers() -> None:
    scene = replace(_random_scene(2000, dtype=torch.float32), opacities=torch.ones(2000))
    alpha = render_gaussians(scene, FRONT, size=32).alpha
    assert alpha.min() >= 0 and alpha.max() <= 1 and alpha.max() > 0.9999


def test_opaque_gaussian_is_capped() -> None:
    picture = render_gaussians(_gaussian((0, 0, 0), scale=0.1, opacity=1.0, color=[1, 1, 1]), FRONT, size=33)
    torch.testing.assert_close(picture.alpha.max().item(), 0.99)


def test_dilation_widens_small_gaussians() -> None:
    speck = _gaussian((0, 0, 0), scale=1e-6, opacity=0.8, color=[1, 1, 1])
    alpha = render_gaussians(speck, FRONT, size=9, dilation=0.5).alpha
    torch.testing.assert_close(alpha[4, 4:7], 0.8 * torch.exp(-torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)))


@pytest.mark.parametrize("y", [-2.5, -1.9])  # behind the camera, and nearer than the near plane
def test_gaussians_that_cannot_be_seen_leave_the_background(y: float) -> None:
    hidden = _gaussian((0, y, 0), scale=0.1, opacity=0.9, color=[1, 0, 0])
    picture = render_gaussians(hidden, FRONT, size=8, background=(0.1, 0.2, 0.3))
    expected = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)[:, None, None].expand(3, 8, 8)
    torch.testing.assert_close(picture.color, expected)
    assert not picture.alpha.any() and not picture.depth.any()


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="dilation is 0.0"):
        render_gaussians(SCENES["single"], FRONT, size=8, dilation=0.0)
    with pytest.raises(InputError, match="size is -1"):
        render_gaussians(SCENES["single"], FRONT, size=-1)
