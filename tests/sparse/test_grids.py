import torch

from tests.sparse.grids import at_voxels, dense_twin, items, random_grid, shuffled


def test_dense_twin_and_back():
    x = random_grid((7, 20), channels=3)
    assert torch.equal(at_voxels(dense_twin(x, 6), x), x.feats)
    assert len(torch.unique(x.coords, dim=0)) == 27


def test_shuffled_moves_rows_inside_their_item_only():
    x = random_grid((7, 20), channels=3)
    y, order = shuffled(x)
    assert not torch.equal(order, torch.arange(27))
    assert torch.equal(y.batch, x.batch) and torch.equal(y.coords, x.coords[order])


def test_items_split_the_batch():
    x = random_grid((7, 20), channels=3)
    assert torch.equal(torch.cat([item.feats for item in items(x)]), x.feats)
    assert [item.lengths for item in items(x)] == [(7,), (20,)]
