import pytest
import torch
import torch.nn.functional as F

from mdtdist.nn import ChannelLayerNorm32, GroupNorm32, LayerNorm32, MultiHeadRMSNorm


def _x(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_query_key_norm_gives_each_head_the_length_of_its_gain():
    norm = MultiHeadRMSNorm(4, 2).double()
    with torch.no_grad():
        norm.gamma.copy_(torch.tensor([[1.0] * 4, [3.0] * 4]))
    y = norm(_x(5, 2, 4))
    assert torch.allclose(y.norm(dim=-1), torch.tensor([2.0, 6.0], dtype=torch.float64).expand(5, 2))
    assert torch.allclose(F.normalize(y, dim=-1), F.normalize(_x(5, 2, 4), dim=-1))


def test_query_key_norm_ignores_scale_down_to_tiny_vectors():
    norm, x = MultiHeadRMSNorm(4, 2).double(), _x(5, 2, 4)
    assert torch.allclose(norm(1e-8 * x), norm(x), atol=1e-9)  # an eps inside the mean square would show


def test_channel_norm_works_at_each_voxel():
    norm, x = ChannelLayerNorm32(6).double(), _x(2, 6, 3, 2, 4)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 6))
    expected = F.layer_norm(x[1, :, 2, 0, 3], (6,), norm.weight, norm.bias, 1e-5)
    assert torch.allclose(norm(x)[1, :, 2, 0, 3], expected)


@pytest.mark.parametrize("norm", [LayerNorm32(8, eps=1e-6), GroupNorm32(2, 8), MultiHeadRMSNorm(8, 3)])
def test_half_precision_is_computed_in_float32(norm):
    x = (100 * _x(4, 3, 8) if not isinstance(norm, GroupNorm32) else 100 * _x(4, 8, 3)).bfloat16()
    y = norm(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, norm(x.float()).bfloat16())


@pytest.mark.parametrize("norm", [LayerNorm32(4), MultiHeadRMSNorm(4, 3), GroupNorm32(3, 3)])
def test_gradcheck(norm):
    assert torch.autograd.gradcheck(norm.double(), _x(2, 3, 4).requires_grad_())
