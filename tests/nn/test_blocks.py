import pytest
import torch
import torch.nn.functional as F

from mdtdist.nn import (
    CrossAttention,
    DenseTokens,
    FeedForward,
    ModulatedCrossBlock,
    PackedTokens,
    SelfAttention,
    SparseResBlock,
    TransformerBlock,
)
from mdtdist.sparse import batch_groups, downsample, upsample
from tests.sparse.grids import items, random_grid, shuffled

C, HEADS = 8, 2


def _randomised(module, seed=0):
    """Float64, every parameter random: zero-initialised layers would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return module


def _x(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _naive(q, k, v):
    """Softmax attention ``[B, L, H, d]`` spelled out."""
    scores = torch.einsum("blhd,bmhd->bhlm", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhlm,bmhd->blhd", scores.softmax(-1), v)


def _packed(lengths, **options):
    grid = random_grid(lengths, channels=C, **options)
    return grid, PackedTokens(batch_groups(grid), grid.batch, grid.lengths)


def test_self_attention_reads_q_k_v_outermost_then_heads():
    layer, x = _randomised(SelfAttention(C, HEADS, qk_rms_norm=True)), _x(2, 5, C)
    q, k, v = (part.reshape(2, 5, HEADS, C // HEADS) for part in layer.to_qkv(x).split(C, dim=-1))
    q = F.normalize(q, dim=-1) * layer.q_rms_norm.gamma * (C / HEADS) ** 0.5
    k = F.normalize(k, dim=-1) * layer.k_rms_norm.gamma * (C / HEADS) ** 0.5
    assert torch.allclose(layer(x, DenseTokens()), layer.to_out(_naive(q, k, v).flatten(2)), atol=1e-12)


def test_cross_attention_reads_k_v_outermost_then_heads():
    layer, x, cond = _randomised(CrossAttention(C, 6, HEADS)), _x(2, 5, C), _x(2, 3, 6, seed=2)
    q = layer.to_q(x).reshape(2, 5, HEADS, -1)
    k, v = (part.reshape(2, 3, HEADS, -1) for part in layer.to_kv(cond).split(C, dim=-1))
    assert torch.allclose(layer(x, cond, DenseTokens()), layer.to_out(_naive(q, k, v).flatten(2)), atol=1e-12)


def test_feed_forward_uses_the_tanh_form_of_gelu():
    layer, x = _randomised(FeedForward(C, 2)), _x(4, C)
    expected = layer.mlp[2](F.gelu(layer.mlp[0](x), approximate="tanh"))
    assert torch.allclose(layer(x), expected, atol=1e-14)
    assert not torch.allclose(layer(x), layer.mlp[2](F.gelu(layer.mlp[0](x))), atol=1e-6)


def test_plain_block_formula():
    block, x, tokens = _randomised(TransformerBlock(C, HEADS)), _x(2, 5, C), DenseTokens()
    h = x + block.attn(F.layer_norm(x, (C,), eps=1e-6), tokens)
    assert torch.allclose(block(x, tokens), h + block.mlp(F.layer_norm(h, (C,), eps=1e-6)), atol=1e-12)


@pytest.mark.parametrize("share_mod", [False, True])
def test_modulated_block_formula(share_mod):
    block = _randomised(ModulatedCrossBlock(C, 6, HEADS, qk_rms_norm=True, share_mod=share_mod))
    x, cond, tokens = _x(2, 5, C), _x(2, 3, 6, seed=2), DenseTokens()
    mod = _x(2, 6 * C if share_mod else C, seed=3)
    six = mod if share_mod else block.adaLN_modulation[1](F.silu(mod))
    s1, c1, g1, s2, c2, g2 = six[:, None].split(C, dim=-1)
    h = x + g1 * block.self_attn(F.layer_norm(x, (C,), eps=1e-6) * (1 + c1) + s1, tokens)
    h = h + block.cross_attn(F.layer_norm(h, (C,), block.norm2.weight, block.norm2.bias, 1e-6), cond, tokens)
    h = h + g2 * block.mlp(F.layer_norm(h, (C,), eps=1e-6) * (1 + c2) + s2)
    assert torch.allclose(block(x, mod, cond, tokens), h, atol=1e-12)


def test_modulated_block_is_the_same_on_packed_and_dense_tokens():
    block = _randomised(ModulatedCrossBlock(C, 6, HEADS, qk_rms_norm=True))
    grid, tokens = _packed((5, 5))
    mod, cond = _x(2, C, seed=3), _x(2, 3, 6, seed=2)
    packed = block(grid.feats, mod, cond, tokens)
    dense = block(grid.feats.unflatten(0, (2, 5)), mod, cond, DenseTokens())
    assert torch.allclose(packed.unflatten(0, (2, 5)), dense, atol=1e-12)


def test_modulated_block_ignores_row_order_and_other_items():
    block = _randomised(ModulatedCrossBlock(C, 6, HEADS))
    grid, tokens = _packed((7, 3))
    mod, cond = _x(2, C, seed=3), _x(2, 3, 6, seed=2)
    expected = block(grid.feats, mod, cond, tokens)
    other, order = shuffled(grid)
    again = block(other.feats, mod, cond, PackedTokens(batch_groups(other), other.batch, other.lengths))
    assert torch.allclose(again, expected[order], atol=1e-12)
    for i, (item, rows) in enumerate(zip(items(grid), expected.split(grid.lengths), strict=True)):
        alone = PackedTokens(batch_groups(item), item.batch, item.lengths)
        assert torch.allclose(block(item.feats, mod[i : i + 1], cond[i : i + 1], alone), rows, atol=1e-12)


def test_untrained_modulated_block_passes_tokens_through_but_for_the_condition():
    block, x, cond = ModulatedCrossBlock(C, 6, HEADS).double(), _x(2, 5, C), _x(2, 3, 6, seed=2)
    y = block(x, _x(2, C, seed=3), cond, DenseTokens())
    assert torch.allclose(y, x + block.cross_attn(block.norm2(x), cond, DenseTokens()))


@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_sparse_residual_block_formula(kind):
    fine = random_grid((40, 25), channels=C)
    x = downsample(fine) if kind == "up" else fine
    block, emb = _randomised(SparseResBlock(C, 5, 6, down=kind == "down", up=kind == "up")), _x(2, 5, seed=2)
    y = block(x, emb, fine if kind == "up" else None)
    if kind != "same":
        x = downsample(x) if kind == "down" else upsample(x, fine)
    scale, shift = block.emb_layers[1](F.silu(emb))[x.batch].split(6, dim=1)
    h = block.conv1(x.replace(F.silu(F.layer_norm(x.feats, (C,), block.norm1.weight, block.norm1.bias, 1e-6))))
    h = block.conv2(x.replace(F.silu(F.layer_norm(h.feats, (6,), eps=1e-6) * (1 + scale) + shift)))
    assert torch.equal(y.coords, x.coords)
    assert torch.allclose(y.feats, h.feats + block.skip_connection(x.feats), atol=1e-12)


def test_gradcheck():
    block = _randomised(SparseResBlock(2, 2, 2))
    grid = random_grid((4, 2), channels=2, resolution=3)
    emb = _x(2, 2).requires_grad_()
    grid.feats.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda feats, emb: block(grid.replace(feats), emb).feats, (grid.feats, emb), fast_mode=True
    )
    attention, x = _randomised(SelfAttention(4, 2, qk_rms_norm=True)), _x(1, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention(x, DenseTokens()), x, fast_mode=True)
