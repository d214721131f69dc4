import pytest
import torch
import torch.nn.functional as F

from mdtdist.sparse import SparseTensor, batch_groups, cross_attention, group_rows, grouped_attention, window_groups
from tests.sparse.grids import items, random_grid, shuffled

LENGTHS = (90, 40, 1)


def _qkv(rows, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, rows, 2, 4, generator=generator, dtype=torch.float64)


def _masked(qkv, labels):
    """Dense attention over all rows, masked to equal labels."""
    heads = [x.transpose(0, 1)[None] for x in qkv]
    mask = (labels[:, None] == labels).all(-1)
    return F.scaled_dot_product_attention(*heads, attn_mask=mask)[0].transpose(0, 1)


def _window_labels(x, window, shift):
    labels = x.coords.clone()
    labels[:, 1:] = (labels[:, 1:] + shift) // window
    return labels


@pytest.mark.parametrize("shift", [0, 2])
def test_windowed_attention_equals_masked_dense_attention(shift):
    x = random_grid(LENGTHS, channels=1, resolution=10)
    qkv = _qkv(len(x.feats))
    expected = _masked(qkv, _window_labels(x, 4, shift))
    assert torch.allclose(grouped_attention(*qkv, window_groups(x, 4, shift)), expected, atol=1e-12)


def test_shifted_windows_are_not_rolled():
    # Voxels 0 and 9 share no window of four shifted by two on a grid of ten, as rolling would have it.
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 2, 0, 0], [0, 9, 0, 0]], dtype=torch.int32)
    groups = window_groups(SparseTensor(torch.zeros(4, 1), coords), 4, 2)
    found = sorted(
        sorted(r[v].tolist())
        for rows, valid in zip(groups.rows, groups.valid, strict=True)
        for r, v in zip(rows, valid, strict=True)
    )
    assert found == [[0, 1], [2], [3]]


def test_full_attention_equals_masked_dense_attention():
    x = random_grid(LENGTHS, channels=1)
    qkv = _qkv(len(x.feats))
    expected = _masked(qkv, x.coords[:, :1])
    assert torch.allclose(grouped_attention(*qkv, batch_groups(x)), expected, atol=1e-12)


def test_groups_are_cached_for_each_window_and_shift():
    x = random_grid(LENGTHS, channels=1)
    assert window_groups(x, 4, 0) is window_groups(x.replace(x.feats + 1), 4, 0)
    sizes = {sum(map(len, window_groups(x, *key).rows)) for key in [(4, 0), (2, 0)]}
    assert len(sizes) == 2


@pytest.mark.parametrize("kind", ["window", "full"])
def test_row_order_and_other_items_change_nothing(kind):
    x = random_grid(LENGTHS, channels=1, resolution=10)
    qkv = _qkv(len(x.feats))

    def attend(grid, heads):
        return grouped_attention(*heads, window_groups(grid, 4, 2) if kind == "window" else batch_groups(grid))

    expected = attend(x, qkv)
    y, order = shuffled(x)
    assert torch.allclose(attend(y, qkv[:, order]), expected[order], atol=1e-12)
    alone = [attend(item, part) for item, part in zip(items(x), qkv.split(LENGTHS, dim=1), strict=True)]
    assert torch.allclose(torch.cat(alone), expected, atol=1e-12)


def test_every_row_is_in_exactly_one_group():
    labels = torch.tensor([4, 4, 1, 9, 4, 1, 7])
    groups = group_rows(labels)
    rows = torch.cat([r[v] for r, v in zip(groups.rows, groups.valid, strict=True)])
    assert sorted(rows.tolist()) == list(range(7))
    for table, valid in zip(groups.rows, groups.valid, strict=True):
        for row, mask in zip(table, valid, strict=True):
            assert len(labels[row[mask]].unique()) == 1


def test_places_lead_from_the_tables_back_to_the_rows():
    groups = group_rows(torch.tensor([4, 1, 4, 1, 9, 1, 4, 1]))  # 3 and 4 of a kind share a table, 1 has its own
    assert groups.is_padded == (False, True)
    flat = torch.cat([rows.flatten() for rows in groups.rows])
    assert flat[groups.places].tolist() == list(range(8))
    assert torch.cat([valid.flatten() for valid in groups.valid])[groups.places].all()


def test_cross_attention_sees_the_tokens_of_its_own_item():
    x = random_grid(LENGTHS, channels=1)
    q = _qkv(len(x.feats))[0]
    k, v = _qkv(3 * 5, seed=4)[:2].unflatten(1, (3, 5))
    actual = cross_attention(q, k, v, x.lengths)
    labels = torch.arange(3).repeat_interleave(5)
    heads = [h.transpose(0, 1)[None] for h in (q, k.flatten(0, 1), v.flatten(0, 1))]
    mask = x.batch[:, None] == labels
    expected = F.scaled_dot_product_attention(*heads, attn_mask=mask)[0].transpose(0, 1)
    assert torch.allclose(actual, expected, atol=1e-12)


def test_cross_attention_allows_an_item_without_rows():
    q = _qkv(3)[0]
    k, v = _qkv(3 * 5, seed=4)[:2].unflatten(1, (3, 5))
    y = cross_attention(q, k, v, (2, 0, 1))
    assert torch.allclose(y[2:], cross_attention(q[2:], k[2:], v[2:], (1,)))


def test_gradcheck():
    x = random_grid((4, 2), channels=1, resolution=3)
    qkv = [h[:, :1, :2].clone().requires_grad_() for h in _qkv(6)]
    assert torch.autograd.gradcheck(lambda *heads: grouped_attention(*heads, window_groups(x, 2, 1)), qkv)
    k, v = (h[:, :, :1, :2].clone().requires_grad_() for h in _qkv(6, seed=4)[:2].unflatten(1, (2, 3)))
    assert torch.autograd.gradcheck(lambda q, k, v: cross_attention(q, k, v, x.lengths), (qkv[0], k, v))
