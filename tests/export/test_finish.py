import dataclasses
import itertools

import numpy as np
import pytest
import trimesh

from mdtdist.errors import InputError
from mdtdist.export import budget
from mdtdist.export.finish import finish_mesh
from mdtdist.representations import Mesh
from tests.export.conftest import make_gaussians

PAINT = np.array([0.2, 0.4, 0.6])


@pytest.fixture(scope="module")
def ball():
    """1280 faces, radius 0.4; vertex colours are the direction."""
    sphere = trimesh.creation.icosphere(subdivisions=3)
    vertices = np.asarray(sphere.vertices)
    return Mesh(vertices=0.4 * vertices, faces=np.asarray(sphere.faces), vertex_colors=0.5 + 0.5 * vertices)


@pytest.fixture
def paint(ball):
    """Gaussians all over the ball in one colour."""
    return make_gaussians(ball.vertices, np.broadcast_to(PAINT, ball.vertices.shape))


def test_a_texture_from_gaussians(ball, paint):
    finished = finish_mesh(ball, paint, faces=300, texture_size=64)
    assert len(finished.mesh.faces) == 300 and finished.mesh.texture.shape == (64, 64, 3)
    np.testing.assert_allclose(finished.mesh.texture / 255, np.broadcast_to(PAINT, (64, 64, 3)), atol=3e-3)
    assert finished.mesh.vertex_colors is None and not finished.is_cut_short
    assert list(finished.seconds) == ["simplify", "unwrap", "bake"]
    about = finished.metadata()
    assert (about["faces"], about["faces_before"], about["texture_size"]) == (300, 1280, 64)
    assert about["colors"] == "texture" and about["is_cut_short"] is False


def test_vertex_colours_from_gaussians(ball, paint):
    finished = finish_mesh(ball, paint, faces=300, texture_size=None)
    assert finished.mesh.texture is None and finished.mesh.uv is None and len(finished.mesh.faces) == 300
    np.testing.assert_allclose(finished.mesh.vertex_colors - PAINT, 0, atol=1e-5)
    assert finished.metadata()["colors"] == "vertices" and list(finished.seconds) == ["simplify", "color"]


def test_vertex_colours_of_the_surface_follow_the_simplification(ball):
    mesh = finish_mesh(ball, faces=300, texture_size=None).mesh
    expected = 0.5 + 0.5 * mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.vertex_colors, expected, atol=0.05)  # observed 0.03
    untouched = finish_mesh(ball, faces=None, texture_size=None).mesh
    np.testing.assert_array_equal(untouched.vertex_colors, ball.vertex_colors)
    np.testing.assert_array_equal(untouched.vertices, ball.vertices)


def test_without_colours_the_surface_stays_plain_and_a_texture_is_refused(ball):
    plain = dataclasses.replace(ball, vertex_colors=None)
    assert finish_mesh(plain, texture_size=None).metadata()["colors"] == "none"
    with pytest.raises(InputError, match="give Gaussians, or a mesh that has them"):
        finish_mesh(plain, texture_size=64)


def test_vertices_without_faces_are_dropped(ball):
    stray = dataclasses.replace(
        ball,
        vertices=np.concatenate([ball.vertices, [[9, 9, 9]]]),
        vertex_colors=np.append(ball.vertex_colors, [PAINT], 0),
    )
    mesh = finish_mesh(stray, faces=None, texture_size=None).mesh
    assert np.abs(mesh.vertices).max() < 0.41 and len(mesh.vertices) == len(mesh.vertex_colors) == len(ball.vertices)


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock that says that a second has passed whenever it is read."""
    ticks = itertools.count()

    class Ticking(budget.TimeBudget):
        def __init__(self, seconds, *, clock=lambda: float(next(ticks))):
            super().__init__(seconds, clock=clock)

    monkeypatch.setattr("mdtdist.export.finish.TimeBudget", Ticking)


def test_a_tight_budget_gives_fewer_faces_and_texels_and_says_so(ball, paint, slow_clock):
    finished = finish_mesh(ball, paint, faces=1200, texture_size=256, time_budget=1)
    assert len(finished.mesh.faces) == 600 and finished.mesh.texture.shape == (64, 64, 3)
    assert finished.is_cut_short and finished.metadata()["texture_size"] == 64
    np.testing.assert_allclose(finished.mesh.texture / 255, np.broadcast_to(PAINT, (64, 64, 3)), atol=3e-3)


def test_a_generous_budget_changes_nothing(ball, paint, slow_clock):
    finished = finish_mesh(ball, paint, faces=1000, texture_size=128, time_budget=1e6)
    plain = finish_mesh(ball, paint, faces=1000, texture_size=128)
    assert not finished.is_cut_short
    np.testing.assert_array_equal(finished.mesh.texture, plain.mesh.texture)
    np.testing.assert_array_equal(finished.mesh.vertices, plain.mesh.vertices)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"faces": 3}, "faces is 3; expected at least 4"),
        ({"texture_size": 8}, "texture_size is 8; expected 16 to 8192 texels"),
        ({"texture_size": 10000}, "texture_size is 10000"),
        ({"time_budget": 0.0}, "time_budget is 0.0; expected seconds above 0"),
        ({"time_budget": float("nan")}, "time_budget is nan"),
    ],
)
def test_values_out_of_range_are_named(ball, options, message):
    with pytest.raises(InputError, match=message):
        finish_mesh(ball, **options)
