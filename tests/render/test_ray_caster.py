import dataclasses
import math

import numpy as np
import pytest
import torch

from mdtdist.render.cameras import orbit_camera
from mdtdist.representations.triangles import Material
from tests.data.shapes import BLUE, GREEN, RED, WHITE, facing_square, join, square

pytest.importorskip("embreex")
from mdtdist.render.ray_caster import RayCaster, camera_rays, sample_texture  # noqa: E402

FRONT = orbit_camera(-math.pi / 2, 0.0)


def _texture(rows):
    return np.array(rows, dtype=np.uint8)


def test_rays_pass_through_the_pixels_they_belong_to():
    camera = orbit_camera(0.7, 0.4)
    origins, directions = camera_rays(camera, 8)
    points = torch.from_numpy(origins + 1.7 * directions).float()
    pixels, depth = camera.project(points, 8)
    grid = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="xy"), -1).reshape(-1, 2) + 0.5
    assert torch.allclose(pixels, grid.float(), atol=1e-4)
    assert torch.allclose(depth, torch.full_like(depth, 1.7), atol=1e-5)


def test_texture_lookup_has_v_up_and_repeats():
    texture = np.array([[[0.0], [1.0]], [[2.0], [3.0]]])  # row 0 is the top
    uv = np.array([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [1.25, -0.25], [0.5, 0.75]])
    assert sample_texture(texture, uv)[:, 0].tolist() == [0.0, 1.0, 2.0, 0.0, 0.5]


def test_front_view_shows_x_to_the_right_and_z_up():
    colors = _texture([[(255, 0, 0, 255), (0, 255, 0, 255)], [(0, 0, 255, 255), (255, 255, 255, 255)]])
    caster = RayCaster(
        facing_square(-0.4, Material(color=WHITE, texture=np.kron(colors, np.ones((8, 8, 1), np.uint8))))
    )
    picture = caster.render(FRONT, size=32)
    quadrants = [picture.rgba[y, x, :3].argmax() for y, x in ((11, 11), (11, 20), (20, 11))]
    assert quadrants == [0, 1, 2]  # red top left, green top right, blue bottom left
    assert picture.rgba[20, 20, :3].min() > 150


def test_depth_is_the_distance_along_the_view_axis():
    picture = RayCaster(facing_square(-0.4, Material(color=RED))).render(FRONT, size=32)
    assert picture.depth[16, 16] == pytest.approx(1.6, abs=1e-4)
    assert picture.depth[10, 20] == pytest.approx(1.6, abs=1e-4)  # the same off the axis
    assert picture.depth[0, 0] == 0 and picture.rgba[0, 0, 3] == 0


def test_depth_agrees_with_projection_from_any_side():
    corners = [[-0.3, -0.1, -0.2], [0.4, 0.1, -0.3], [0.35, 0.2, 0.4], [-0.35, 0.0, 0.5]]
    corners[3] = (np.array(corners[0]) + np.array(corners[2]) - np.array(corners[1])).tolist()  # a plane
    camera = orbit_camera(-0.9, 0.5)
    picture = RayCaster(square(corners, Material(color=RED))).render(camera, size=256, supersampling=1)
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    pixels, depth = camera.project(torch.tensor(weights @ np.array(corners)).float(), 256)
    column, row = pixels.floor().long().unbind(-1)
    assert np.allclose(picture.depth[row, column], depth, atol=0.01)  # one pixel is 0.006 units wide


def test_winding_does_not_matter():
    mesh = join(facing_square(-0.4, Material(color=RED)), facing_square(0.1, Material(color=GREEN), half=0.45))
    flipped = dataclasses.replace(mesh, faces=mesh.faces[:, ::-1])
    camera = orbit_camera(-1.0, 0.6)
    assert (RayCaster(mesh).render(camera).rgba == RayCaster(flipped).render(camera).rgba).all()


def test_holes_show_what_is_behind():
    texture = _texture([[(255, 0, 0, 255), (255, 0, 0, 0)]])  # the right half is a hole
    front = facing_square(-0.4, Material(color=WHITE, texture=np.kron(texture, np.ones((8, 8, 1), np.uint8))))
    picture = RayCaster(join(front, facing_square(0.2, Material(color=BLUE)))).render(FRONT, size=32)
    assert picture.rgba[16, 11, :3].argmax() == 0 and picture.depth[16, 11] == pytest.approx(1.6, abs=1e-3)
    assert picture.rgba[16, 20, :3].argmax() == 2 and picture.depth[16, 20] == pytest.approx(2.2, abs=1e-3)
    alone = RayCaster(front).render(FRONT, size=32)
    assert alone.rgba[16, 20, 3] == 0 and alone.rgba[16, 11, 3] == 255


def test_glass_tints_what_is_behind_and_is_solid_before_nothing():
    glass = facing_square(-0.4, Material(color=RED, opacity=0.25))
    alone = RayCaster(glass).render(FRONT, size=32).rgba[16, 16]
    assert alone[3] == 255 and alone[0] > 150 and alone[2] < 20
    both = RayCaster(join(glass, facing_square(0.2, Material(color=BLUE)))).render(FRONT, size=32).rgba[16, 16]
    assert both[2] > 2.5 * both[0] > 0


def test_edges_are_soft_and_keep_their_colour():
    picture = RayCaster(facing_square(-0.4, Material(color=RED), half=0.37)).render(FRONT, size=32, supersampling=4)
    is_edge = (picture.rgba[..., 3] > 0) & (picture.rgba[..., 3] < 255)
    assert is_edge.any()
    full = picture.rgba[16, 16, :3].astype(int)
    assert np.abs(picture.rgba[is_edge][:, :3].astype(int) - full).max() <= 1  # straight, not darkened by black


def test_mirrored_object_gives_the_mirrored_picture():
    mesh = join(
        square([[-0.4, -0.2, -0.4], [0.1, -0.4, -0.4], [0.1, -0.4, 0.3], [-0.4, -0.2, 0.3]], Material(color=RED)),
        square([[0.1, -0.4, 0.0], [0.4, 0.3, 0.0], [0.4, 0.3, 0.3], [0.1, -0.4, 0.3]], Material(color=GREEN)),
    )
    mirrored = dataclasses.replace(mesh, vertices=mesh.vertices * np.array([-1.0, 1.0, 1.0]))
    plain = RayCaster(mesh).render(orbit_camera(-math.pi / 2 + 0.4, 0.3)).rgba
    other = RayCaster(mirrored).render(orbit_camera(-math.pi / 2 - 0.4, 0.3)).rgba
    assert (np.abs(plain[:, ::-1].astype(int) - other) > 2).mean() < 1e-3


def test_light_comes_from_above():
    camera = orbit_camera(-math.pi / 2, 0.5)
    level = [[-0.3, -0.3, 0.0], [0.3, -0.3, 0.0], [0.3, 0.3, 0.0], [-0.3, 0.3, 0.0]]
    above = RayCaster(square(level, Material(color=WHITE))).render(camera, size=16).rgba[8, 8, 0]
    below = RayCaster(square(level, Material(color=WHITE))).render(orbit_camera(-math.pi / 2, -0.5), size=16)
    assert above > below.rgba[8, 8, 0] + 30
