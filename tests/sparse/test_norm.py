import torch
import torch.nn.functional as F

from mdtdist.sparse import SparseGroupNorm
from tests.sparse.grids import items, random_grid, shuffled


def _norm(groups=2, channels=6):
    norm = SparseGroupNorm(groups, channels).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, channels))
        norm.bias.copy_(torch.linspace(-1, 1, channels))
    return norm


def test_equals_torch_group_norm_of_each_item():
    x, norm = random_grid((40, 7, 1), channels=6), _norm()
    x = x.replace(3 * x.feats + 5)
    y = norm(x).feats.split(x.lengths)
    for actual, item in zip(y, items(x), strict=True):
        expected = F.group_norm(item.feats.T[None], 2, norm.weight, norm.bias, norm.eps)[0].T
        assert torch.allclose(actual, expected, atol=1e-10)


def test_default_eps_is_the_published_one():
    assert SparseGroupNorm(32, 64).eps == 1e-5


def test_row_order_changes_nothing():
    x, norm = random_grid((40, 7), channels=6), _norm()
    y, order = shuffled(x)
    assert torch.allclose(norm(y).feats, norm(x).feats[order], atol=1e-12)


def test_half_precision_comes_back_as_half_and_close():
    x = random_grid((40, 7), channels=6, dtype=torch.float32)
    norm = _norm().float()
    narrow = norm(x.replace(x.feats.bfloat16())).feats
    assert narrow.dtype == torch.bfloat16
    assert (narrow.float() - norm(x).feats).abs().max() < 0.05


def test_gradcheck():
    x, norm = random_grid((9, 5), channels=6), _norm()
    assert torch.autograd.gradcheck(lambda feats: norm(x.replace(feats)).feats, x.feats.requires_grad_())
