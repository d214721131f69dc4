"""Pictures of assets whose colours and distances are known."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.alignment import Alignment, as_matrix
from mdtdist.evaluation.assets.pictures import render_views
from mdtdist.evaluation.assets.reading import Asset3D, asset_of_gaussians
from mdtdist.render.cameras import orbit_camera
from mdtdist.render.gaussian_rasterizer import render_gaussians
from mdtdist.render.ray_caster import AMBIENT, DIFFUSE, LIGHT, MIN_ALBEDO
from mdtdist.representations import SH_C0, Gaussians
from mdtdist.representations.triangles import Material
from tests.data.shapes import facing_square

pytest.importorskip("embreex")

FRONT = orbit_camera(-math.pi / 2, 0.0)
COLOR = (0.9, 0.4, 0.1)


def _square_asset(*, is_unlit: bool) -> Asset3D:
    alignment = Alignment(rotation=as_matrix(np.eye(3)), scale=1.0, offset=(0.0,) * 3, how="given", sentence="as it is")
    triangles = facing_square(-0.3, Material(color=COLOR))
    return Asset3D(path=Path("square"), triangles=triangles, alignment=alignment, is_unlit=is_unlit)


def _splat_wall(y: float = -0.3) -> Asset3D:
    """A grid of opaque splats that fills the square of ``_square_asset``."""
    axis = torch.linspace(-0.4, 0.4, 33)
    z, x = torch.meshgrid(axis, axis, indexing="ij")
    count = x.numel()
    return asset_of_gaussians(
        Gaussians(
            means=torch.stack([x.flatten(), torch.full((count,), y), z.flatten()], 1),
            scales=torch.tensor([[0.02, 0.001, 0.02]]).expand(count, 3),
            rotations=torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
            opacities=torch.full((count,), 0.99),
            sh=((torch.tensor(COLOR) - 0.5) / SH_C0).expand(count, 1, 3),
        )
    )


@pytest.mark.parametrize("kind", ["mesh", "splats"])
def test_a_wall_has_its_colour_distance_and_normal(kind: str) -> None:
    asset = _square_asset(is_unlit=True) if kind == "mesh" else _splat_wall()
    views = render_views(asset, [FRONT, orbit_camera(-math.pi / 2, 0.3)], size=64, background=0.25)
    assert views.pictures.shape == (2, 3, 64, 64) and views.alpha.shape == views.depth.shape == (2, 64, 64)
    torch.testing.assert_close(views.pictures[0, :, 32, 32], torch.tensor(COLOR), atol=0.005, rtol=0)
    torch.testing.assert_close(views.pictures[0, :, 0, 0], torch.full((3,), 0.25))
    assert views.alpha[0, 32, 32] > 0.99 and views.alpha[0, 0, 0] == 0 == views.depth[0, 0, 0]
    assert views.depth[0, 32, 32].item() == pytest.approx(1.7, abs=1e-3)
    assert views.normals is not None and not views.normals[0, :, 0, 0].any()
    torch.testing.assert_close(views.normals[0, :, 32, 32], torch.tensor([0.0, -1.0, 0.0]), atol=1e-3, rtol=0)
    # From above the same wall is tilted; the normal stays that of object space.
    torch.testing.assert_close(views.normals[1, :, 32, 32], torch.tensor([0.0, -1.0, 0.0]), atol=0.05, rtol=0)


def test_splats_and_mesh_agree() -> None:
    mesh, splats = (render_views(a, [FRONT], size=64) for a in (_square_asset(is_unlit=True), _splat_wall()))
    inside = mesh.alpha[0] == 1
    inside[:] = inside & torch.nn.functional.max_pool2d(1 - mesh.alpha, 7, stride=1, padding=3)[0].eq(0)
    assert inside.sum() > 400
    assert (mesh.pictures - splats.pictures)[0, :, inside].abs().max() < 0.02
    assert (mesh.depth - splats.depth)[0, inside].abs().max() < 1e-3


def test_light_falls_on_meshes_that_are_not_unlit() -> None:
    lit, unlit = (
        render_views(_square_asset(is_unlit=flag), [FRONT], size=16).pictures[0, :, 8, 8] for flag in (False, True)
    )
    facing = AMBIENT + DIFFUSE * float(-LIGHT[1])
    expected = (MIN_ALBEDO + (1 - MIN_ALBEDO) * torch.tensor(COLOR)) * facing
    torch.testing.assert_close(lit, expected, atol=0.005, rtol=0)
    torch.testing.assert_close(unlit, torch.tensor(COLOR), atol=0.005, rtol=0)
    asset = _square_asset(is_unlit=True)
    torch.testing.assert_close(render_views(asset, [FRONT], size=16, lighting="shaded").pictures[0, :, 8, 8], lit)
    flipped = dataclasses.replace(asset.triangles, faces=asset.triangles.faces[:, ::-1])  # type: ignore[type-var]
    back = dataclasses.replace(asset, triangles=flipped)
    torch.testing.assert_close(render_views(back, [FRONT], size=16).pictures[0, :, 8, 8], unlit)


def test_pictures_of_splats_are_those_of_the_renderer() -> None:
    asset = _splat_wall()
    assert asset.gaussians is not None
    views = render_views(asset, [FRONT], size=48, dilation=0.3)
    plain = render_gaussians(asset.gaussians, FRONT, size=48, background=(1.0, 1.0, 1.0), dilation=0.3)
    torch.testing.assert_close(views.pictures[0], plain.color.clamp(0, 1), atol=2e-4, rtol=0)


def test_edges_mix_with_the_background() -> None:
    views = render_views(_square_asset(is_unlit=True), [orbit_camera(-math.pi / 2 + 0.3, 0.2)], size=32, background=1.0)
    edge = (views.alpha[0] > 0.1) & (views.alpha[0] < 0.9)
    assert edge.any()
    alpha = views.alpha[0, edge]
    expected = torch.tensor(COLOR)[:, None] * alpha + 1 - alpha
    torch.testing.assert_close(views.pictures[0, :, edge], expected, atol=0.01, rtol=0)


def test_wrong_numbers_are_refused() -> None:
    for cameras, size, background in (([], 8, 1.0), ([FRONT], 0, 1.0), ([FRONT], 8, 1.5)):
        with pytest.raises(InputError, match="expected at least one camera"):
            render_views(_splat_wall(), cameras, size=size, background=background)
