import dataclasses
import math

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from mdtdist.data.small.attributes import (  # noqa: E402
    MAX_SAMPLES,
    NUM_CHANNELS,
    SAMPLES_PER_FACE,
    mirror_rule,
    sample_surface,
    voxel_attributes,
)
from mdtdist.data.views import View  # noqa: E402
from mdtdist.data.voxelize import voxelize_surface  # noqa: E402
from mdtdist.render.cameras import orbit_camera  # noqa: E402
from mdtdist.render.ray_caster import AMBIENT, DIFFUSE, LIGHT, MIN_ALBEDO  # noqa: E402
from mdtdist.render.triangle_rasterizer import TriangleRasterizer  # noqa: E402
from mdtdist.representations.triangles import Material, TexturedTriangles  # noqa: E402
from tests.data.shapes import BLUE, RED, WHITE, facing_square, join, square  # noqa: E402

R = 16
FRONT_YAW, BACK_YAW = -math.pi / 2, math.pi / 2
SHARE, NORMAL, OFFSET, OCTANTS, OCTANT_COLORS = 3, slice(4, 7), slice(7, 10), slice(10, 18), slice(18, 42)


def take(mesh, yaw, pitch=0.0, *, size=96):
    camera = orbit_camera(yaw, pitch)
    picture = TriangleRasterizer(mesh).render(camera, size=size)
    return View(camera=camera, rgba=picture.rgba, depth=picture.depth, is_cond=False)


def attributes(mesh, *views, resolution=R, seed=0):
    indices = voxelize_surface(mesh, resolution=resolution)
    values = voxel_attributes(indices, mesh, views, resolution=resolution, seed=seed)
    return {tuple(index): value for index, value in zip(indices.tolist(), values, strict=True)}


def lit(color, normal):
    """A colour as the pictures show it on a face with this normal."""
    light = AMBIENT + DIFFUSE * max(0.0, float(np.dot(normal, LIGHT)))
    return light * (MIN_ALBEDO + (1 - MIN_ALBEDO) * np.array(color))


def place(coordinate, resolution=R):
    """Voxel and offset from its centre, in voxels."""
    cell = math.floor((coordinate + 0.5) * resolution)
    return cell, (coordinate + 0.5) * resolution - cell - 0.5


def test_a_sheet_before_another_hides_it():
    """Red before blue, seen from the front and from behind, and of one view the share is one half."""
    mesh = join(facing_square(-0.21, Material(color=RED)), facing_square(0.24, Material(color=BLUE)))
    found = attributes(mesh, take(mesh, FRONT_YAW), take(mesh, BACK_YAW))
    for y, color, normal in ((-0.21, RED, (0, -1, 0)), (0.24, BLUE, (0, 1, 0))):
        cell, offset = place(y)
        value = found[8, cell, 9]
        assert value.shape == (NUM_CHANNELS,)
        np.testing.assert_allclose(value[:3], lit(color, normal), atol=1e-6)
        assert value[SHARE] == 0.5
        np.testing.assert_allclose(value[NORMAL], normal, atol=1e-6)
        np.testing.assert_allclose(value[OFFSET], [0, offset, 0], atol=0.05)
        upper = [octant >> 1 & 1 == (offset >= 0) for octant in range(8)]
        assert value[OCTANTS].tolist() == [float(flag) for flag in upper]
        np.testing.assert_allclose(value[OCTANT_COLORS].reshape(8, 3), np.tile(value[:3], (8, 1)), atol=1e-6)


def test_both_sides_count_where_both_are_seen_and_where_none_is():
    sheet = facing_square(0.02, Material(color=WHITE))
    both = (lit(WHITE, (0, -1, 0)) + lit(WHITE, (0, 1, 0))) / 2
    views = take(sheet, FRONT_YAW), take(sheet, BACK_YAW)
    value = attributes(sheet, *views)[8, place(0.02)[0], 9]
    np.testing.assert_allclose(value[:3], both, atol=1e-6)
    assert value[SHARE] == 1 and np.abs(value[NORMAL]).max() < 1e-9
    hidden = join(facing_square(-0.4, Material(color=RED)), sheet)
    value = attributes(hidden, take(hidden, FRONT_YAW))[8, place(0.02)[0], 9]
    np.testing.assert_allclose(value[:3], both, atol=1e-6)
    assert value[SHARE] == 0 and np.abs(value[NORMAL]).max() < 1e-9 and value[OCTANTS].sum() == 4


