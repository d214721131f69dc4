import pytest
import torch
import torch.nn.functional as F

from mdtdist.sparse import SparseConv3d, neighbor_table, sparse_conv3, sparse_conv3_plain
from mdtdist.sparse import conv as conv_module
from tests.sparse.grids import at_voxels, dense_twin, items, random_grid, shuffled

FULL, HALF, SPARSE = (216, 216), (130, 90), (12, 3)


def _weight(out_channels=4, in_channels=3):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(out_channels, 3, 3, 3, in_channels, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("lengths", [FULL, HALF, SPARSE, (1,)])
def test_convolution_equals_dense_conv3d_at_the_active_voxels(lengths):
    x, weight = random_grid(lengths, channels=3), _weight()
    expected = at_voxels(F.conv3d(dense_twin(x, 6), weight.permute(0, 4, 1, 2, 3), padding=1), x)
    assert torch.allclose(sparse_conv3(x.feats, weight, neighbor_table(x.coords)), expected, atol=1e-12)


def test_gradients_equal_those_of_dense_conv3d():
    x, weight = random_grid(HALF, channels=3), _weight().requires_grad_()
    x.feats.requires_grad_()
    upstream = torch.randn(sum(HALF), 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    dense = at_voxels(F.conv3d(dense_twin(x, 6), weight.permute(0, 4, 1, 2, 3), padding=1), x)
    expected = torch.autograd.grad((dense * upstream).sum(), (x.feats, weight))
    own = sparse_conv3(x.feats, weight, neighbor_table(x.coords))
    actual = torch.autograd.grad((own * upstream).sum(), (x.feats, weight))
    assert all(torch.allclose(a, e, atol=1e-10) for a, e in zip(actual, expected, strict=True))


def test_gradcheck():
    x = random_grid((9, 5), channels=2, resolution=3)
    weight = _weight(2, 2).requires_grad_()
    table = neighbor_table(x.coords)
    assert torch.autograd.gradcheck(lambda f, w: sparse_conv3(f, w, table), (x.feats.requires_grad_(), weight))


def test_fast_path_equals_its_plain_twin_across_chunks(monkeypatch):
    monkeypatch.setattr(conv_module, "_CPU_ROWS", 50)
    x, weight = random_grid(HALF, channels=3), _weight().requires_grad_()
    x.feats.requires_grad_()
    table = neighbor_table(x.coords)
    fast, plain = sparse_conv3(x.feats, weight, table), sparse_conv3_plain(x.feats, weight, table)
    assert torch.allclose(fast, plain, atol=1e-12)
    grads = [torch.autograd.grad((y**2).sum(), (x.feats, weight)) for y in (fast, plain)]
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(*grads, strict=True))


def test_accelerators_gather_in_few_large_parts():
    narrow, wide = (torch.empty(1, channels, device="meta") for channels in (16, 512))
    assert conv_module._rows_at_once(narrow) * 27 * 16 <= 2**27 < (conv_module._rows_at_once(narrow) + 1) * 27 * 16
    assert conv_module._rows_at_once(wide) == conv_module._rows_at_once(narrow) // 32
    assert conv_module._rows_at_once(torch.empty(1, 16)) == 2048


@pytest.mark.parametrize("convolve", [sparse_conv3, sparse_conv3_plain])
@pytest.mark.parametrize("channels", [2, 8])  # widening and narrowing take different paths
def test_forward_mode_derivative_is_the_convolution_of_the_direction(convolve, channels):
    x, weight = random_grid((9, 5), channels=channels, resolution=3), _weight(2, channels).requires_grad_()
    table = neighbor_table(x.coords)
    direction = torch.randn(x.feats.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    output, tangent = torch.func.jvp(lambda f: convolve(f, weight, table), (x.feats,), (direction,))
    assert torch.allclose(output, sparse_conv3(x.feats, weight, table), atol=1e-12)
    expected = sparse_conv3(direction, weight, table)
    assert torch.allclose(tangent, expected, atol=1e-12)
    grads = [torch.autograd.grad((y**2).sum(), weight)[0] for y in (tangent, expected)]
    assert torch.allclose(*grads, atol=1e-10)


def test_forward_mode_derivative_by_the_weight_is_refused():
    x, weight = random_grid((9, 5), channels=2, resolution=3), _weight(2, 2)
    table = neighbor_table(x.coords)
    with pytest.raises(NotImplementedError, match="weight of a sparse convolution has no forward-mode derivative"):
        torch.func.jvp(lambda w: sparse_conv3(x.feats, w, table), (weight,), (weight,))


def test_items_do_not_see_each_other():
    x, module = random_grid(HALF, channels=3), SparseConv3d(3, 4, 3).double()
    alone = torch.cat([module(item).feats for item in items(x)])
    assert torch.allclose(module(x).feats, alone, atol=1e-12)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_row_order_changes_nothing(kernel_size):
    x, module = random_grid(HALF, channels=3), SparseConv3d(3, 4, kernel_size).double()
    y, order = shuffled(x)
    assert torch.allclose(module(y).feats, module(x).feats[order], atol=1e-12)


def test_kernel_of_one_reads_its_memory_as_in_by_out():
    x, module = random_grid((4,), channels=2), SparseConv3d(2, 3, 1).double()
    with torch.no_grad():
        module.conv.weight.copy_(torch.arange(6.0).reshape(3, 1, 1, 1, 2))
        module.conv.bias.copy_(torch.tensor([10.0, 20.0, 30.0]))
    matrix = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], dtype=torch.float64)
    assert torch.allclose(module(x).feats, x.feats @ matrix + torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64))


def test_bias_is_added_once_and_keys_are_official():
    x, module = random_grid((5,), channels=3), SparseConv3d(3, 4, 3).double()
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.bias.copy_(torch.arange(4.0))
    assert torch.equal(module(x).feats, torch.arange(4.0, dtype=torch.float64).expand(5, 4))
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == {
        "conv.weight": (4, 3, 3, 3, 3),
        "conv.bias": (4,),
    }


def test_bfloat16_autocast_stays_close_to_float32():
    x, module = random_grid(HALF, channels=3, dtype=torch.float32), SparseConv3d(3, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = module(x)
    assert narrow.feats.dtype == torch.bfloat16
    wide = module(x).feats
    assert (narrow.feats.float() - wide).norm() < 0.02 * wide.norm()


def test_other_kernel_sizes_are_refused():
    with pytest.raises(ValueError, match="kernel_size is 2"):
        SparseConv3d(3, 4, 2)
