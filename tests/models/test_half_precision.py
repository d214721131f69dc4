"""Forward passes with the torso in 16 bits, on the recorded networks, against float32 with the same stored weights."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tests.parity
from mdtdist.models import build, load, save
from mdtdist.nn import set_torso_dtype
from mdtdist.sparse import SparseTensor
from tests.models.tiny import CONFIGS, tiny
from tests.parity.replay import largest_difference, read_case
from tests.sparse.grids import random_grid

RECORDED = Path(tests.parity.__file__).parent / "data"
# Largest |difference| / max(1, max|value|) at the output layer. Observed: float16 8.3e-4 to 1.9e-3, bfloat16 5.7e-3 to
# 1.4e-2; the two types have 10 and 7 explicit bits, so the ratio of 8 is what rounding alone explains.
BOUNDS = {torch.float16: 4e-3, torch.bfloat16: 3.2e-2}
CASES = ["ss_flow", "ss_flow_p2", "slat_enc", "slat_dec_gs", "slat_dec_rf", "slat_flow", "ss_enc", "ss_dec"]

_SLOW = {(name, torch.float16) for name in ("ss_enc", "ss_dec")}  # CPUs have no fast float16 convolution
RUNS = [
    pytest.param(name, dtype, marks=[pytest.mark.slow] * ((name, dtype) in _SLOW)) for name in CASES for dtype in BOUNDS
]


def _arguments(inputs: dict[str, Tensor]) -> list[object]:
    first = inputs["x"] if "x" in inputs else SparseTensor(inputs["feats"], inputs["coords"])
    return [first, *(inputs[name] for name in ("t", "cond") if name in inputs)]


@torch.no_grad()
def _record(network: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, list[torch.dtype]]:
    """The output of the last layer, and the types in which activations reach the blocks and come out."""
    types, outputs = [], []
    matrix = next(m for m in network.blocks.modules() if isinstance(m, nn.Linear | nn.Conv3d))
    hooks = [
        matrix.register_forward_pre_hook(lambda _module, args: types.append(args[0].dtype)),
        network.out_layer.register_forward_hook(lambda _module, _args, output: outputs.append(output)),
    ]
    network(*_arguments(inputs))
    for hook in hooks:
        hook.remove()
    return outputs[0], [types[0], outputs[0].dtype]


@pytest.mark.parametrize(("name", "dtype"), RUNS)
def test_16_bit_forward_stays_within_the_bound_of_float32(name, dtype):
    case = read_case(RECORDED, name)
    network = build(case.config["name"], **case.config["args"])
    network.load_state_dict(case.weights)
    set_torso_dtype(network, dtype)
    half, types = _record(network.eval(), case.inputs)
    assert types == [dtype, torch.float32]
    set_torso_dtype(network, torch.float32)
    full, types = _record(network, case.inputs)
    assert types == [torch.float32, torch.float32]
    difference, _ = largest_difference({"raw": half}, {"raw": full})
    assert BOUNDS[dtype] / 100 < difference < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@torch.no_grad()
def test_mesh_decoder_stays_within_the_bound_too(dtype):
    # Its smallest width is large and its recorded case takes seconds, so the weights are random here.
    args = {"resolution": 8, "model_channels": 256, "latent_channels": 4, "num_blocks": 1, "window_size": 4}
    network = build("SLatMeshDecoder", **args, representation_config={"use_color": True}).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
    grid = random_grid((12,), channels=4, resolution=8, dtype=torch.float32)
    set_torso_dtype(network, dtype)
    half = network.cubes(grid).feats
    set_torso_dtype(network, torch.float32)
    full = network.cubes(grid).feats
    assert half.dtype == torch.float32 and full.std() > 0.1
    difference, _ = largest_difference({"raw": half}, {"raw": full})
    assert BOUNDS[dtype] / 100 < difference < BOUNDS[dtype]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_use_fp16_of_a_config_is_the_float16_torso(name):
    network = build(name, **CONFIGS[name], use_fp16=True)
    plain = build(name, **CONFIGS[name])
    assert {value.dtype for value in plain.state_dict().values()} == {torch.float32}
    set_torso_dtype(plain, torch.float16)
    types = {key: value.dtype for key, value in network.state_dict().items()}
    assert types == {key: value.dtype for key, value in plain.state_dict().items()}
    assert set(types.values()) == {torch.float16, torch.float32}


def test_checkpoint_keeps_the_16_bit_torso_and_is_read_in_any_type(tmp_path):
    network = tiny("SLatFlowModel", use_fp16=True).float()
    set_torso_dtype(network, torch.float16)
    save(network, tmp_path / "net")
    stored = network.state_dict()
    for dtype in (torch.float16, torch.float32, torch.bfloat16):
        again = load(tmp_path / "net", torso_dtype=dtype).state_dict()
        for key, value in stored.items():
            expected = dtype if value.dtype == torch.float16 else torch.float32
            assert again[key].dtype == expected and torch.equal(again[key], value.to(expected)), key
    assert load(tmp_path / "net").blocks[0].mlp.mlp[0].weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", BOUNDS)
def test_gradients_of_a_16_bit_torso_point_the_same_way(dtype):
    case = read_case(RECORDED, "slat_flow")
    network = build(case.config["name"], **case.config["args"])
    network.load_state_dict(case.weights)

    def gradient() -> Tensor:
        network.zero_grad()
        v = network(*_arguments(case.inputs)).feats
        (v * case.outputs["v"]).mean().backward()
        return torch.cat([p.grad.double().flatten() for p in network.parameters()])

    full = gradient()
    set_torso_dtype(network, dtype)
    half = gradient()
    # A relative error e turns a vector by about e, and 1 - cos e is e^2 / 2. Observed: 1.8e-6 and 8.0e-5.
    assert 1 - F.cosine_similarity(half, full, dim=0) < BOUNDS[dtype] ** 2 / 2
