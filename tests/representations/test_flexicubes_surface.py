import math
from dataclasses import replace

import pytest
import torch

from mdtdist.representations.flexicubes import extract_dual_surface
from mdtdist.representations.flexicubes import surface as surface_module
from tests.representations.fields import (
    dense_field,
    enclosed_volume,
    euler_characteristic,
    is_closed,
    middle,
    noise,
    one_corner_field,
    sphere,
    torus,
)

CROSSED = (0, 3, 8)  # edges of a cube of which only corner 0 is inside


def _random_weights(num, *, seed=0):
    return torch.randn(num, 21, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _two_spheres(p):
    return torch.minimum(sphere(0.15, (-0.25, 0.0, 0.1))(p), sphere(0.2, (0.2, 0.05, -0.1))(p))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("sdf", "characteristic"), [(sphere(0.35), 2), (torus, 0), (_two_spheres, 4)])
def test_surfaces_are_closed_and_have_the_right_genus(sdf, characteristic, training):
    field = dense_field(sdf, 13)
    surface = extract_dual_surface(replace(field, weights=_random_weights(len(field.coords))), training=training)
    assert is_closed(surface.faces)
    assert euler_characteristic(surface.faces) == characteristic
    assert enclosed_volume(surface.vertices, surface.faces) > 0


def test_the_repair_keeps_a_random_surface_manifold(monkeypatch):
    field = dense_field(noise(8), 8)
    assert is_closed(extract_dual_surface(field).faces)
    monkeypatch.setattr(surface_module, "_repair", lambda cases, coords, tables: cases)
    assert not is_closed(extract_dual_surface(field).faces)


def test_sphere_converges_with_the_square_of_the_cube_size():
    errors, volumes = [], []
    for resolution in (12, 24):
        surface = extract_dual_surface(dense_field(sphere(0.35, (0.01, 0.02, -0.03)), resolution))
        center = torch.tensor([0.01, 0.02, -0.03], dtype=torch.float64)
        errors.append(float(((surface.vertices - center).norm(dim=1) - 0.35).abs().max()))
        volumes.append(enclosed_volume(surface.vertices, surface.faces))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25)  # observed 2.02
    assert volumes[1] == pytest.approx(4 / 3 * math.pi * 0.35**3, rel=0.02)  # observed 1.2 % less


@pytest.mark.parametrize("training", [False, True])
def test_every_triangle_of_a_sphere_faces_outward(training):
    surface = extract_dual_surface(dense_field(sphere(0.35), 12), training=training)
    a, b, c = surface.vertices[surface.faces].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    assert float(((a + b + c) * normals).sum(1).min()) > 0


