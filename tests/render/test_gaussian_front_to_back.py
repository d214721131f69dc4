"""The path without gradients against the plain oracle, and against the path with gradients."""

import math
from dataclasses import replace

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.render import gaussian_front_to_back
from mdtdist.render.cameras import orbit_camera
from mdtdist.render.gaussian_rasterizer import Rendering, render_gaussians, render_gaussians_plain
from mdtdist.representations import Gaussians
from tests.render.test_gaussian_rasterizer import SCENES, _leaves, _random_scene

FRONT = orbit_camera(-math.pi / 2, 0.0)
STOP = 1e-4


def _images(rendering: Rendering) -> tuple[torch.Tensor, ...]:
    assert rendering.surface is not None
    return rendering.color, rendering.alpha, rendering.depth, rendering.surface


def _with_gradients(gaussians: Gaussians, **options: object) -> Rendering:
    rendering = render_gaussians(Gaussians(**_leaves(gaussians)), **options)
    assert rendering.color.requires_grad
    return Rendering(**{name: image.detach() for name, image in vars(rendering).items()})


def _wall(*, layers: int, opacity: float = 0.9, seed: int = 0) -> Gaussians:
    """Flat sheets of splats behind one another, a step of 0.01 apart, that fill the middle of the front view."""
    axis = torch.linspace(-0.3, 0.3, 13, dtype=torch.float64)
    z, x, layer = torch.meshgrid(axis, axis, torch.arange(layers, dtype=torch.float64), indexing="ij")
    means = torch.stack([x, -0.3 + 0.01 * layer, z], -1).reshape(-1, 3)
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=means,
        scales=torch.tensor([[0.04, 0.002, 0.04]], dtype=torch.float64).expand(len(means), 3).contiguous(),
        rotations=torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).expand(len(means), 4).contiguous(),
        opacities=torch.full((len(means),), opacity, dtype=torch.float64),
        sh=torch.randn(len(means), 1, 3, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("pairs", [60, 5000, 2**19])
def test_portions_of_any_size_equal_plain(monkeypatch: pytest.MonkeyPatch, scene: str, pairs: int) -> None:
    monkeypatch.setattr(gaussian_front_to_back, "_PAIRS_AT_ONCE", pairs)
    options = {"camera": orbit_camera(0.4, 0.3), "size": 33, "background": (0.2, 0.5, 0.9)}
    fast = render_gaussians(SCENES[scene], **options)
    torch.testing.assert_close(_images(fast), _images(render_gaussians_plain(SCENES[scene], **options)))


@pytest.mark.parametrize("scene", SCENES)
def test_values_with_gradients_equal_plain(scene: str) -> None:
    options = {"camera": orbit_camera(0.4, 0.3), "size": 33, "background": (0.2, 0.5, 0.9)}
    listed = _with_gradients(SCENES[scene], **options)
    torch.testing.assert_close(_images(listed), _images(render_gaussians_plain(SCENES[scene], **options)))


def test_needles_at_every_angle_lose_no_pixel() -> None:
    """Splats fifty times longer than wide: the spans of the ellipse are all that is looked at."""
    scene = _random_scene(60, seed=7)
    scales = torch.tensor([[0.15, 0.003, 0.003]], dtype=torch.float64).expand(60, 3).contiguous()
    needles = replace(scene, scales=scales, opacities=torch.full((60,), 0.9, dtype=torch.float64))
    options = {"camera": FRONT, "size": 64, "dilation": 1e-3}
    torch.testing.assert_close(
        _images(render_gaussians(needles, **options)), _images(render_gaussians_plain(needles, **options))
    )


def test_stopping_changes_no_colour_by_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_front_to_back, "_PAIRS_AT_ONCE", 8_000)
    wall = _wall(layers=24)
    plain, fast = render_gaussians_plain(wall, FRONT, size=32), render_gaussians(wall, FRONT, size=32, stop_at=STOP)
    brightest = float(wall.colors.max())
    assert 0 < (fast.color - plain.color).abs().max() <= STOP * brightest
    assert (fast.alpha - plain.alpha).abs().max() <= STOP


