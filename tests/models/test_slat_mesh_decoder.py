from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mdtdist.models import build
from mdtdist.models.slat_mesh_decoder import SparseSubdivideBlock
from mdtdist.sparse import SparseTensor, subdivide
from tests.parity.meshes import align_mesh
from tests.parity.replay import largest_difference
from tests.representations.fields import is_closed
from tests.sparse.grids import items, random_grid, shuffled

ARGS = {
    "resolution": 8,
    "model_channels": 256,
    "latent_channels": 4,
    "num_blocks": 1,
    "num_heads": 2,
    "mlp_ratio": 0.25,
    "window_size": 4,
    "representation_config": {"use_color": True},
}
# Weights of the last subdivide block and of the head, the features of one item before them, and its mesh.
RECORD = Path(__file__).parent / "data" / "slat_dec_mesh_tail.safetensors"


def _decoder(*, seed=0, **changes):
    """A small decoder with random weights in every layer, evaluation mode."""
    network = build("SLatMeshDecoder", **{**ARGS, **changes}).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network


def _grid(lengths=(5, 3)):
    return random_grid(lengths, channels=4, resolution=8, dtype=torch.float32)


@torch.no_grad()
def test_last_block_head_and_mesh_reproduce_the_recorded_numbers():
    record = load_file(RECORD)
    network = build("SLatMeshDecoder", **ARGS).eval()
    weights = {key.removeprefix("weight."): value.float() for key, value in record.items() if key.startswith("weight.")}
    result = network.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys and not any(k.startswith(("upsample.1", "out_")) for k in result.missing_keys)
    x = network.upsample[1](SparseTensor(record["input.feats"], record["input.coords"].int()))
    raw = x.replace(network.out_layer(x.feats))
    (mesh,) = network.to_meshes(raw)
    faces = record["output.faces"].int()
    vertices, aligned, attributes = align_mesh(mesh, record["output.vertices"], faces)
    actual = {"raw": raw.feats[:24], "vertices": vertices, "faces": aligned, "attrs": attributes}
    expected = {
        "raw": record["output.raw"],
        "vertices": record["output.vertices"],
        "faces": faces,
        "attrs": record["output.vertex_attrs"],
    }
    difference, where = largest_difference(actual, expected)
    assert difference < 1e-5, where  # observed 4e-6


def test_skip_of_the_subdivide_block_is_the_convolution_of_the_copies():
    block = SparseSubdivideBlock(64, 32).double()  # its second convolution starts at zero
    x = random_grid((6, 4), channels=64)
    y = block(x)
    assert torch.equal(y.coords, subdivide(x).coords)
    assert torch.allclose(y.feats, block.skip_connection(subdivide(x)).feats, atol=1e-12)


@torch.no_grad()
def test_cubes_are_four_times_as_fine_and_ignore_row_order_and_other_items():
    network, grid = _decoder().double(), random_grid((5, 3), channels=4, resolution=8)
    cubes = network.cubes(grid)
    assert cubes.feats.shape == (64 * 8, 101) and cubes.feats.std() > 1e-3
    coarse = cubes.coords.clone()
    coarse[:, 1:] //= 4
    assert torch.equal(coarse, grid.coords.repeat_interleave(64, dim=0))
    other, order = shuffled(grid)
    expected = cubes.feats.view(8, 64, 101)
    assert torch.allclose(network.cubes(other).feats.view(8, 64, 101), expected[order], atol=1e-9)
    alone = torch.cat([network.cubes(item).feats for item in items(grid)])
    assert torch.allclose(alone, cubes.feats, atol=1e-9)


@torch.no_grad()
def test_untrained_decoder_is_solid_where_there_are_voxels():
    coords = torch.tensor([[0, 3, 3, 3], [0, 3, 3, 4], [1, 5, 5, 5]]).int()
    meshes = build("ElasticSLatMeshDecoder", **ARGS).eval()(SparseTensor(torch.randn(3, 4), coords))
    assert len(meshes) == 2
    for mesh, cell in zip(meshes, ((3, 3, 3), (5, 5, 5)), strict=True):
        assert is_closed(mesh.faces)
        low = torch.tensor(cell) / 8 - 0.5
        assert ((mesh.vertices.amin(0) - low).abs() < 1 / 32).all()
        assert torch.allclose(mesh.attributes, torch.full_like(mesh.attributes, 0.5))


def test_training_mode_adds_the_training_terms_and_gradients_reach_the_latent():
    network, grid = _decoder(), _grid()
    assert all(mesh.training is None for mesh in network(grid))
    feats = grid.feats.clone().requires_grad_()
    meshes = network.train()(grid.replace(feats))
    loss = sum(mesh.vertices.square().mean() + mesh.training.regularizer for mesh in meshes)
    loss.backward()
    assert torch.isfinite(feats.grad).all() and (feats.grad != 0).all()
    assert all(parameter.grad is not None for parameter in network.parameters())


@torch.no_grad()
def test_without_colour_there_are_53_channels():
    network = _decoder(representation_config={"use_color": False})
    assert network.cubes(_grid()).feats.shape[1] == 53
    assert all(mesh.attributes is None for mesh in network(_grid()))


@torch.no_grad()
def test_sixteen_bit_torso_keeps_the_head_in_float32_and_the_numbers_close():
    wide, narrow = _decoder(), _decoder(use_fp16=True)
    assert narrow.upsample[1].skip_connection.conv.weight.dtype == torch.float16
    assert narrow.upsample[1].act_layers[0].weight.dtype == narrow.out_layer.weight.dtype == torch.float32
    expected, actual = wide.cubes(_grid()).feats, narrow.cubes(_grid()).feats
    assert actual.dtype == torch.float32
    assert float((actual - expected).abs().max()) < 0.01 * float(expected.abs().max())


def test_a_width_that_the_norms_cannot_group_is_refused():
    with pytest.raises(ValueError, match="model_channels is 128; expected a multiple of 256"):
        build("SLatMeshDecoder", **{**ARGS, "model_channels": 128})
