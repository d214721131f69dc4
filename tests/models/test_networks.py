import pytest
import torch

from mdtdist.models import build, sample_posterior, sparse_velocity_field, velocity_field
from mdtdist.models.slat_gaussian_decoder import offset_perturbation, radical_inverse
from mdtdist.sparse import SparseTensor
from tests.models.tiny import CONFIGS, REPRESENTATION, tiny
from tests.sparse.grids import items, random_grid, shuffled

LENGTHS = (60, 21)


def _x(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sparse(name, grid, *, rows=slice(None)):
    """The outputs of a sparse network, one tensor with a row (or a set of Gaussians) per voxel."""
    network = tiny(name)
    if name == "SLatFlowModel":
        t, cond = torch.tensor([300.0, 800.0])[rows], _x(2, 5, 10, seed=2)[rows]
        return network(grid, t, cond).feats
    if name == "SLatEncoder":
        return torch.cat(network(grid), dim=1)
    fields = FIELDS[name]
    scenes = network(grid)
    parts = [torch.cat([getattr(scene, f).flatten(1 if f != "opacities" else 0) for scene in scenes]) for f in fields]
    rows_of = [part.reshape(len(grid.coords), -1) for part in parts]
    return torch.cat(rows_of, dim=1)


FIELDS = {
    "SLatGaussianDecoder": ("means", "scales", "rotations", "opacities", "sh"),
    "SLatRadianceFieldDecoder": ("coords", "trivec", "density", "features_dc"),
}
SPARSE = {"SLatFlowModel": 4, "SLatEncoder": 6, "SLatGaussianDecoder": 4, "SLatRadianceFieldDecoder": 4}


@pytest.mark.parametrize("name", sorted(SPARSE))
def test_sparse_network_ignores_row_order_and_other_items(name):
    grid = random_grid(LENGTHS, channels=SPARSE[name], resolution=8)
    expected = _sparse(name, grid)
    assert expected.std() > 1e-3
    other, order = shuffled(grid)
    atol = 1e-5 if name in FIELDS else 1e-9  # the decoders give float32
    assert torch.allclose(_sparse(name, other), expected[order], atol=atol)
    alone = [_sparse(name, item, rows=slice(i, i + 1)) for i, item in enumerate(items(grid))]
    assert torch.allclose(torch.cat(alone), expected, atol=atol)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("SparseStructureEncoder", (3, 1, 8, 8, 8)),
        ("SparseStructureDecoder", (3, 4, 4, 4, 4)),
        ("SparseStructureFlowModel", (3, 4, 4, 4, 4)),
    ],
)
def test_dense_network_treats_samples_alone(name, shape):
    network, x = tiny(name), _x(*shape)
    extra = (torch.tensor([1.0, 400.0, 900.0]), _x(3, 5, 10, seed=2)) if "Flow" in name else ()

    def run(rows):
        y = network(x[rows], *(part[rows] for part in extra))
        return y if isinstance(y, torch.Tensor) else torch.cat(y, dim=1)

    together = run(slice(None))
    assert together.std() > 1e-3
    assert torch.allclose(together, torch.cat([run(slice(i, i + 1)) for i in range(3)]), atol=1e-10)


def test_structure_vae_shapes():
    mean, logvar = tiny("SparseStructureEncoder")(_x(2, 1, 8, 8, 8))
    assert mean.shape == logvar.shape == (2, 4, 4, 4, 4)
    assert tiny("SparseStructureDecoder")(mean).shape == (2, 1, 8, 8, 8)


def test_structure_decoder_upsamples_in_place():
    # A change in one corner of the latent stays in that corner of the grid.
    network, z = tiny("SparseStructureDecoder", num_res_blocks=0, num_res_blocks_middle=0), _x(1, 4, 8, 8, 8)
    moved = z.clone()
    moved[0, :, 7, 0, 0] += 1
    changed = (network(moved) - network(z))[0, 0].abs() > 1e-12
    where = changed.nonzero()
    assert where[:, 0].min() == 9 and where[:, 1:].max() == 6


def test_posterior_sample_has_the_moments_given():
    mean, logvar = torch.full((20_000,), 2.0), torch.full((20_000,), 2.0).log() * 2
    z = sample_posterior(mean, logvar, generator=torch.Generator().manual_seed(0))
    assert abs(float(z.mean()) - 2) < 0.05 and abs(float(z.std()) - 2) < 0.05


@pytest.mark.parametrize("name", ["SparseStructureFlowModel", "SLatFlowModel"])
def test_untrained_flow_predicts_no_velocity(name):
    network, t, cond = build(name, **CONFIGS[name]), torch.tensor([500.0]), torch.randn(1, 5, 10)
    if name == "SLatFlowModel":
        grid = random_grid((20,), channels=4, resolution=8, dtype=torch.float32)
        assert (network(grid, t, cond).feats == 0).all()
    else:
        assert (network(torch.randn(1, 4, 4, 4, 4), t, cond) == 0).all()


