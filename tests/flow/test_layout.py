import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout, randn_like


def _latents(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", ["mean", "rms", "norm"])
def test_packed_equals_dense_for_samples_of_one_length(name):
    x = _latents(3, 4, 5)
    dense = getattr(DenseLayout(3), name)(x)
    packed = getattr(PackedLayout((4, 4, 4)), name)(x.flatten(0, 1))
    assert torch.allclose(dense, packed, atol=1e-12)
    assert dense.shape == (3,)


@pytest.mark.parametrize("name", ["mean", "rms", "norm"])
def test_packed_equals_its_samples_one_by_one(name):
    lengths = (2, 5, 1)
    x = _latents(8, 3, 2)
    together = getattr(PackedLayout(lengths), name)(x)
    alone = [getattr(DenseLayout(1), name)(part[None])[0] for part in x.split(lengths)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-12)


def test_reductions_are_what_they_are_called():
    x = torch.tensor([[3.0, -4.0], [1.0, 1.0]])
    layout = DenseLayout(2)
    assert torch.allclose(layout.mean(x), torch.tensor([-0.5, 1.0]))
    assert torch.allclose(layout.rms(x), torch.tensor([12.5**0.5, 1.0]))
    assert torch.allclose(layout.norm(x), torch.tensor([5.0, 2.0**0.5]))


def test_rms_does_not_grow_with_the_sample():
    row = _latents(1, 4)
    layout = PackedLayout((1, 7))
    assert torch.allclose(*layout.rms(row.expand(8, 4)))
    norms = layout.norm(row.expand(8, 4))
    assert torch.allclose(norms[1], norms[0] * 7**0.5)


def test_expand_gives_each_row_the_value_of_its_sample():
    values = torch.tensor([1.0, 2.0, 3.0])
    assert PackedLayout((1, 3, 2)).expand(values, torch.zeros(6, 4)).tolist() == [[1], [2], [2], [2], [3], [3]]
    assert DenseLayout(3).expand(values, torch.zeros(3, 2, 2)).shape == (3, 1, 1)


def test_packed_reduction_is_differentiable():
    x = _latents(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(PackedLayout((2, 3)).rms, x)


def test_noise_follows_the_generator():
    x = torch.zeros(4, 3, dtype=torch.float64)
    first, again, other = (randn_like(x, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert first.dtype == x.dtype and first.shape == x.shape
    assert torch.equal(first, again) and not torch.equal(first, other)