def test_hidden_splats_are_not_even_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_front_to_back, "_PAIRS_AT_ONCE", 8_000)
    projected, project = [], gaussian_front_to_back._project

    def counted(gaussians: Gaussians, camera: object, chosen: torch.Tensor, **options: object) -> object:
        projected.append(len(chosen))
        return project(gaussians, camera, chosen, **options)

    monkeypatch.setattr(gaussian_front_to_back, "_project", counted)
    wall = _wall(layers=24)
    render_gaussians(wall, FRONT, size=32, stop_at=STOP)
    stopped = sum(projected)
    projected.clear()
    render_gaussians(wall, FRONT, size=32)
    assert sum(projected) == len(wall)
    assert stopped < 0.7 * len(wall)  # the rim of the wall never fills up: seen 0.52


def test_what_shows_beside_a_full_pixel_is_kept() -> None:
    """A far splat whose box is almost covered by a wall still shows where it sticks out."""
    wall = _wall(layers=10)
    behind = replace(
        _random_scene(1),
        means=torch.tensor([[0.36, 0.3, 0.0]], dtype=torch.float64),
        scales=torch.full((1, 3), 0.05, dtype=torch.float64),
        opacities=torch.tensor([0.9], dtype=torch.float64),
    )
    both = Gaussians(**{name: torch.cat([vars(wall)[name], vars(behind)[name]]) for name in vars(wall)})
    fast, plain = render_gaussians(both, FRONT, size=32, stop_at=STOP), render_gaussians_plain(both, FRONT, size=32)
    torch.testing.assert_close(fast.color, plain.color, rtol=0, atol=STOP * float(both.colors.max()))


def test_nothing_to_see_leaves_the_background() -> None:
    scene = replace(_random_scene(3), opacities=torch.full((3,), 1e-3, dtype=torch.float64))
    picture = render_gaussians(scene, FRONT, size=8, background=(0.1, 0.2, 0.3))
    assert not picture.alpha.any() and not picture.depth.any()
    empty = Gaussians(**{name: value[:0] for name, value in vars(scene).items()})
    assert not render_gaussians(empty, FRONT, size=8).alpha.any()


def test_many_opaque_layers_stay_finite() -> None:
    wall = replace(_wall(layers=300), opacities=torch.ones(13 * 13 * 300, dtype=torch.float64))
    picture = render_gaussians(wall, FRONT, size=16)
    assert picture.color.isfinite().all() and picture.alpha.max() == 1


def test_surface_is_where_half_of_the_light_is_gone() -> None:
    """Opacities 0.4, 0.4, 0.9 let 0.6, 0.36 and 0.036 through: the second sheet is the surface."""
    wall = _wall(layers=3)
    opacities = torch.tensor([0.4, 0.4, 0.9], dtype=torch.float64).repeat(13 * 13)
    one_each = (wall.means[:, [0, 2]].abs() < 1e-6).all(1)  # the middle of each sheet
    stack = Gaussians(**{name: value[one_each] for name, value in vars(replace(wall, opacities=opacities)).items()})
    picture = render_gaussians(stack, FRONT, size=33)
    assert picture.surface is not None
    assert picture.surface[16, 16].item() == pytest.approx(2 - 0.3 + 0.01)
    assert picture.surface[0, 0] == 0
    assert ((picture.surface > 0) == (picture.alpha > 0.5)).all()


@pytest.mark.parametrize("stop_at", [-0.1, 1.0, math.nan])
def test_a_share_of_light_is_refused_outside_its_range(stop_at: float) -> None:
    with pytest.raises(InputError, match="stop_at is"):
        render_gaussians(SCENES["single"], FRONT, size=8, stop_at=stop_at)
