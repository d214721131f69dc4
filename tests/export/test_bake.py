import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from mdtdist.errors import InputError
from mdtdist.export.bake import bake_texture, rasterize_uv, surface_colors, vertex_colors_at
from mdtdist.export.finish import finish_mesh
from mdtdist.export.surface import extract_surface
from mdtdist.export.unwrap import unwrap
from mdtdist.representations import Mesh
from tests.export.conftest import make_gaussians

UP = np.array([[0.0, 0.0, 1.0]])


def sample_texture(mesh, faces):
    """Colour in [0, 1] at the middle of faces."""
    uv = mesh.uv[mesh.faces[faces]].mean(1)
    height, width = mesh.texture.shape[:2]
    columns, rows = (uv * [width, -height] + [0, height]).astype(int).T
    return mesh.texture[rows, columns] / 255


def test_colours_land_on_their_sides(marked_box):
    logits, gaussians = marked_box
    mesh = finish_mesh(extract_surface(logits), gaussians, faces=800, texture_size=256).mesh
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    middles = corners.mean(1)
    # Faces in the middle of a side, away from the rounded edges.
    sides = {
        (0, 1): [0.1, 0.1, 0.9],
        (1, -1): [0.1, 0.9, 0.1],
        (2, 1): [0.9, 0.1, 0.1],
        (0, -1): [0.5] * 3,
        (2, -1): [0.5] * 3,
    }
    for (axis, sign), color in sides.items():
        others = [other for other in range(3) if other != axis]
        central = (np.abs(middles[:, others]) < 0.06).all(1) & (normals[:, axis] * sign > 0.9)
        assert central.any()
        # Observed 0.04, on a face that reaches the rounded edge.
        np.testing.assert_allclose(sample_texture(mesh, np.flatnonzero(central)), [color] * central.sum(), atol=0.05)


def test_the_outer_gaussian_hides_the_inner_one():
    pair = make_gaussians(np.array([[0, 0, 0.02], [0, 0, -0.02]]), np.array([[1.0, 0, 0], [0, 0, 1.0]]))
    from_above, from_below = (surface_colors(np.zeros((1, 3)), sign * UP, pair)[0] for sign in (1, -1))
    np.testing.assert_allclose(from_above, [0.9 / 0.99, 0, 0.09 / 0.99], atol=5e-3)  # alpha 0.9, normalised by coverage
    np.testing.assert_allclose(from_below, [0.09 / 0.99, 0, 0.9 / 0.99], atol=5e-3)


def test_a_rotated_gaussian_covers_what_its_long_axis_covers():
    # The red one is long in its own x; turned by +60 degrees about z it points along (1/2, sqrt(3)/2, 0).
    on_axis, mirrored = 0.1 * np.array([[0.5, np.sqrt(0.75), 0]]), 0.1 * np.array([[0.5, -np.sqrt(0.75), 0]])
    below = [0, 0, -0.02]
    three = make_gaussians(np.concatenate([[[0, 0, 0]], on_axis + below, mirrored + below]), np.eye(3)[[0, 2, 2]])
    three.scales[0] = torch.tensor([0.3, 0.01, 0.01])
    three.rotations[0] = torch.tensor([np.cos(np.pi / 6), 0, 0, np.sin(np.pi / 6)])
    assert surface_colors(on_axis, UP, three)[0, 0] > 0.8
    assert surface_colors(mirrored, UP, three)[0, 0] < 0.1


def test_rasterised_texels_interpolate_their_own_positions():
    triangles = np.random.default_rng(0).uniform(-0.1, 1.1, (50, 3, 2))
    rows, columns, faces, weights = rasterize_uv(triangles, 64)
    uv = np.einsum("tc,tcd->td", weights, triangles[faces])
    np.testing.assert_allclose(uv[:, 0], (columns + 0.5) / 64, atol=1e-9)
    np.testing.assert_allclose(uv[:, 1], 1 - (rows + 0.5) / 64, atol=1e-9)
    assert weights.min() > -1e-8


def test_every_texel_of_a_covered_square_comes_once():
    square = np.array([[[0.0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]])
    rows, columns, _, _ = rasterize_uv(square, 7)
    assert len(set(zip(rows, columns, strict=True))) == 49


def test_gutters_copy_the_nearest_texel(quad):
    half = dataclasses.replace(quad, uv=quad.uv * 0.5)  # the lower left quarter of the texture
    texture = bake_texture(half, make_gaussians(np.array([[0, 0, 0.25]]), np.array([[0.2, 0.4, 0.6]])), size=16).texture
    np.testing.assert_array_equal(texture, np.broadcast_to([51, 102, 153], (16, 16, 3)))


@pytest.fixture(scope="module")
def rainbow():
    """A ball, fine enough to carry a pattern; the colour is the direction."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    vertices = np.asarray(ball.vertices)
    return Mesh(vertices=0.4 * vertices, faces=np.asarray(ball.faces), vertex_colors=0.5 + 0.5 * vertices)


def test_vertex_colours_are_found_on_and_between_the_vertices(rainbow):
    exact = vertex_colors_at(rainbow.vertices, rainbow.vertices, rainbow)
    np.testing.assert_allclose(exact, rainbow.vertex_colors, atol=1e-6)
    middles = rainbow.vertices[rainbow.faces].mean(1)
    colors = vertex_colors_at(middles, middles, rainbow)
    np.testing.assert_allclose(colors, 0.5 + middles / 0.8, atol=0.02)  # observed 0.01; an edge spans 0.04


def test_both_sides_of_a_thin_wall_keep_their_colours():
    front = np.array([[0.0, 0, 0.001], [1, 0, 0.001], [1, 1, 0.001], [0, 1, 0.001]])
    wall = Mesh(
        vertices=np.concatenate([front, front * [1, 1, -1]]),
        faces=np.array([[0, 1, 2], [0, 2, 3], [6, 5, 4], [7, 6, 4]]),
        vertex_colors=np.repeat([[1.0, 0, 0], [0, 0, 1.0]], 4, axis=0),
    )
    points = np.full((2, 3), [0.3, 0.4, 0.0])
    colors = vertex_colors_at(points, np.array([[0, 0, 5.0], [0, 0, -5.0]]), wall)
    np.testing.assert_allclose(colors, [[1, 0, 0], [0, 0, 1]], atol=2e-3)


def test_a_texture_of_vertex_colours(rainbow):
    small = unwrap(Mesh(vertices=rainbow.vertices, faces=rainbow.faces), texture_size=128, max_faces=400)
    textured = bake_texture(small, rainbow, size=128)
    assert textured.vertex_colors is None
    middles = textured.vertices[textured.faces].mean(1)
    expected = 0.5 + 0.5 * middles / np.linalg.norm(middles, axis=1, keepdims=True)
    np.testing.assert_allclose(sample_texture(textured, np.arange(len(middles))), expected, atol=0.06)


def test_missing_inputs_are_named(quad, marked_box):
    with pytest.raises(InputError, match="unwrap it first"):
        bake_texture(dataclasses.replace(quad, uv=None), marked_box[1])
    with pytest.raises(InputError, match="no vertex colours to take colours from"):
        bake_texture(quad, quad)
    with pytest.raises(InputError, match="no Gaussians"):
        bake_texture(quad, make_gaussians(np.zeros((0, 3)), np.zeros((0, 3))))