def test_velocity_field_hands_over_a_thousand_times_t():
    network, x, cond = tiny("SparseStructureFlowModel"), _x(2, 4, 4, 4, 4), _x(2, 5, 10, seed=2)
    t = torch.tensor([0.25, 1.0])
    assert torch.equal(velocity_field(network, cond)(x, t), network(x, 1000 * t, cond))


def test_sparse_velocity_field_works_on_packed_rows():
    network, cond = tiny("SLatFlowModel"), _x(2, 5, 10, seed=2)
    grid, t = random_grid(LENGTHS, channels=4, resolution=8), torch.tensor([0.25, 1.0])
    field = sparse_velocity_field(network, cond, grid.coords)
    for feats in (grid.feats, 2 * grid.feats):  # the second call reuses the tables of the first
        expected = network(SparseTensor(feats, grid.coords), 1000 * t, cond).feats
        assert torch.equal(field(feats, t), expected)


def test_slat_flow_without_skip_connections_runs():
    network = tiny("SLatFlowModel", use_skip_connection=False)
    grid = random_grid(LENGTHS, channels=4, resolution=8)
    assert network(grid, torch.tensor([1.0, 2.0]), _x(2, 5, 10)).feats.shape == grid.feats.shape


def test_window_of_the_encoder_limits_what_a_voxel_sees_in_one_block():
    network = tiny("SLatEncoder", num_blocks=1)
    grid = random_grid((200,), channels=6, resolution=8)
    changed = grid.feats.clone()
    changed[0] += 1
    seen = ((network(grid.replace(changed))[0] - network(grid)[0]).abs() > 1e-12).any(1)
    assert torch.equal(seen, (grid.coords // 4 == grid.coords[0] // 4).all(1))


def test_gaussians_lie_near_their_voxel_in_voxel_major_order():
    grid = random_grid(LENGTHS, channels=4, resolution=8)
    scenes = tiny("SLatGaussianDecoder")(grid)
    assert [len(scene) for scene in scenes] == [4 * n for n in LENGTHS]
    for scene, item in zip(scenes, items(grid), strict=True):
        centres = ((item.coords[:, 1:] + 0.5) / 8 - 0.5).repeat_interleave(4, dim=0)
        assert ((scene.means - centres).abs() <= 1.5 / 16 + 1e-6).all()
        assert (scene.scales >= 9e-4).all()
        assert torch.allclose(scene.rotations.norm(dim=1), torch.ones(len(scene)))


def test_gaussians_of_zero_raw_values_are_the_biases():
    network = build("SLatGaussianDecoder", **CONFIGS["SLatGaussianDecoder"])  # its head starts at zero
    (scene,) = network(random_grid((3,), channels=4, resolution=8, dtype=torch.float32))
    assert torch.allclose(scene.opacities, torch.tensor(0.1))
    assert torch.allclose(scene.scales, torch.tensor((4e-3**2 + 9e-4**2) ** 0.5), rtol=1e-4)
    assert torch.equal(scene.rotations, torch.tensor([1.0, 0, 0, 0]).expand(12, 4))
    assert (scene.sh == 0).all() and torch.allclose(scene.colors, torch.tensor(0.5))


def test_exponential_scale_has_the_same_bias():
    rep = {**REPRESENTATION, "scaling_activation": "exp"}
    network = build("SLatGaussianDecoder", **{**CONFIGS["SLatGaussianDecoder"], "representation_config": rep})
    (scene,) = network(random_grid((3,), channels=4, resolution=8, dtype=torch.float32))
    assert torch.allclose(scene.scales, torch.tensor((4e-3**2 + 9e-4**2) ** 0.5), rtol=1e-4)


def test_radiance_field_names_the_raw_channels_in_their_order():
    network = tiny("SLatRadianceFieldDecoder")
    raw = torch.arange(2.0 * 26).view(2, 26)  # 2 x 3 x 3 vectors, 2 density weights, 2 x 3 colour weights
    coords = torch.tensor([[0, 1, 2, 3], [1, 4, 5, 6]], dtype=torch.int32)
    first, second = network.to_strivec(SparseTensor(raw, coords))
    assert first.coords.tolist() == [[1, 2, 3]] and second.coords.tolist() == [[4, 5, 6]] and second.resolution == 8
    assert torch.equal(first.trivec, torch.arange(18.0).view(1, 2, 3, 3) + 1)
    assert first.density.tolist() == [[18, 19]]
    assert first.features_dc.tolist() == [[[[20, 21, 22]], [[23, 24, 25]]]]
    assert second.trivec[0, 1, 2, 0] == 26 + 9 + 6 + 1


def test_perturbation_points_are_hammersley_points():
    assert [radical_inverse(n, 2) for n in range(4)] == [0, 0.5, 0.25, 0.75]
    assert radical_inverse(5, 3) == pytest.approx(2 / 3 + 1 / 9)
    points = (torch.tanh(offset_perturbation(4, 1.5)) * 1.5 + 1) / 2
    assert torch.allclose(points[3], torch.tensor([3 / 4, 3 / 4, 1 / 9]), atol=1e-6)
