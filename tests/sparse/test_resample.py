import torch

from mdtdist.sparse import SparseTensor, downsample, subdivide, upsample
from tests.sparse.grids import items, random_grid, shuffled


def test_pooling_divides_by_children_plus_one():
    coords = torch.tensor([[0, 5, 4, 1], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0]], dtype=torch.int32)
    x = SparseTensor(torch.tensor([[8.0], [3.0], [6.0], [9.0]]), coords)
    y = downsample(x)
    assert y.coords.tolist() == [[0, 0, 0, 0], [0, 2, 2, 0]]
    assert y.feats.tolist() == [[18 / 4], [8 / 2]]


def test_coarse_rows_ascend_by_batch_x_y_z():
    y = downsample(random_grid((40, 30), channels=2))
    rows = [tuple(row) for row in y.coords.tolist()]
    assert rows == sorted(set(rows))
    assert y.lengths == (sum(r[0] == 0 for r in rows), sum(r[0] == 1 for r in rows))


def test_upsampling_restores_voxels_and_copies_the_coarse_row():
    x = random_grid((40, 30), channels=2)
    coarse = downsample(x)
    fine = upsample(coarse, x)
    assert torch.equal(fine.coords, x.coords)
    row_of = {tuple(c): f for c, f in zip(coarse.coords.tolist(), coarse.feats, strict=True)}
    for (b, i, j, k), feats in zip(x.coords.tolist(), fine.feats, strict=True):
        assert torch.equal(feats, row_of[b, i // 2, j // 2, k // 2])


def test_nested_levels_are_undone_in_reverse():
    x = random_grid((60, 50), channels=2, resolution=8)
    half = downsample(x)
    quarter = downsample(half)
    assert len(quarter.feats) < len(half.feats) < len(x.feats)
    restored = upsample(upsample(quarter, half), x)
    assert torch.equal(restored.coords, x.coords)
    row_of = {tuple(c): f for c, f in zip(quarter.coords.tolist(), quarter.feats, strict=True)}
    b, i, j, k = x.coords[7].tolist()
    assert torch.equal(restored.feats[7], row_of[b, i // 4, j // 4, k // 4])


def test_pooling_ignores_row_order_and_other_items():
    x = random_grid((40, 30), channels=2)
    y, _ = shuffled(x)
    assert torch.equal(downsample(x).coords, downsample(y).coords)
    assert torch.allclose(downsample(x).feats, downsample(y).feats, atol=1e-12)
    alone = torch.cat([downsample(item).feats for item in items(x)])
    assert torch.allclose(downsample(x).feats, alone, atol=1e-12)


def test_pooling_again_uses_the_features_given():
    x = random_grid((40, 30), channels=2)
    assert torch.allclose(downsample(x.replace(3 * x.feats)).feats, 3 * downsample(x).feats)


def test_pooling_keeps_the_precision_of_the_features():
    assert downsample(random_grid((9,), channels=2, dtype=torch.float32)).feats.dtype == torch.float32
    assert downsample(random_grid((9,), channels=2)).feats.dtype == torch.float64


def test_subdivision_lists_eight_children_z_fastest():
    x = SparseTensor(torch.tensor([[1.0], [2.0]]), torch.tensor([[0, 1, 0, 3], [1, 2, 2, 2]], dtype=torch.int32))
    y = subdivide(x)
    assert y.coords[:8, 1:].tolist() == [[2 + i, j, 6 + k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    assert y.coords[8].tolist() == [1, 4, 4, 4] and y.coords.dtype == torch.int32
    assert y.feats[:, 0].tolist() == [1.0] * 8 + [2.0] * 8
    assert y.lengths == (8, 8)


def test_pooling_undoes_subdivision_up_to_the_extra_one():
    x = downsample(random_grid((40, 30), channels=2))  # sorted rows
    y = downsample(subdivide(x))
    assert torch.equal(y.coords, x.coords)
    assert torch.allclose(y.feats, x.feats * 8 / 9)


def test_gradcheck():
    x = random_grid((9, 5), channels=2, resolution=4)
    x.feats.requires_grad_()

    def there_and_back(feats):
        grid = x.replace(feats)
        return upsample(downsample(grid), grid).feats, subdivide(SparseTensor(feats, x.coords)).feats

    assert torch.autograd.gradcheck(there_and_back, x.feats)
