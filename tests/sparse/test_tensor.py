import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.sparse import SparseTensor, pack_coords, spread_over_rows, sum_over_rows
from mdtdist.sparse.tensor import voxel_keys
from tests.sparse.grids import random_grid


def test_lengths_count_the_rows_of_each_item_also_of_an_empty_one():
    coords = torch.tensor([[0, 1, 1, 1], [2, 0, 0, 0], [2, 3, 1, 0]], dtype=torch.int32)
    x = SparseTensor(torch.zeros(3, 2), coords)
    assert x.lengths == (1, 0, 2)
    assert x.batch.tolist() == [0, 2, 2]


def test_replace_keeps_voxels_and_shares_tables():
    x = random_grid((4, 3), channels=2)
    y = x.replace(x.feats * 2)
    assert y.coords is x.coords and y.cache is x.cache and torch.equal(y.feats, 2 * x.feats)


def test_pack_coords_adds_the_batch_column():
    packed = pack_coords([torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6], [7, 8, 9]])])
    assert packed.dtype == torch.int32
    assert packed.tolist() == [[0, 1, 2, 3], [1, 4, 5, 6], [1, 7, 8, 9]]


def test_keys_are_distinct_and_ordered_like_batch_x_y_z():
    axis = torch.arange(3)
    coords = torch.cartesian_prod(axis[:2], axis, axis, axis)
    assert voxel_keys(coords, 3).tolist() == list(range(54))


@pytest.mark.parametrize(
    ("feats", "coords", "message"),
    [
        (torch.zeros(2, 1), torch.zeros(2, 3, dtype=torch.int32), "expected .N, 4."),
        (torch.zeros(3, 1), torch.zeros(2, 4, dtype=torch.int32), "expected the same"),
        (torch.zeros(2, 1), torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.int32), "not contiguous"),
    ],
)
def test_bad_tables_are_refused(feats, coords, message):
    with pytest.raises((InputError, TypeError), match=f"{message}|Type-check"):  # where annotations are checked
        SparseTensor(feats, coords)


LENGTHS = (2, 0, 3)


def test_values_are_spread_over_the_rows_of_their_item():
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert spread_over_rows(values, LENGTHS)[:, 0].tolist() == [1, 1, 3, 3, 3]
    assert spread_over_rows(values[:0], ()).shape == (0, 2)


def test_rows_are_summed_by_item():
    rows = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert sum_over_rows(rows, LENGTHS).tolist() == [[3], [0], [12]]
    assert sum_over_rows(rows[:0], ()).shape == (0, 1)


def test_the_gradient_of_many_rows_is_not_rounded_at_each_of_them():
    # In bfloat16 256 + 1 is 256 again.
    values = torch.zeros(1, 3, dtype=torch.bfloat16, requires_grad=True)
    spread_over_rows(values, (1024,)).sum().backward()
    assert values.grad.tolist() == [[1024] * 3]
