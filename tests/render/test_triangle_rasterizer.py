import dataclasses
import math

import numpy as np
import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.representations.triangles import Material, TexturedTriangles
from tests.data.shapes import BLUE, GREEN, RED, WHITE, facing_square, join, square

pytest.importorskip("embreex")
pytest.importorskip("numba")
from mdtdist.render.ray_caster import AMBIENT, DIFFUSE, LIGHT, MIN_ALBEDO, Light, RayCaster  # noqa: E402
from mdtdist.render.triangle_rasterizer import TriangleRasterizer  # noqa: E402

FRONT = orbit_camera(-math.pi / 2, 0.0)


def _checker(*cells) -> np.ndarray:
    """Rows of RGBA cells, 8 x 8 texels each."""
    return np.kron(np.array(cells, dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def _soup(count: int, *materials: Material, seed: int = 0) -> TexturedTriangles:
    """Triangles that lie through each other, with colours of their own."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.5, 0.5, (count, 1, 3)) + rng.uniform(-0.15, 0.15, (count, 3, 3))
    return TexturedTriangles(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * count).reshape(-1, 3),
        uv=rng.uniform(-1, 2, (3 * count, 2)),
        vertex_colors=rng.random((3 * count, 3)),
        face_material=rng.integers(0, len(materials), count),
        materials=materials,
    )


TEXTURE = _checker([(255, 0, 0, 255), (0, 255, 0, 255)], [(0, 0, 255, 255), (255, 255, 255, 0)])
SCENES = {
    "plain": _soup(200, Material(color=WHITE)),
    "textured with holes": _soup(200, Material(color=(0.9, 0.8, 0.7), texture=TEXTURE)),
    "glass": _soup(60, Material(color=GREEN, opacity=0.3), Material(color=WHITE)),
    "glass with holes": _soup(60, Material(color=WHITE, opacity=0.4, texture=TEXTURE)),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("camera", [orbit_camera(0.7, 0.4), orbit_camera(-2.0, -1.0, radius=1.2, fov=0.6)])
def test_pictures_are_those_of_the_ray_caster(scene, camera):
    """The second camera stands near and sees a part only."""
    fast, slow = (kind(SCENES[scene]).render(camera, size=96) for kind in (TriangleRasterizer, RayCaster))
    gap = np.abs(fast.rgba.astype(int) - slow.rgba.astype(int)).max(axis=-1)
    assert (slow.rgba[..., 3] > 0).mean() > 0.2
    # Rays start and meet faces in float32, and samples on an edge or in the corner of two layers fall either way.
    assert (gap > 1).mean() < 3e-3, (gap > 1).mean()  # seen 1.4e-3, with glass
    assert (np.abs(fast.depth - slow.depth) > 1e-3).mean() < 1e-3  # seen 3e-4


def test_both_renderers_take_another_light():
    lamp = Light(direction=(0.8, 0.0, -0.6), ambient=0.2, diffuse=0.6)
    camera = orbit_camera(0.7, 0.4)
    pictures = [
        kind(SCENES["plain"]).render(camera, size=96, light=light).rgba.astype(int)
        for kind in (TriangleRasterizer, RayCaster)
        for light in (lamp, Light())
    ]
    assert (np.abs(pictures[0] - pictures[2]).max(axis=-1) > 1).mean() < 3e-3
    assert (np.abs(pictures[0] - pictures[1]).max(axis=-1) > 20).mean() > 0.1
    usual = TriangleRasterizer(SCENES["plain"]).render(camera, size=96).rgba
    assert (usual == pictures[1]).all()


def test_a_lamp_lights_the_side_that_is_seen():
    """Of a face that looks at the camera 0.6 of it, and nothing of one turned away."""
    corners = [[-0.4, -0.4, -0.4], [0.4, -0.4, -0.4], [0.4, -0.4, 0.4], [-0.4, -0.4, 0.4]]
    mesh = square(corners, Material(color=WHITE))
    for direction, factor in (((0.8, -0.6, 0.0), 0.2 + 0.5 * 0.6), ((0.8, 0.6, 0.0), 0.2)):
        lamp = Light(direction=direction, ambient=0.2, diffuse=0.5)
        for kind in (TriangleRasterizer, RayCaster):
            picture = kind(mesh).render(FRONT, size=16, light=lamp)
            assert np.abs(picture.rgba[8, 8, :3] - 255 * factor).max() <= 0.51


def test_front_view_shows_x_to_the_right_and_z_up():
    material = Material(color=WHITE, texture=_checker([(255, 0, 0, 255), (0, 255, 0, 255)], [(0, 0, 255, 255)] * 2))
    picture = TriangleRasterizer(facing_square(-0.4, material)).render(FRONT, size=32)
    assert [picture.rgba[y, x, :3].argmax() for y, x in ((11, 11), (11, 20), (20, 11))] == [0, 1, 2]


def test_colour_alpha_and_depth_in_closed_form():
    picture = TriangleRasterizer(facing_square(-0.4, Material(color=(0.5, 0.25, 1.0)))).render(FRONT, size=64)
    light = AMBIENT + DIFFUSE * -LIGHT[1]
    expected = [255 * light * (MIN_ALBEDO + (1 - MIN_ALBEDO) * c) for c in (0.5, 0.25, 1.0)]
    assert np.abs(picture.rgba[32, 32, :3] - np.array(expected)).max() <= 0.5 + 1e-4
    assert picture.depth[32, 32] == pytest.approx(1.6, abs=1e-6)
    half = 0.4 / 1.6 * FRONT.focal(64)  # 21.98 pixels: the square covers 43.96 of them a side
    sides = (picture.rgba[..., 3] > 0).any(axis=0).nonzero()[0]
    assert (sides.min(), sides.max()) == (math.floor(32 - half), math.floor(32 + half))
    assert picture.rgba[0, 0].tolist() == [0, 0, 0, 0] and picture.depth[0, 0] == 0


def test_supersampling_gives_the_share_of_a_pixel_that_is_covered():
    edge = 0.25 * 2 * math.tan(math.radians(20)) * 2 / 8  # a quarter of a pixel of 8 in a picture 2 units away
    corners = [[-1, 0, -1], [edge, 0, -1], [edge, 0, 1], [-1, 0, 1]]
    picture = TriangleRasterizer(square(corners, Material(color=RED))).render(FRONT, size=8, supersampling=4)
    assert picture.rgba[4, :, 3].tolist() == [255, 255, 255, 255, 64, 0, 0, 0]


def test_textures_are_perspective_correct():
    """A strip from 1 to 3 units away: half way in the picture is not half way along the strip."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)  # row 0, v = 1, is black
    texture = np.stack([ramp, ramp, ramp, np.full_like(ramp, 255)], axis=-1)
    strip = square([[-0.2, -1, -0.2], [0.2, -1, -0.2], [0.2, 1, -0.2], [-0.2, 1, -0.2]], Material(texture=texture))
    rasterizer = TriangleRasterizer(
        dataclasses.replace(strip, materials=(Material(color=WHITE, texture=texture),)), samples_per_unit=1e4
    )
    picture = rasterizer.render(FRONT, size=256, supersampling=1)
    light = AMBIENT + DIFFUSE * LIGHT[2]
    for y in (-0.8, 0.0, 0.8):
        pixel, _ = FRONT.project(torch.tensor([[0.0, y, -0.2]]), 256)
        row = int(pixel[0, 1])
        depth = 0.2 * FRONT.focal(256) / (row + 0.5 - 128)  # of the centre of that row
        expected = 255 * light * (MIN_ALBEDO + (1 - MIN_ALBEDO) * (1 - (depth - 1) / 2))
        assert picture.rgba[row, 128, 0] == pytest.approx(expected, abs=1.5)


def test_winding_does_not_matter():
    flipped = dataclasses.replace(SCENES["plain"], faces=SCENES["plain"].faces[:, ::-1].copy())
    camera = orbit_camera(-1.0, 0.6)
    pair = [TriangleRasterizer(mesh).render(camera, size=64).rgba.astype(int) for mesh in (SCENES["plain"], flipped)]
    assert np.abs(pair[0] - pair[1]).max() <= 1


def test_neighbouring_faces_leave_no_crack():
    """A fine grid seen at an angle: every pixel inside is covered whole."""
    steps = np.linspace(-0.4, 0.4, 41)
    x, z = (grid.reshape(-1) for grid in np.meshgrid(steps, steps, indexing="ij"))
    index = np.arange(41 * 41).reshape(41, 41)
    a, b, c, d = (part.reshape(-1) for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    plane = TexturedTriangles(
        vertices=np.stack([x, 0 * x, z], axis=1),
        faces=faces,
        uv=np.zeros((len(x), 2)),
        vertex_colors=np.ones((len(x), 3)),
        face_material=np.zeros(len(faces), dtype=np.int64),
        materials=(Material(color=RED),),
    )
    alpha = TriangleRasterizer(plane).render(FRONT, size=64).rgba[..., 3]
    inside = (alpha > 0).nonzero()
    low, high = (f(axis=0) for f in (np.array(inside).T.min, np.array(inside).T.max))
    assert (alpha[low[0] + 1 : high[0], low[1] + 1 : high[1]] == 255).all()


def test_glass_shows_what_is_behind_and_is_opaque_against_the_background():
    glass = facing_square(-0.4, Material(color=RED, opacity=0.5))
    scene = join(glass, facing_square(0.1, Material(color=BLUE), half=0.2))
    picture = TriangleRasterizer(scene).render(FRONT, size=32)
    middle, side = picture.rgba[16, 16], picture.rgba[16, 8]
    assert middle[0] == pytest.approx(middle[2], abs=1) and middle[3] == side[3] == 255
    assert side[0] > 4 * side[2]
    assert picture.depth[16, 16] == pytest.approx(1.6, abs=1e-5)  # that of the glass


def test_what_is_behind_the_camera_or_outside_the_picture_is_left_out():
    camera = Camera(camera_to_world=FRONT.camera_to_world, fov=FRONT.fov)
    behind = facing_square(-3.0, Material(color=RED))
    beside = square([[3, 0, 0], [4, 0, 0], [4, 0, 1], [3, 0, 1]], Material(color=RED))
    for mesh in (behind, beside):
        assert not TriangleRasterizer(mesh).render(camera, size=16).rgba.any()
    alone = TriangleRasterizer(facing_square(-0.4, Material(color=GREEN))).render(camera, size=16)
    both = TriangleRasterizer(join(facing_square(-0.4, Material(color=GREEN)), behind)).render(camera, size=16)
    assert (alone.rgba == both.rgba).all()


def test_a_missing_compiler_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mdtdist.render.raster_kernels", None)
    monkeypatch.delattr("mdtdist.render.raster_kernels", raising=False)
    with pytest.raises(InputError, match=r"mdtdist\[data\]"):
        TriangleRasterizer(facing_square(0.0, Material()))
