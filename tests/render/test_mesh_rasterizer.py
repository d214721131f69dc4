"""The mesh rasteriser against closed forms."""

import math

import numpy as np
import pytest
import torch

from mdtdist.render import orbit_camera, render_mesh
from mdtdist.render.mesh_rasterizer import visible_pixels
from mdtdist.representations import Mesh

FRONT = orbit_camera(-math.pi / 2, 0.0)
RED, BLUE = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def square(y: float, half: float, **options) -> Mesh:
    """Parallel to the picture of the front camera."""
    corners = np.array([[-half, y, -half], [half, y, -half], [half, y, half], [-half, y, half]])
    return Mesh(vertices=corners, faces=np.array([[0, 1, 2], [0, 2, 3]]), **options)


def test_a_square_covers_what_the_pinhole_model_says():
    picture = render_mesh(square(0.0, 0.3), FRONT, size=64, supersampling=4)
    side = 0.6 / 2.0 * FRONT.focal(64)
    assert (picture[..., 3] / 255).sum() == pytest.approx(side**2, rel=0.02)
    assert (picture[32, 32] == [204, 204, 204, 255]).all() and picture[2, 2, 3] == 0


def test_the_nearer_surface_is_seen_from_either_side():
    red, blue = square(-0.2, 0.2), square(0.2, 0.4)
    both = Mesh(
        vertices=np.concatenate([red.vertices, blue.vertices]),
        faces=np.concatenate([red.faces, blue.faces + 4]),
        vertex_colors=np.concatenate([np.tile(RED, (4, 1)), np.tile(BLUE, (4, 1))]),
    )
    assert (render_mesh(both, FRONT, size=64)[32, 32, :3] == [255, 0, 0]).all()
    assert (render_mesh(both, orbit_camera(math.pi / 2, 0.0), size=64)[32, 32, :3] == [0, 0, 255]).all()


def test_textures_are_upright():
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    texture = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    picture = render_mesh(square(0.0, 0.4, uv=uv, texture=texture), FRONT, size=64)[..., :3]
    assert (picture[20, 20] == texture[0, 0]).all() and (picture[20, 44] == texture[0, 1]).all()
    assert (picture[44, 20] == texture[1, 0]).all() and (picture[44, 44] == texture[1, 1]).all()


def test_weights_give_back_the_point_on_a_slanted_surface():
    """Screen-space weights would be off by several hundredths here."""
    mesh = Mesh(
        vertices=np.array([[-0.4, -0.5, -0.4], [0.4, -0.5, -0.4], [0.0, 0.5, 0.4]]), faces=np.array([[0, 1, 2]])
    )
    rows, columns, faces, weights = visible_pixels(mesh, FRONT, 64)
    points = np.einsum("pc,pcd->pd", weights, mesh.vertices[mesh.faces[faces]])
    pixels, _ = FRONT.project(torch.from_numpy(points).float(), 64)
    np.testing.assert_allclose(pixels.numpy(), np.stack([columns, rows], -1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


def test_nothing_behind_the_camera_and_nothing_of_nothing():
    assert not render_mesh(square(-2.5, 0.3), FRONT, size=16).any()
    empty = Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), dtype=np.int64))
    assert not render_mesh(empty, FRONT, size=16).any()
