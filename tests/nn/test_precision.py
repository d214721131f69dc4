import pytest
import torch
from torch import nn

from mdtdist.nn import LayerNorm32, SelfAttention, narrow, set_torso_dtype
from mdtdist.sparse import SparseConv3d


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Linear(4, 8)
        self.blocks = nn.ModuleList([SelfAttention(8, 2, qk_rms_norm=True), LayerNorm32(8)])
        self.upsample = nn.Sequential(SparseConv3d(8, 4, 1), nn.Conv3d(4, 4, 3))
        self.out_layer = nn.Linear(4, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_matrices_of_the_torso_change_their_type_and_nothing_else(dtype):
    network = _Network()
    set_torso_dtype(network, dtype)
    changed = {key for key, value in network.state_dict().items() if value.dtype == dtype}
    matrices = ("blocks.0.to_qkv", "blocks.0.to_out", "upsample.0.conv", "upsample.1")
    assert changed == {f"{name}.{part}" for name in matrices for part in ("weight", "bias")}
    set_torso_dtype(network, torch.float32)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_activations_follow_a_torso_of_16_bits_only():
    network, x = _Network(), torch.randn(3)
    assert narrow(network, x) is x
    assert narrow(network, x.bfloat16()).dtype == torch.bfloat16  # autocast chose it
    assert narrow(network.double(), x) is x
    set_torso_dtype(network, torch.float16)
    assert narrow(network, x).dtype == torch.float16
    assert narrow(nn.Linear(2, 2).half(), x) is x  # no torso at all
