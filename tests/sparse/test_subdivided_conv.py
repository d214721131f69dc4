import pytest
import torch

from mdtdist.sparse import SparseConv3d, SparseTensor, neighbor_table, sparse_conv3_plain, subdivide
from mdtdist.sparse.subdivided_conv import subdivided_conv3, subdivided_neighbors
from tests.sparse.grids import random_grid, shuffled

LENGTHS = [(216, 216), (130, 90), (12, 3), (1,)]


def _weight(out_channels: int, in_channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(out_channels, 3, 3, 3, in_channels, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_neighbors_of_children_follow_from_those_of_their_parents(lengths):
    x, _ = shuffled(random_grid(lengths, channels=1))
    assert torch.equal(subdivided_neighbors(neighbor_table(x.coords)), neighbor_table(subdivide(x).coords))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_equals_the_convolution_of_eight_copies_forward_and_backward(lengths):
    x, weight = random_grid(lengths, channels=3), _weight(4, 3).requires_grad_()
    x.feats.requires_grad_()
    children = subdivide(x)
    expected = sparse_conv3_plain(children.feats, weight, neighbor_table(children.coords))
    actual = subdivided_conv3(x.feats, weight, neighbor_table(x.coords))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    upstream = torch.randn(actual.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted, own = (torch.autograd.grad(y, (x.feats, weight), upstream) for y in (expected, actual))
    for a, e in zip(own, wanted, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-10)


def test_gradcheck():
    x, weight = random_grid((9, 5), channels=2, resolution=3), _weight(2, 2).requires_grad_()
    table = neighbor_table(x.coords)
    assert torch.autograd.gradcheck(lambda f, w: subdivided_conv3(f, w, table), (x.feats.requires_grad_(), weight))


def test_a_layer_on_children_is_the_layer_after_subdivide():
    x = random_grid((130, 90), channels=3)
    layer = SparseConv3d(3, 4, 3).double()
    torch.nn.init.normal_(layer.conv.bias)
    expected, actual = layer(subdivide(SparseTensor(x.feats, x.coords))), layer.on_children(x)
    assert torch.equal(actual.coords, expected.coords)
    torch.testing.assert_close(actual.feats, expected.feats, rtol=0, atol=1e-12)
    assert torch.equal(actual.cache["neighbors"], neighbor_table(expected.coords))  # the next layer finds them
