import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.render.gaussian_rasterizer import Rendering
from mdtdist.render.ray_caster import camera_rays
from mdtdist.render.strivec_renderer import render_strivec, strivec_at
from mdtdist.representations import SH_C0, Strivec

FRONT = orbit_camera(-math.pi / 2, 0.0)
OBLIQUE = orbit_camera(0.4, 0.3)
BACKGROUND = (0.2, 0.5, 0.9)


def _constant(coords: list[list[int]], *, resolution: int, density: list[float], color: list[list[float]]) -> Strivec:
    """A field with one density and colour per voxel, split over two components of different sign."""
    num = len(coords)
    raw_density = torch.tensor(density, dtype=torch.float64).expm1().log()[:, None]
    raw_color = torch.logit(torch.tensor(color, dtype=torch.float64))[:, None] / SH_C0
    trivec = torch.ones(num, 2, 3, 3, dtype=torch.float64)
    trivec[:, 1] *= -1
    return Strivec(
        coords=torch.tensor(coords, dtype=torch.int32),
        resolution=resolution,
        trivec=trivec,
        density=torch.cat([1.5 * raw_density, 0.5 * raw_density], 1),
        features_dc=torch.stack([2 * raw_color, raw_color], 1),
    )


def _cube(*, density: float, color: list[float], resolution: int = 4) -> Strivec:
    """The whole cube [-0.5, 0.5]^3."""
    coords = torch.cartesian_prod(*[torch.arange(resolution)] * 3).tolist()
    num = len(coords)
    return _constant(coords, resolution=resolution, density=[density] * num, color=[color] * num)