def halves(middle, y):
    """A red sheet on the left of x = middle and a blue one on the right."""
    left = square([[-0.4, y, -0.4], [middle, y, -0.4], [middle, y, 0.4], [-0.4, y, 0.4]], Material(color=RED))
    right = square([[middle, y, -0.4], [0.4, y, -0.4], [0.4, y, 0.4], [middle, y, 0.4]], Material(color=BLUE))
    return [left, right]


def test_where_a_voxel_is_seen_in_part_that_part_gives_its_colour():
    middle = (8 + 0.5) / R - 0.5
    # Of a screen at y = -0.3: where it meets the ray from the camera to a point a little right of the middle.
    edge = (middle + 0.2 / R) * 1.7 / 2.01
    screen = square([[-0.4, -0.3, -0.4], [edge, -0.3, -0.4], [edge, -0.3, 0.4], [-0.4, -0.3, 0.4]], Material())
    mesh = join(*halves(middle, 0.01), screen)
    found = attributes(mesh, take(mesh, FRONT_YAW, size=256))
    value = found[8, 8, 9]
    blue = lit(BLUE, (0, -1, 0))
    np.testing.assert_allclose(value[:3], blue, atol=1e-6)
    np.testing.assert_allclose(value[OCTANT_COLORS].reshape(8, 3), np.tile(blue, (8, 1)), atol=1e-6)
    assert value[OCTANTS].sum() == 4 and value[SHARE] == 1 and found[7, 8, 9][SHARE] == 0


def test_octants_have_the_colours_of_their_parts():
    """Left red and right blue within one voxel, which the boundary x = (8 + 0.5) / 16 - 0.5 halves."""
    mesh = join(*halves((8 + 0.5) / R - 0.5, 0.01))
    value = attributes(mesh, take(mesh, FRONT_YAW))[8, 8, 9]
    colors, has = value[OCTANT_COLORS].reshape(8, 3), value[OCTANTS] > 0
    for octant in range(8):
        i, j = octant >> 2 & 1, octant >> 1 & 1
        assert has[octant] == (j == 0)  # the sheet lies before the centre
        expected = value[:3] if j else lit((RED, BLUE)[i], (0, -1, 0))
        np.testing.assert_allclose(colors[octant], expected, atol=1e-6)
    np.testing.assert_allclose(value[:3], (lit(RED, (0, -1, 0)) + lit(BLUE, (0, -1, 0))) / 2, atol=0.05)


def test_a_voxel_that_is_only_touched_takes_the_nearest_sample():
    """The sheet reaches a hundredth of a voxel into the last one."""
    y, half = 0.01, 6.01 / R
    sheet = facing_square(y, Material(color=RED), half=half)
    found = attributes(sheet, take(sheet, FRONT_YAW))
    value, (cell, offset) = found[14, 8, 9], place(y)
    assert cell == 8 and value[OFFSET][0] == -0.5
    assert value[OFFSET][1] == pytest.approx(offset, abs=1e-9)
    np.testing.assert_allclose(value[:3], lit(RED, (0, -1, 0)))
    octant = int(value[OCTANTS].nonzero()[0][0])
    assert value[SHARE] == 1 and value[OCTANTS].sum() == 1 and (octant >> 2 & 1, octant >> 1 & 1) == (0, 0)


def test_samples_are_as_many_as_the_area_asks_for_and_skip_holes():
    texture = np.full((8, 8, 4), 255, dtype=np.uint8)
    texture[:, 4:, 3] = 0  # the right half is a hole
    plain = facing_square(0.0, Material(color=RED), half=0.4)
    samples = sample_surface(plain, resolution=64, seed=1)
    assert len(samples.points) == round(0.64 * 64**2 * SAMPLES_PER_FACE)
    quarters = np.bincount((samples.points[:, [0, 2]] > 0) @ [1, 2]) / len(samples.points)
    np.testing.assert_allclose(quarters, 0.25, atol=2e-3)  # random points would be off by 2e-3 each; seen 1e-4
    np.testing.assert_allclose(samples.points[:, 1], 0, atol=1e-12)
    half = sample_surface(facing_square(0.0, Material(texture=texture), half=0.4), resolution=64, seed=1)
    assert half.points[:, 0].max() < 0.02 and len(half.points) == pytest.approx(len(samples.points) / 2, rel=0.05)
    many = join(*(facing_square(0.1 * i, Material()) for i in range(-4, 5)))
    assert len(sample_surface(many, resolution=64, seed=0).points) == MAX_SAMPLES
    again = sample_surface(plain, resolution=64, seed=1)
    assert (again.points == samples.points).all()


