"""What a network is told beside the time: official without it, unchanged at first with it, exact in forward mode."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from mdtdist.errors import InputError
from mdtdist.models import (
    build,
    extra_embeddings,
    load,
    network_args,
    save,
    sparse_velocity_field,
    velocity_field,
    with_extra_embeddings,
)
from mdtdist.nn import set_torso_dtype
from mdtdist.objectives.residual import forward_derivative
from mdtdist.sparse import pack_coords
from tests.models.tiny import CONFIGS, tiny

NAMES = ("SparseStructureFlowModel", "SLatFlowModel")
BOTH = ["interval", "guidance"]
COORDS = pack_coords(
    [torch.tensor([[0, 0, 0], [0, 1, 0], [3, 2, 1], [3, 3, 1], [7, 7, 7]]), torch.tensor([[1, 1, 1], [1, 2, 1]])]
)
T = torch.tensor([0.4, 0.7], dtype=torch.float64)
R, W = torch.tensor([0.1, 0.35], dtype=torch.float64), torch.tensor([1.0, 3.0], dtype=torch.float64)


def _state(name, seed=0):
    shape = (2, 4, 4, 4, 4) if name == NAMES[0] else (len(COORDS), 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _field(network, time_scale=2.0):
    """Of a network on two samples; a small time scale keeps the derivatives small."""
    dtype = next(network.parameters()).dtype
    cond = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    if type(network).__name__ == NAMES[0]:
        return velocity_field(network, cond, time_scale=time_scale)
    return sparse_velocity_field(network, cond, COORDS, time_scale=time_scale)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_has_the_official_keys_and_those_of_its_extra_embedders(name):
    plain = build(name, **CONFIGS[name]).state_dict()
    assert not any("extra" in key for key in plain)
    extended = build(name, **CONFIGS[name], extra_embeddings=["guidance"]).state_dict()
    layers = {key.removeprefix("t_embedder."): value.shape for key, value in plain.items() if "t_embedder" in key}
    added = {key: value.shape for key, value in extended.items() if key not in plain}
    assert added == {f"extra_embedders.guidance.{key}": shape for key, shape in layers.items()}
    assert plain.keys() <= extended.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changes", [{}, {"share_mod": True}])
def test_a_network_answers_as_before_while_the_new_embedders_are_silent(name, changes):
    network = tiny(name, **changes)
    extended = with_extra_embeddings(network, BOTH)
    before, x = _field(network)(_state(name), T), _state(name)
    assert torch.equal(_field(extended)(x, T), before)
    assert torch.equal(_field(extended)(x, T, r=R, w=W), before)
    assert extra_embeddings(network) == set() and extra_embeddings(extended) == set(BOTH)


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_embedder_is_heard(name):
    field, x = _field(tiny(name, extra_embeddings=BOTH)), _state(name)
    plain = field(x, T)
    assert torch.equal(field(x, T, r=0.0, w=0.0), plain)
    for told in ({"r": R}, {"w": W}):
        assert (field(x, T, **told) - plain).abs().max() > 1e-3
    # Each sample hears its own.
    first = field(x, T, r=torch.stack([R[0], 0 * R[1]]))
    rows = first.flatten(1) != plain.flatten(1)
    assert rows[0].any() and not rows[-1].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_network_built_with_embedders_starts_silent_but_trainable(name):
    network = build(name, **CONFIGS[name], extra_embeddings=BOTH)
    for embedder in network.extra_embedders.values():
        assert all((parameter == 0).all() for parameter in embedder.mlp[2].parameters())
        assert 0.01 < embedder.mlp[0].weight.std() < 0.03
    with torch.no_grad():  # an untrained network is zero for several reasons; leave this one
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    _field(network)(_state(name).float(), T.float(), r=R.float(), w=W.float()).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.extra_embedders.parameters())


def test_the_copy_shares_nothing_and_keeps_what_was_there():
    network = tiny(NAMES[0], extra_embeddings=["guidance"])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    extended = with_extra_embeddings(network, ["interval"])
    assert list(extended.extra_embedders) == BOTH  # in one order, whatever came first
    for key, value in before.items():
        assert torch.equal(extended.state_dict()[key], value)
    with torch.no_grad():
        for parameter in extended.parameters():
            parameter.add_(1)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert network_args(network)["extra_embeddings"] == ["guidance"]
    assert network_args(extended)["extra_embeddings"] == BOTH
    assert with_extra_embeddings(extended, BOTH) is extended
    assert with_extra_embeddings(network, []) is network


def test_the_first_layer_of_a_new_embedder_is_that_of_the_time():
    extended = with_extra_embeddings(tiny(NAMES[1]), ["interval"])
    weight = extended.t_embedder.mlp[0].weight
    assert torch.equal(extended.extra_embedders.interval.mlp[0].weight, weight)
    assert extended.extra_embedders.interval.mlp[0].weight is not weight


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_keep_the_embedders(name, tmp_path):
    network = with_extra_embeddings(tiny(name).float(), ["guidance"])
    with torch.no_grad():
        network.extra_embedders.guidance.mlp[2].weight.fill_(0.1)
    save(network, tmp_path / "flow")
    assert json.loads((tmp_path / "flow.json").read_text())["args"]["extra_embeddings"] == ["guidance"]
    again = load(tmp_path / "flow")
    assert extra_embeddings(again) == {"guidance"}
    assert network_args(again) == network_args(network)
    x = _state(name).float()
    assert torch.equal(_field(again)(x, T, w=W), _field(network.eval())(x, T, w=W))


def test_a_network_without_them_has_the_official_config(tmp_path):
    save(tiny(NAMES[0]).float(), tmp_path / "flow")
    assert "extra_embeddings" not in json.loads((tmp_path / "flow.json").read_text())["args"]


def test_the_extra_embedders_stay_wide_in_a_narrow_torso():
    network = tiny(NAMES[1], extra_embeddings=BOTH).float()
    set_torso_dtype(network, torch.float16)
    assert {p.dtype for p in network.extra_embedders.parameters()} == {torch.float32}
    assert _field(network)(_state(NAMES[1]).float(), T, r=R, w=W).dtype == torch.float32


class _Recorder(nn.Module):
    """Stands for a dense network; keeps what it is told."""

    def __init__(self, *names):
        super().__init__()
        self.extra_embedders = nn.ModuleDict({name: nn.Identity() for name in names})

    def forward(self, x, t, cond, **told):
        self.told = {"t": t, **told}
        return x


def test_fields_tell_the_interval_in_network_time_and_a_tenth_of_the_weight():
    network = _Recorder(*BOTH)
    field, x = velocity_field(network, torch.zeros(2, 1, 1), time_scale=60.0), torch.zeros(2, 3)
    field(x, T, r=R, w=W)
    assert torch.allclose(network.told["t"], 60 * T)
    assert torch.allclose(network.told["interval"], 60 * (T - R))
    assert torch.allclose(network.told["guidance"], W / 10)
    field(x, T.float())  # down to the data, without guidance
    assert torch.equal(network.told["interval"], network.told["t"])
    assert torch.equal(network.told["guidance"], torch.zeros(2))
    field(x, T, r=0.1, w=2.0)
    assert torch.allclose(network.told["interval"], 60 * (T - 0.1))
    assert torch.allclose(network.told["guidance"], torch.full((2,), 0.2, dtype=torch.float64))


def test_times_are_told_in_at_least_float32():
    network = _Recorder("interval")
    field, x = velocity_field(network, torch.zeros(2, 1, 1)), torch.zeros(2, 3)
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        field(x, T.to(dtype))
        assert {value.dtype for value in network.told.values()} == {expected}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("told", "what"), [({"r": R}, "interval"), ({"w": W}, "guidance")])
def test_what_a_network_does_not_embed_is_refused_with_the_fix(name, told, what):
    with pytest.raises(InputError, match=rf"does not embed the {what}; start from with_extra_embeddings\(network, "):
        _field(tiny(name))(_state(name), T, **told)


def test_a_raw_network_is_told_all_it_embeds_and_nothing_else():
    network, x, cond = tiny(NAMES[0], extra_embeddings=["interval"]), _state(NAMES[0]), torch.zeros(2, 5, 10).double()
    with pytest.raises(InputError, match="embeds the interval, but none was given; call it with interval="):
        network(x, T, cond)
    with pytest.raises(InputError, match="does not embed the guidance"):
        network(x, T, cond, interval=T, guidance=W)


def test_unknown_names_and_networks_without_a_time_are_refused():
    with pytest.raises(ValueError, match="extra_embeddings has 'step'; expected some of interval, guidance"):
        build(NAMES[0], **CONFIGS[NAMES[0]], extra_embeddings=["step"])
    with pytest.raises(InputError, match="SLatEncoder does not embed the time; expected a flow network"):
        with_extra_embeddings(tiny("SLatEncoder"), ["interval"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changes", [{}, {"extra_embeddings": BOTH}, {"share_mod": True}, {"qk_rms_norm": False}])
def test_forward_mode_is_the_limit_of_the_central_difference(name, changes):
    field, x, v = _field(tiny(name, **changes)), _state(name), _state(name, seed=1)
    if "extra_embeddings" in changes:
        field = partial(field, r=R, w=W)
    exact = forward_derivative(field, x, T, v)
    steps, errors = torch.tensor([2e-3, 1e-3, 5e-4], dtype=torch.float64), []
    with torch.no_grad():
        for step in steps.tolist():
            ahead, behind = (field(x + side * step * v, T + side * step) for side in (1, -1))
            errors.append(((ahead - behind) / (2 * step) - exact).norm() / exact.norm())
    slope = torch.diff(torch.stack(errors).log()) / torch.diff(steps.log())
    assert errors[-1] < 1e-3 and ((slope - 2).abs() < 0.1).all(), (errors, slope)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_leaves_the_tables_of_a_field_usable(name):
    network = tiny(name)
    field, x, v = _field(network), _state(name), _state(name, seed=1)
    first = forward_derivative(field, x, T, v)  # makes the tables
    field(x, T).sum().backward()
    expected = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    _field(network)(x, T).sum().backward()
    assert all(torch.equal(p.grad, grad) for p, grad in zip(network.parameters(), expected, strict=True))
    assert torch.equal(forward_derivative(field, x, T, v), first)
    assert not first.requires_grad