def _random(num: int, *, resolution: int = 4, rank: int = 3, dim: int = 4, seed: int = 0) -> Strivec:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    cells = torch.randperm(resolution**3, generator=generator)[:num]
    return Strivec(
        coords=torch.stack([cells // resolution**2, cells // resolution % resolution, cells % resolution], 1).int(),
        resolution=resolution,
        trivec=1 + 0.5 * normal(num, rank, 3, dim),
        density=4 * normal(num, rank),
        features_dc=3 * normal(num, rank, 1, 3),
    )


def _rays(camera: Camera, size: int) -> tuple[Tensor, Tensor]:
    """Origin and directions (length one along the view axis) as the ray caster of meshes has them."""
    origins, directions = camera_rays(camera, size)
    return torch.from_numpy(np.array(origins[0])), torch.from_numpy(directions)


def _chords(camera: Camera, size: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """First and last depth of every ray in an axis-aligned box; equal where the ray misses it."""
    origin, directions = _rays(camera, size)
    hits = (torch.stack([low, high])[:, None] - origin) / directions
    first, last = hits.amin(0).amax(1), hits.amax(0).amin(1)
    return first, torch.maximum(first, last)


def _assert_images(picture: Rendering, color: Tensor, alpha: Tensor, depth: Tensor, *, atol: float = 1e-12) -> None:
    size = picture.alpha.shape[0]
    background = torch.tensor(BACKGROUND, dtype=torch.float64)
    for actual, expected in (
        (picture.alpha, alpha.view(size, size)),
        (picture.depth, depth.view(size, size)),
        (picture.color, (color + (1 - alpha)[:, None] * background).mT.reshape(3, size, size)),
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("camera", [FRONT, OBLIQUE, orbit_camera(0, math.pi / 2)])
@pytest.mark.parametrize("size", [16, 17])  # the middle ray of an odd size runs along planes of the grid
def test_constant_cube_has_the_closed_form_picture(camera: Camera, size: int) -> None:
    sigma, color = 2.5, [0.9, 0.5, 0.1]
    picture = render_strivec(_cube(density=sigma, color=color), camera, size=size, background=BACKGROUND)
    half = torch.full((3,), 0.5, dtype=torch.float64)
    first, last = _chords(camera, size, -half, half)
    speed = _rays(camera, size)[1].norm(dim=1)
    thickness = sigma * speed * (last - first)
    alpha = -torch.expm1(-thickness)
    assert 0.1 < float((alpha > 0).double().mean()) < 1
    # The mean of an exponential distribution that is cut off at the far face.
    depth = first + 1 / (sigma * speed) - (last - first) * torch.exp(-thickness) / alpha.clamp_min(1e-12)
    depth = torch.where(alpha > 0, depth, 0)
    expected = alpha[:, None] * torch.tensor(color, dtype=torch.float64)
    black = replace(picture, depth=torch.zeros_like(picture.depth))
    _assert_images(black, expected, alpha, torch.zeros_like(depth))
    # The midpoint of a part is not quite its mean depth: 2.5e-4 here, where a part is 1 / 24 long.
    torch.testing.assert_close(picture.depth.flatten(), depth, rtol=0, atol=5e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("from_above", [False, True])
def test_nearer_voxel_hides_the_farther_one(axis: int, from_above: bool) -> None:
    # A camera on a coordinate axis sees the voxels 1 and 3 (of 5) of that axis through its middle pixel.
    yaw, pitch = [(math.pi, 0.0), (-math.pi / 2, 0.0), (0.0, -math.pi / 2)][axis]
    camera = orbit_camera(yaw + math.pi * (from_above and axis < 2), -pitch if from_above else pitch)
    near_first = [1, 3][:: -1 if from_above else 1]
    coords = [[2] * axis + [position] + [2] * (2 - axis) for position in near_first]
    field = _constant(coords, resolution=5, density=[3.0, 6.0], color=[[0.9, 0.5, 0.2], [0.1, 0.5, 0.7]])
    picture = render_strivec(field, camera, size=9, background=BACKGROUND)
    first, second = 1 - math.exp(-3 / 5), 1 - math.exp(-6 / 5)
    through = 1 - first
    expected = [
        first * a + through * second * b + through * (1 - second) * c
        for a, b, c in zip([0.9, 0.5, 0.2], [0.1, 0.5, 0.7], BACKGROUND, strict=True)
    ]
    torch.testing.assert_close(picture.color[:, 4, 4], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)
    assert picture.alpha[4, 4].item() == pytest.approx(1 - through * (1 - second), abs=1e-6)
    # Row order does not matter.
    turned = Strivec(**{k: v if k == "resolution" else v.flip(0) for k, v in vars(field).items()})
    torch.testing.assert_close(render_strivec(turned, camera, size=9, background=BACKGROUND).color, picture.color)


def test_up_is_up_and_x_is_right_from_the_front() -> None:
    field = _constant([[3, 2, 4]], resolution=5, density=[50.0], color=[[0.5, 0.5, 0.5]])
    row, column = divmod(int(render_strivec(field, FRONT, size=33).alpha.argmax()), 33)
    assert row < 10 and column > 18


def test_field_is_a_sum_of_products_of_linear_functions() -> None:
    # Values on a line are reproduced everywhere, also beyond the outermost ones; every axis has its own line.
    generator = torch.Generator().manual_seed(0)
    starts, slopes = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)  # [voxel, rank, axis]
    middles = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    field = replace(_random(2, rank=3), trivec=starts[..., None] + slopes[..., None] * middles)
    voxel = torch.arange(200) % 2
    local = torch.rand(200, 3, generator=generator, dtype=torch.float64)
    local[:6] = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    density, color = strivec_at(field, voxel, local)
    components = (starts[voxel] + slopes[voxel] * local[:, None]).prod(2)
    raw_density = (field.density[voxel] * components).sum(1)
    raw_color = torch.einsum("sr,src->sc", components, field.features_dc[voxel, :, 0])
    torch.testing.assert_close(density, torch.log1p(raw_density.exp()), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(color, 1 / (1 + torch.exp(-SH_C0 * raw_color)), rtol=1e-10, atol=1e-10)


def test_field_is_linear_between_the_values_of_a_vector() -> None:
    field = replace(_random(1, rank=1), trivec=torch.ones(1, 1, 3, 4, dtype=torch.float64))
    field.trivec[0, 0, 1] = torch.tensor([30.0, 50.0, 20.0, 90.0])
    field = replace(field, density=torch.ones(1, 1, dtype=torch.float64))
    y = torch.tensor([0.125, 0.25, 0.375, 0.5, 0.625, 0.875, 1.0], dtype=torch.float64)
    local = torch.stack([torch.full_like(y, 0.3), y, torch.full_like(y, 0.8)], 1)
    density, _ = strivec_at(field, torch.zeros(7, dtype=torch.long), local)
    expected = torch.tensor([30.0, 40, 50, 35, 20, 90, 125], dtype=torch.float64)
    torch.testing.assert_close(density, expected, rtol=0, atol=1e-8)  # softplus(20) is 20 to 2e-9


@pytest.mark.parametrize("camera", [FRONT, OBLIQUE])
def test_linear_density_is_integrated_exactly(camera: Camera) -> None:
    # Density 60 + 90 x - 40 z in one voxel of a grid of two, large enough for softplus to be the identity.
    sites = (torch.arange(3, dtype=torch.float64) + 0.5) / 3
    trivec = torch.ones(1, 3, 3, 3, dtype=torch.float64)
    trivec[0, 1, 0], trivec[0, 2, 2] = sites, sites
    field = Strivec(
        coords=torch.tensor([[1, 0, 1]]),
        resolution=2,
        trivec=trivec,
        density=torch.tensor([[80.0, 45.0, -20.0]], dtype=torch.float64),
        features_dc=torch.zeros(1, 3, 1, 3, dtype=torch.float64),
    )
    low = torch.tensor([0.0, -0.5, 0.0], dtype=torch.float64)
    first, last = _chords(camera, 12, low, low + 0.5)
    origin, directions = _rays(camera, 12)
    middle = (origin + ((first + last) / 2)[:, None] * directions - low) / 0.5
    mean_density = 80 + 45 * middle[:, 0] - 20 * middle[:, 2]
    thickness = mean_density * directions.norm(dim=1) * (last - first)
    alpha = render_strivec(field, camera, size=12).alpha.flatten()
    assert alpha.max() > 0.99 and float((alpha == 0).double().mean()) > 0.5
    torch.testing.assert_close(alpha, -torch.expm1(-thickness), rtol=0, atol=1e-8)


def _marched(field: Strivec, camera: Camera, *, size: int, steps_per_voxel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, alpha and depth by equal steps along the whole ray, one ray after the other."""
    origin, directions = _rays(camera, size)
    rows = torch.full([field.resolution + 2] * 3, -1)  # a border of empty voxels on the upper sides
    rows[tuple(field.coords.long().T)] = torch.arange(len(field))
    step = 1 / (steps_per_voxel * field.resolution)
    results = []
    for direction in directions:
        speed = float(direction.norm())
        depth = (torch.arange(1, 3 / step, dtype=torch.float64) + 0.5) * step / speed
        places = (origin + depth[:, None] * direction + 0.5) * field.resolution
        cells = places.floor().long()
        row = rows[tuple(cells.clamp(-1, field.resolution).T)]
        depth, places, cells, row = (x[row >= 0] for x in (depth, places, cells, row))
        density, color = strivec_at(field, row, places - cells)
        left = torch.exp(-density * step)
        through = torch.cat([left.new_ones(1), left.cumprod(0)])
        weights = through[:-1] * (1 - left)
        results.append(torch.cat([weights @ color, 1 - through[-1:], (weights @ depth)[None]]))
    results = torch.stack(results)
    return results[:, :3], results[:, 3], results[:, 4] / results[:, 3].clamp_min(1e-300)


def test_picture_equals_plain_marching_with_small_steps() -> None:
    field = _random(20)
    color, alpha, depth = _marched(field, OBLIQUE, size=5, steps_per_voxel=2000)
    assert alpha.max() > 0.5 and color.std() > 0.05
    # Observed: colour 2.6e-3, depth 6e-3, from the midpoint rule; the marching has errors of 1.5e-3 and 6e-5.
    _assert_images(render_strivec(field, OBLIQUE, size=5, background=BACKGROUND), color, alpha, depth, atol=1e-2)


def test_float32_equals_float64() -> None:
    field = _random(30, resolution=8, dim=8)
    narrow = Strivec(**{k: v.float() if k != "coords" and k != "resolution" else v for k, v in vars(field).items()})
    wide, single = (render_strivec(f, OBLIQUE, size=24, background=BACKGROUND) for f in (field, narrow))
    for name in ("color", "alpha", "depth"):
        assert getattr(single, name).dtype == torch.float32
        torch.testing.assert_close(getattr(single, name).double(), getattr(wide, name), rtol=0, atol=1e-4)


def test_gradient_is_that_of_the_values() -> None:
    field = _random(6, resolution=2, rank=2, dim=2)
    background = torch.tensor(BACKGROUND, dtype=torch.float64)
    mixtures = torch.randn(3, 5 * 4 * 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def mixed(trivec: Tensor, density: Tensor, features_dc: Tensor, background: Tensor) -> Tensor:
        changed = replace(field, trivec=trivec, density=density, features_dc=features_dc)
        picture = render_strivec(changed, OBLIQUE, size=4, background=background)
        return mixtures @ torch.cat([x.flatten() for x in (picture.color, picture.alpha, picture.depth)])

    leaves = [x.clone().requires_grad_() for x in (field.trivec, field.density, field.features_dc, background)]
    assert torch.autograd.gradcheck(mixed, leaves, fast_mode=True)


def test_what_is_nearer_than_near_is_not_seen() -> None:
    # The camera is 2 away from the centre, so the cube spans the depths 1.5 to 2.5 of the middle ray.
    field = _cube(density=1.0, color=[0.5, 0.5, 0.5])
    alphas = [float(render_strivec(field, FRONT, size=1, near=near).alpha) for near in (0.2, 1.9, 2.5)]
    assert alphas == pytest.approx([1 - math.exp(-1), 1 - math.exp(-0.6), 0], abs=1e-6)


def test_empty_field_shows_the_background() -> None:
    picture = render_strivec(_random(0), FRONT, size=3, background=BACKGROUND)
    assert not picture.alpha.any() and not picture.depth.any()
    assert torch.equal(picture.color[:, 1, 1], torch.tensor(BACKGROUND, dtype=torch.float64))


def test_centers_are_in_object_space() -> None:
    field = _constant([[0, 1, 3]], resolution=4, density=[1.0], color=[[0.5, 0.5, 0.5]])
    assert field.centers.tolist() == [[-0.375, -0.125, 0.375]] and len(field.to("cpu")) == 1


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="size is 0"):
        render_strivec(_random(1), FRONT, size=0)
    with pytest.raises(InputError, match="near is -1"):
        render_strivec(_random(1), FRONT, size=4, near=-1)
    with pytest.raises(InputError, match="dim 1; expected at least 2"):
        render_strivec(_random(1, dim=1), FRONT, size=4)
