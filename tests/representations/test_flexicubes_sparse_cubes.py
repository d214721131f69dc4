import math

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.representations.flexicubes import CubeField, extract_dual_surface, mesh_from_cubes
from mdtdist.representations.flexicubes.sparse_cubes import displaced_positions
from mdtdist.representations.flexicubes.tables import CORNERS
from tests.parity.meshes import align_mesh
from tests.representations.fields import enclosed_volume, euler_characteristic, grid_points, is_closed, sphere

_OFFSETS = torch.tensor(CORNERS)


def _random_cubes(num, resolution, *, seed=0, channels=101):
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randperm(resolution**3, generator=generator)[:num]
    coords = torch.stack([flat // resolution**2, flat // resolution % resolution, flat % resolution], dim=1)
    return torch.randn(num, channels, generator=generator, dtype=torch.float64), coords.int()


def _sphere_cubes(resolution, *, radius=0.3, shell=1.5):
    """Cubes near a sphere; their corners give its exact distance (the bias is made up for)."""
    axis = torch.arange(resolution)
    coords = torch.cartesian_prod(axis, axis, axis)
    corners = (coords[:, None] + _OFFSETS).double() / resolution - 0.5
    near = sphere(radius)(corners.mean(1)).abs() < shell / resolution
    raw = torch.zeros(int(near.sum()), 101, dtype=torch.float64)
    raw[:, :8] = sphere(radius)(corners[near]) + 1 / resolution
    return raw, coords[near]


def _plain(raw, coords, *, resolution, training=False):
    """The same on the dense grid, cube by cube: the oracle."""
    side = resolution + 1
    total, count = torch.zeros(side, side, side, 10).double(), torch.zeros(side, side, side, 1)
    values = torch.cat(
        [raw[:, :8, None] - 1 / resolution, raw[:, 8:32].view(-1, 8, 3), raw[:, 53:].view(-1, 8, 6)], dim=2
    )
    for cube, of_cube in zip(coords.tolist(), values, strict=True):
        for offset, of_corner in zip(CORNERS, of_cube, strict=True):
            place = tuple(c + o for c, o in zip(cube, offset, strict=True))
            total[place] += of_corner
            count[place] += 1
    mean = (total / count.clamp_min(1)).flatten(0, 2)
    mean[count.flatten() == 0, 0] = 1.0
    axis = torch.arange(resolution)
    cubes = torch.cartesian_prod(axis, axis, axis)
    weights = torch.zeros(resolution**3, 21).double()
    weights[(coords.long() @ torch.tensor([resolution**2, resolution, 1]))] = raw[:, 32:53]
    x, y, z = (cubes[:, None] + _OFFSETS).unbind(-1)
    positions = grid_points(resolution).double() / resolution - 0.5
    field = CubeField(
        positions=positions + (1 - 1e-8) / (2 * resolution) * torch.tanh(mean[:, 1:4]),
        sdf=mean[:, 0],
        attributes=mean[:, 4:],
        coords=cubes,
        corners=(x * side + y) * side + z,
        weights=weights,
    )
    return extract_dual_surface(field, training=training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num", [300, 20])
def test_sparse_extraction_equals_the_dense_twin(num, training):
    raw, coords = _random_cubes(num, 8)  # some cubes touch the border of the grid
    expected = _plain(raw, coords, resolution=8, training=training)
    actual = mesh_from_cubes(raw, coords, resolution=8, training=training)
    assert len(expected.faces) > 100
    vertices, faces, attributes = align_mesh(actual, expected.vertices, expected.faces)
    assert torch.allclose(vertices, expected.vertices, atol=1e-12)
    assert torch.equal(faces, expected.faces)
    assert torch.allclose(attributes, expected.attributes, atol=1e-12)


def test_order_of_the_cubes_changes_nothing():
    raw, coords = _random_cubes(60, 8)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    expected = mesh_from_cubes(raw, coords, resolution=8, training=True)
    actual = mesh_from_cubes(raw[order], coords[order], resolution=8, training=True)
    assert torch.allclose(actual.vertices, expected.vertices, atol=1e-12)
    assert torch.equal(actual.faces, expected.faces)
    assert torch.allclose(actual.training.regularizer, expected.training.regularizer)


def test_shell_of_a_sphere_is_outside_where_nobody_speaks():
    # The inner side of the shell meets the empty core, which is outside: a second, inner surface.
    raw, coords = _sphere_cubes(24)
    mesh = mesh_from_cubes(raw, coords, resolution=24)
    assert is_closed(mesh.faces) and euler_characteristic(mesh.faces) == 4
    outer = mesh.vertices.norm(dim=1) > 0.28
    on_outer = outer[mesh.faces].all(1)
    assert enclosed_volume(mesh.vertices, mesh.faces[on_outer]) == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.03)
    assert enclosed_volume(mesh.vertices, mesh.faces[~on_outer]) < 0
    assert float((mesh.vertices[outer].norm(dim=1) - 0.3).abs().max()) < 1.5 / 24**2  # observed 1.2


def test_raising_the_signed_values_shrinks_the_sphere_as_much():
    raw, coords = _sphere_cubes(24)
    raw.requires_grad_()
    mesh = mesh_from_cubes(raw, coords, resolution=24)
    radii = mesh.vertices.norm(dim=1)
    radii[radii > 0.28].mean().backward()
    assert float(raw.grad[:, :8].sum()) == pytest.approx(-1, abs=0.02)


def test_zero_channels_are_inside_and_close_around_a_cube():
    mesh = mesh_from_cubes(torch.zeros(1, 101), torch.tensor([[3, 4, 5]]), resolution=10)
    assert is_closed(mesh.faces) and euler_characteristic(mesh.faces) == 2
    center = mesh.vertices.mean(0)
    assert torch.allclose(center, torch.tensor([3.5, 4.5, 5.5]) / 10 - 0.5, atol=1e-6)
    assert enclosed_volume(mesh.vertices, mesh.faces) > 1e-3  # more than the cube: out to the crossings beyond it


def test_surface_is_open_at_the_border_of_the_grid():
    mesh = mesh_from_cubes(torch.zeros(1, 101), torch.tensor([[0, 4, 5]]), resolution=10)
    assert len(mesh.faces) > 0 and not is_closed(mesh.faces)


def test_shared_grid_vertices_take_the_mean():
    raw = torch.zeros(2, 101, dtype=torch.float64)
    coords = torch.tensor([[2, 2, 2], [3, 2, 2]])
    raw[0, 1], raw[1, 0] = 0.5, 0.1  # the vertex (3, 2, 2) is corner 1 of the first cube and corner 0 of the second
    terms = mesh_from_cubes(raw, coords, resolution=8, training=True).training
    assert len(terms.grid_sdf) == 12
    at = (terms.grid_positions - (torch.tensor([3, 2, 2]) / 8 - 0.5)).norm(dim=1).argmin()
    assert float(terms.grid_sdf[at]) == pytest.approx(0.3 - 1 / 8)
    assert int((terms.grid_sdf < -0.12).sum()) == 11


def test_displacements_move_grid_vertices_by_less_than_half_a_cube():
    vertices = torch.tensor([[0, 4, 8], [1, 2, 3]])
    raw = torch.tensor([[0.0, 0.5, -0.5], [1e9, -1e9, 0.0]], dtype=torch.float64)
    positions = displaced_positions(vertices, raw, 8)
    step = math.tanh(0.5) / 16
    assert torch.allclose(positions[0], torch.tensor([-0.5, step, 0.5 - step], dtype=torch.float64), atol=1e-8)
    half = 0.5 / 8
    expected = torch.tensor([1 / 8 - 0.5 + half, 2 / 8 - 0.5 - half, 3 / 8 - 0.5], dtype=torch.float64)
    assert torch.allclose(positions[1], expected, atol=1e-8) and float(positions[1, 0]) < 1 / 8 - 0.5 + half


def test_regularizer_of_agreeing_cubes_is_the_size_of_their_weights():
    raw = torch.zeros(2, 101, dtype=torch.float64)
    raw[:, :8] = 1.0  # outside everywhere
    raw[0, 32:52] = -0.5
    raw[:, 52] = 7.0  # gamma is left alone
    mesh = mesh_from_cubes(raw, torch.tensor([[2, 2, 2], [3, 2, 2]]), resolution=8, training=True)
    assert len(mesh.faces) == 0
    assert float(mesh.training.regularizer) == pytest.approx(0.2 * 0.25)


def test_regularizer_of_disagreeing_cubes_is_their_mean_square_distance_to_the_mean():
    raw = torch.zeros(2, 101, dtype=torch.float64)
    raw[:, :8] = 1.0
    raw[0, 1], raw[1, 0] = 1.5, 2.1  # sdf of the shared vertex (3, 2, 2): 0.3 from the mean
    raw[0, 8 + 3 * 3 + 2] = 0.8  # z displacement of (3, 3, 2), its corner 3: 0.4 from the mean
    raw[1, 53 + 6 * 4 + 5] = 0.2  # last attribute of (3, 2, 3), corner 4 of the second: 0.1 from the mean
    mesh = mesh_from_cubes(raw, torch.tensor([[2, 2, 2], [3, 2, 2]]), resolution=8, training=True)
    expected = 2 * (0.3**2 + 0.4**2 + 0.1**2) / (2 * 8 * 10)
    assert float(mesh.training.regularizer) == pytest.approx(expected)


def test_regularizer_counts_half_the_deviation():
    raw = torch.zeros(1, 101, dtype=torch.float64)
    coords = torch.tensor([[3, 3, 3]])
    raw[0, :8] = 0.1 * torch.arange(8) - 0.35
    deviation = _plain(raw, coords, resolution=8, training=True).deviation
    mesh = mesh_from_cubes(raw, coords, resolution=8, training=True)
    assert float(mesh.training.regularizer) == pytest.approx(0.5 * float(deviation.mean()))
    assert float(deviation.mean()) > 1e-4


def test_without_colours_the_shape_is_the_same():
    raw, coords = _random_cubes(40, 8)
    colored = mesh_from_cubes(raw, coords, resolution=8)
    plain = mesh_from_cubes(raw[:, :53], coords, resolution=8, training=False)
    assert plain.attributes is None and plain.training is None
    assert torch.equal(plain.vertices, colored.vertices) and torch.equal(plain.faces, colored.faces)
    assert plain.to_mesh().vertex_colors is None
    terms = mesh_from_cubes(raw[:, :53], coords, resolution=8, training=True).training
    assert float(terms.regularizer) > 0


def test_plain_mesh_keeps_what_faces_use_and_the_colours():
    raw, coords = _random_cubes(40, 8)
    extracted = mesh_from_cubes(raw.float(), coords, resolution=8)
    mesh = extracted.to_mesh()
    assert set(mesh.faces.ravel()) == set(range(len(mesh.vertices))) and len(mesh.vertices) < len(extracted.vertices)
    assert (mesh.vertices[mesh.faces] == extracted.vertices[extracted.faces].double().numpy()).all()
    assert (mesh.vertex_colors[mesh.faces] == extracted.attributes[extracted.faces][..., :3].double().numpy()).all()
    assert 0 <= mesh.vertex_colors.min() and mesh.vertex_colors.max() <= 1


def test_low_precision_is_widened():
    raw, coords = _random_cubes(40, 8)
    mesh = mesh_from_cubes(raw.half(), coords, resolution=8)
    assert mesh.vertices.dtype == torch.float32
    assert torch.equal(mesh.vertices, mesh_from_cubes(raw.half().float(), coords, resolution=8).vertices)


@pytest.mark.parametrize("num", [0, 3])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_inside_gives_an_empty_mesh(num, training):
    raw, coords = torch.full((num, 101), 2.0, requires_grad=True), torch.arange(num)[:, None].expand(-1, 3)
    mesh = mesh_from_cubes(raw, coords, resolution=8, training=training)
    assert mesh.vertices.shape == (0, 3) and mesh.faces.shape == (0, 3) and mesh.attributes.shape == (0, 6)
    assert len(mesh.to_mesh().vertices) == 0
    if training and num:
        mesh.training.regularizer.backward()
        assert torch.isfinite(raw.grad).all()


def test_wrong_inputs_are_named():
    with pytest.raises(InputError, match="40 channels; expected 53, or 101 with colours"):
        mesh_from_cubes(torch.zeros(2, 40), torch.zeros(2, 3).int(), resolution=8)
    with pytest.raises(InputError, match="2 rows of channels and 3 of coords"):
        mesh_from_cubes(torch.zeros(2, 101), torch.zeros(3, 3).int(), resolution=8)
    with pytest.raises(InputError, match=r"coords go from 1 to 8; expected cubes in \[0, 8\)"):
        mesh_from_cubes(torch.zeros(1, 101), torch.tensor([[1, 8, 2]]), resolution=8)


def test_gradcheck():
    raw, coords = _random_cubes(5, 3, seed=2)

    def extract(raw):
        mesh = mesh_from_cubes(raw, coords, resolution=3, training=True)
        terms = mesh.training
        return mesh.vertices, mesh.attributes, terms.regularizer, terms.grid_positions, terms.grid_sdf

    assert len(extract(raw)[0]) > 20
    assert torch.autograd.gradcheck(extract, raw.requires_grad_(), fast_mode=True, check_undefined_grad=False)
