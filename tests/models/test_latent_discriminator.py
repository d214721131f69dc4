"""Heads on the frozen teacher: one logit per sample and head, whatever the layout, with a way back to the latent."""

import pytest
import torch

from mdtdist.models import LatentDiscriminator, logit_field
from mdtdist.models.latent_discriminator import TokenHead, token_mean
from mdtdist.nn import DenseTokens, PackedTokens
from mdtdist.sparse import SparseTensor, batch_groups
from tests.models.tiny import tiny
from tests.sparse.grids import items, random_grid, shuffled

LENGTHS = (60, 21)
T = torch.tensor([300.0, 800.0], dtype=torch.float64)


def _random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


COND = _random(2, 5, 10, seed=2)


def _discriminator(teacher, **options):
    torch.manual_seed(0)
    return LatentDiscriminator(teacher, channels=8, **options).double()


@pytest.fixture
def dense():
    return _discriminator(tiny("SparseStructureFlowModel").requires_grad_(False))


@pytest.fixture
def sparse():
    return _discriminator(tiny("SLatFlowModel").requires_grad_(False))


def test_dense_logits_depend_on_their_own_sample_alone(dense):
    x = _random(2, 4, 4, 4, 4)
    logits = dense(x, T, COND)
    assert logits.shape == (2, 2) and logits.std() > 1e-3
    alone = [dense(x[i : i + 1], T[i : i + 1], COND[i : i + 1]) for i in range(2)]
    assert torch.allclose(torch.cat(alone), logits, atol=1e-12)


def test_sparse_logits_ignore_row_order_and_other_items(sparse):
    grid = random_grid(LENGTHS, channels=4, resolution=8)
    logits = sparse(grid, T, COND)
    assert logits.shape == (2, 2) and logits.std() > 1e-3
    other, _ = shuffled(grid)
    assert torch.allclose(sparse(other, T, COND), logits, atol=1e-9)
    alone = [sparse(item, T[i : i + 1], COND[i : i + 1]) for i, item in enumerate(items(grid))]
    assert torch.allclose(torch.cat(alone), logits, atol=1e-9)


def test_head_gives_the_same_for_packed_and_dense_tokens():
    torch.manual_seed(0)
    head = TokenHead(6, 3, 5).double()
    x, context = _random(2, 7, 6), _random(2, 3, seed=3)
    grid = random_grid((7, 7), channels=1, resolution=8)
    packed = PackedTokens(batch_groups(grid), grid.batch, grid.lengths)
    expected = head(x, DenseTokens(), context)
    assert torch.allclose(head(x.flatten(0, 1), packed, context), expected, atol=1e-12)
    assert expected.shape == (2, 1) and (expected[0] - expected[1]).abs() > 1e-3


def test_token_mean_is_that_of_each_sample():
    grid = random_grid((5, 2), channels=1, resolution=8)
    tokens, x = PackedTokens(batch_groups(grid), grid.batch, grid.lengths), _random(7, 3)
    assert torch.allclose(token_mean(x, tokens), torch.stack([x[:5].mean(0), x[5:].mean(0)]))
    assert token_mean(x.bfloat16(), tokens).dtype == torch.float32  # which can count voxels


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_gradients_reach_latent_and_heads_but_not_the_teacher(kind, request):
    discriminator = request.getfixturevalue(kind)
    teacher = discriminator.module
    grid = random_grid(LENGTHS, channels=4, resolution=8)
    x = (_random(2, 4, 4, 4, 4) if kind == "dense" else grid.feats).requires_grad_()
    latent = x if kind == "dense" else SparseTensor(x, grid.coords)
    discriminator(latent, T, COND).sum().backward()
    assert x.grad.abs().max() > 1e-6
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in discriminator.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_gradient_to_the_latent_is_right(dense):
    x = _random(1, 4, 4, 4, 4).requires_grad_()
    direction = _random(1, 4, 4, 4, 4, seed=7)
    (grad,) = torch.autograd.grad(dense(x, T[:1], COND[:1]).sum(), x)
    with torch.no_grad():
        high, low = (dense(x + h * direction, T[:1], COND[:1]).sum() for h in (1e-5, -1e-5))
    assert torch.allclose((grad * direction).sum(), (high - low) / 2e-5, rtol=1e-5)


def test_logits_depend_on_time_and_condition(dense):
    x = _random(2, 4, 4, 4, 4)
    logits = dense(x, T, COND)
    assert (dense(x, T + 50, COND) - logits).abs().min() > 1e-6
    assert (dense(x, T, COND.flip(0)) - logits).abs().min() > 1e-6


def test_only_the_heads_are_parameters_and_state(dense):
    names = set(dense.state_dict())
    assert names == {name for name, _ in dense.named_parameters()}
    assert all(name.startswith("heads.") for name in names)


def test_no_hook_stays_behind_even_after_an_error(dense):
    teacher = dense.module
    dense(_random(2, 4, 4, 4, 4), T, COND)
    with pytest.raises(RuntimeError):
        dense(_random(2, 4, 4, 4, 4), T, _random(2, 5, 9))
    assert not any(block._forward_hooks for block in teacher.blocks)


@pytest.mark.parametrize(("num_heads", "blocks"), [(1, [5]), (2, [2, 5]), (3, [1, 3, 5]), (4, [1, 2, 3, 5]), (9, None)])
def test_heads_are_spread_over_the_blocks_and_the_last_has_one(num_heads, blocks):
    teacher = tiny("SparseStructureFlowModel", num_blocks=6)
    discriminator = _discriminator(teacher, num_heads=num_heads)
    blocks = blocks or list(range(6))
    assert discriminator.block_indices == blocks
    assert discriminator(_random(1, 4, 4, 4, 4), T[:1], COND[:1]).shape == (1, len(blocks))


def test_heads_read_their_own_blocks():
    teacher = tiny("SparseStructureFlowModel", num_blocks=3)
    discriminator = _discriminator(teacher, num_heads=2)
    x = _random(1, 4, 4, 4, 4)
    before = discriminator(x, T[:1], COND[:1])
    with torch.no_grad():
        teacher.blocks[2].mlp.mlp[2].bias.add_(torch.arange(24.0))
    after = discriminator(x, T[:1], COND[:1])
    assert discriminator.block_indices == [1, 2]
    assert torch.equal(after[:, 0], before[:, 0]) and not torch.allclose(after[:, 1], before[:, 1])


def test_logit_field_hands_over_the_networks_time(dense, sparse):
    x, t = _random(2, 4, 4, 4, 4), torch.tensor([0.25, 0.5])
    expected = dense(x, torch.tensor([15.0, 30.0]), COND)
    assert torch.equal(logit_field(dense, COND, time_scale=60.0)(x, t), expected)
    grid = random_grid(LENGTHS, channels=4, resolution=8)
    field = logit_field(sparse, COND, grid.coords)
    assert torch.allclose(field(grid.feats, t), sparse(grid, 1000 * t, COND))


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="SparseStructureDecoder"):
        LatentDiscriminator(tiny("SparseStructureDecoder"))
    with pytest.raises(ValueError, match="num_heads is 0"):
        LatentDiscriminator(tiny("SparseStructureFlowModel"), num_heads=0)