def _quad_field(axis, inside_end):
    """Four cubes around one crossing edge along an axis, at the end of the grid so that no other edge is meshed."""
    values = torch.ones(3, 3, 3, dtype=torch.float64)
    place = [1, 1, 1]
    place[axis] = inside_end
    values[tuple(place)] = -1
    return dense_field(values.flatten(), 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("inside_end", [0, 2])
@pytest.mark.parametrize("training", [False, True])
def test_a_quad_faces_away_from_the_inside_end_of_its_edge(axis, inside_end, training):
    surface = extract_dual_surface(_quad_field(axis, inside_end), training=training)
    assert len(surface.faces) == (4 if training else 2)
    a, b, c = surface.vertices[surface.faces].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    expected = torch.eye(3, dtype=torch.float64)[axis] * (1 if inside_end == 0 else -1)
    # The centre of a quad is off by 1e-8 of its position, a constant of its formula.
    assert torch.allclose(normals, expected.expand_as(normals), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_diagonal_joins_the_cubes_with_the_larger_gammas(axis, sign):
    field = _quad_field(axis, 0)
    others = [a for a in range(3) if a != axis]
    diagonal = 2 * field.coords[:, others].sum(1) % 4 - 1  # -1 where both coordinates agree, else 1
    weights = torch.zeros(len(field.coords), 21, dtype=torch.float64)
    weights[:, 20] = sign * diagonal
    surface = extract_dual_surface(replace(field, weights=weights))
    first, second = (set(face.tolist()) for face in surface.faces)
    shared = surface.vertices[sorted(first & second)][:, others]
    assert len(shared) == 2 and (shared.prod(1).sign() == -sign).all()


def test_centre_of_a_quad_leans_to_the_diagonal_with_the_larger_gammas():
    field = _quad_field(2, 0)
    weights = _random_weights(len(field.coords))
    surface = extract_dual_surface(replace(field, weights=weights), training=True)
    *corners, centre = surface.vertices
    by_cube = {tuple((p[:2] > 0).int().tolist()): p for p in corners}
    gamma = {
        tuple(c[:2].tolist()): 0.99 * torch.sigmoid(w[20]) + 0.005
        for c, w in zip(field.coords, weights, strict=True)
        if c[2] == 0
    }
    straight, crossed = gamma[0, 0] * gamma[1, 1], gamma[0, 1] * gamma[1, 0]
    expected = (straight * (by_cube[0, 0] + by_cube[1, 1]) / 2 + crossed * (by_cube[0, 1] + by_cube[1, 0]) / 2) / (
        straight + crossed + 1e-8
    )
    assert torch.allclose(centre, expected, atol=1e-12)


def test_without_weights_the_vertex_is_the_mean_of_the_crossings():
    (vertex,) = extract_dual_surface(one_corner_field()).vertices
    assert torch.allclose(vertex, torch.full((3,), 1 / 6, dtype=torch.float64))


def test_beta_weighs_the_crossings():
    weights = _random_weights(1)
    weights[:, 12:20] = 0
    (vertex,) = extract_dual_surface(one_corner_field(weights=weights)).vertices
    beta = 1 + 0.99 * torch.tanh(weights[0, :12])
    expected = sum(beta[e] * middle(e) for e in CROSSED) / sum(beta[e] for e in CROSSED)
    assert torch.allclose(vertex, expected, atol=1e-12)


def test_alpha_moves_the_crossings():
    weights = _random_weights(1)
    weights[:, :12] = 0
    (vertex,) = extract_dual_surface(one_corner_field(weights=weights)).vertices
    alpha = 1 + 0.99 * torch.tanh(weights[0, 12:20])
    # Along each edge the zero of the line from -alpha_0 at corner 0 to alpha_q at the other end.
    expected = torch.stack([alpha[0] / (alpha[0] + alpha[q]) / 3 for q in (1, 2, 4)])
    assert torch.allclose(vertex, expected, atol=1e-12)


def test_attributes_pass_the_sigmoid_before_they_are_interpolated():
    raw = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    weights = _random_weights(1)
    (attributes,) = extract_dual_surface(one_corner_field(attributes=raw, weights=weights)).attributes
    beta, alpha = 1 + 0.99 * torch.tanh(weights[0, :12]), 1 + 0.99 * torch.tanh(weights[0, 12:20])
    colors = torch.sigmoid(raw)
    ends = {0: 1, 3: 4, 8: 2}
    crossing = {e: (alpha[q] * colors[0] + alpha[0] * colors[q]) / (alpha[0] + alpha[q]) for e, q in ends.items()}
    expected = sum(beta[e] * crossing[e] for e in CROSSED) / sum(beta[e] for e in CROSSED)
    assert torch.allclose(attributes, expected, atol=1e-12)


def test_deviation_measures_distances_to_the_unweighted_crossings():
    weights = _random_weights(1)
    surface = extract_dual_surface(one_corner_field(weights=weights), training=True)
    distances = torch.stack([(surface.vertices[0] - middle(e)).norm() for e in CROSSED])
    assert torch.allclose(surface.deviation, (distances - distances.mean()).abs(), atol=1e-12)
    even = extract_dual_surface(one_corner_field(), training=True)
    assert torch.allclose(even.deviation, torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_deviation_is_for_training_only():
    assert extract_dual_surface(one_corner_field()).deviation is None


def test_an_edge_is_meshed_only_if_its_four_cubes_are_listed():
    field = _quad_field(2, 0)
    below = (field.coords[:, 2] == 0).nonzero()[:, 0]
    assert len(extract_dual_surface(field.select(below)).faces) == 2
    assert len(extract_dual_surface(field.select(below[1:])).faces) == 0


def test_order_of_the_cubes_changes_nothing():
    field = dense_field(noise(6), 6)
    field = replace(field, weights=_random_weights(len(field.coords)))
    expected = extract_dual_surface(field)
    order = torch.randperm(len(field.coords), generator=torch.Generator().manual_seed(2))
    actual = extract_dual_surface(field.select(order))
    expected_triangles, actual_triangles = (
        sorted(map(tuple, s.vertices[s.faces].flatten(1).round(decimals=9).tolist())) for s in (expected, actual)
    )
    assert actual_triangles == expected_triangles


@pytest.mark.parametrize("value", [-1.0, 1.0])
@pytest.mark.parametrize("training", [False, True])
def test_no_sign_change_gives_an_empty_surface(value, training):
    field = dense_field(torch.full((64,), value, dtype=torch.float64), 3)
    surface = extract_dual_surface(replace(field, attributes=torch.zeros(64, 6).double()), training=training)
    assert surface.vertices.shape == (0, 3) and surface.faces.shape == (0, 3) and surface.attributes.shape == (0, 6)


@pytest.mark.parametrize("training", [False, True])
def test_gradcheck(training):
    field = dense_field(noise(3, seed=3), 3)
    generator = torch.Generator().manual_seed(4)
    attributes = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    inputs = (field.positions, field.sdf, attributes, _random_weights(27))

    def extract(positions, sdf, attributes, weights):
        changed = replace(field, positions=positions, sdf=sdf, attributes=attributes, weights=weights)
        surface = extract_dual_surface(changed, training=training)
        terms = (surface.vertices, surface.attributes, surface.deviation)
        return tuple(term for term in terms if term is not None)

    assert torch.autograd.gradcheck(
        extract, tuple(x.clone().requires_grad_() for x in inputs), fast_mode=True, check_undefined_grad=False
    )