def soup(seed=0):
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, size=(8, 8, 4), dtype=np.uint8)
    materials = (Material(color=(0.9, 0.5, 0.2)), Material(color=WHITE, texture=texture))
    middle = rng.uniform(-0.35, 0.35, size=(30, 1, 3))
    return TexturedTriangles(
        vertices=(middle + rng.uniform(-0.15, 0.15, size=(30, 3, 3))).reshape(-1, 3),
        faces=np.arange(90).reshape(-1, 3),
        uv=rng.random((90, 2)),
        vertex_colors=rng.random((90, 3)),
        face_material=np.arange(30) % 2,
        materials=materials,
    )


def test_attributes_of_the_mirrored_model_are_the_mirrored_attributes():
    mesh = soup()
    flipped = dataclasses.replace(mesh, vertices=mesh.vertices * np.array([-1.0, 1.0, 1.0]))
    angles = [(-1.2, 0.3), (0.4, -0.5), (2.2, 0.9)]
    plain = attributes(mesh, *(take(mesh, yaw, pitch) for yaw, pitch in angles), resolution=32)
    other = attributes(flipped, *(take(flipped, math.pi - yaw, pitch) for yaw, pitch in angles), resolution=32)
    assert {(31 - i, j, k) for i, j, k in plain} == set(other)
    order, sign = mirror_rule()
    expected = np.stack([sign * value[order] for value in plain.values()])
    found = np.stack([other[31 - i, j, k] for i, j, k in plain])
    # Samples whose pixel lies on the rim of a surface are seen in one of the two only.
    assert (np.abs(found - expected).max(axis=1) > 1e-4).mean() < 0.05
    geometry = [*range(7, 18)]
    np.testing.assert_allclose(found[:, geometry], expected[:, geometry], atol=1e-6)
    wrong = [np.arange(NUM_CHANNELS) != order, sign < 0]
    assert wrong[0].sum() == 8 + 24 and wrong[1].sum() == 2
    assert np.abs(found - np.stack(list(plain.values()))).max(axis=0)[wrong[0] | wrong[1]].min() > 0.1
    np.testing.assert_array_equal(order[order], np.arange(NUM_CHANNELS))


def test_colours_are_those_of_the_pictures():
    """Four quarters of a texture, upright as seen from the front, under a tilt that the lamp tells from another."""
    colors = np.array([[(200, 30, 30, 255), (30, 200, 30, 255)], [(30, 30, 200, 255), (200, 200, 30, 255)]])
    texture = np.repeat(np.repeat(colors.astype(np.uint8), 8, axis=0), 8, axis=1)
    corners = [[-0.4, -0.3, -0.4], [0.4, -0.3, -0.4], [0.4, 0.1, 0.4], [-0.4, 0.1, 0.4]]
    mesh = square(corners, Material(color=WHITE, texture=texture))
    view = take(mesh, FRONT_YAW, size=64)
    found = attributes(mesh, view)
    for x, z in ((-0.2, 0.2), (0.2, 0.2), (-0.2, -0.2), (0.2, -0.2)):
        y = -0.1 + 0.25 * z * 2
        value = found[place(x)[0], place(y)[0], place(z)[0]]
        pixel, _ = view.camera.project(torch.tensor([[x, y, z]]), 64)
        column, row = pixel[0].long().tolist()
        np.testing.assert_allclose(value[:3], view.rgba[row, column, :3] / 255, atol=0.02)
        assert value[NORMAL] @ np.array([0, -0.8, 0.4]) / math.hypot(0.8, 0.4) == pytest.approx(1, abs=1e-6)
