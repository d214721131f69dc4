"""Low-rank updates: nothing at the start, and nothing but them is trained or kept."""

import pytest
import torch

from mdtdist.nn import LowRankUpdates
from tests.models.tiny import tiny

X = torch.randn(2, 4, 4, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
T = torch.tensor([300.0, 800.0], dtype=torch.float64)
COND = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture
def teacher():
    return tiny("SparseStructureFlowModel").requires_grad_(False)


def _updates(network, rank=3, seed=0):
    return LowRankUpdates(network, rank=rank, generator=torch.Generator().manual_seed(seed))


def _moved(updates):
    with torch.no_grad():
        for up in updates.up.values():
            up.copy_(torch.randn(up.shape, generator=torch.Generator().manual_seed(3)) / 10)
    return updates


def test_computes_what_the_network_does_at_the_start(teacher):
    assert torch.equal(_updates(teacher)(X, T, COND), teacher(X, T, COND))


def test_is_the_network_with_products_added_to_its_weights(teacher):
    updates = _moved(_updates(teacher))
    out = updates(X, T, COND)
    other = tiny("SparseStructureFlowModel")
    with torch.no_grad():
        for key, up in updates.up.items():
            other.get_submodule(key.replace("/", ".")).weight += up @ updates.down[key]
    assert torch.allclose(out, other(X, T, COND), atol=1e-12)
    assert (out - teacher(X, T, COND)).abs().max() > 1e-3  # which is itself again


def test_gradients_reach_the_updates_alone(teacher):
    updates = _moved(_updates(teacher))
    updates(X, T, COND).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in updates.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_first_gradient_moves_the_half_that_is_zero(teacher):
    updates = _updates(teacher)
    updates(X, T, COND).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in updates.up.values())
    assert all(p.grad.abs().sum() == 0 for p in updates.down.values())


def test_state_is_that_of_the_updates_and_restores_them(teacher):
    updates = _moved(_updates(teacher))
    state = updates.state_dict()
    assert set(state) == {name for name, _ in updates.named_parameters()}
    assert sum(value.numel() for value in state.values()) < sum(p.numel() for p in teacher.parameters())
    again = _updates(teacher, seed=1)
    again.load_state_dict(state)
    assert torch.equal(again(X, T, COND), updates(X, T, COND))


def test_rank_is_bounded_by_the_layers(teacher):
    for key, down in _updates(teacher, rank=10**6).down.items():
        layer = teacher.get_submodule(key.replace("/", "."))
        assert len(down) == min(layer.in_features, layer.out_features)
    ranks = {len(down) for down in _updates(teacher, rank=3).down.values()}
    assert ranks == {3}


def test_half_precision_networks_have_updates_in_single(teacher):
    updates = _updates(torch.nn.Sequential(torch.nn.Linear(4, 4).bfloat16()).requires_grad_(False))
    assert all(p.dtype == torch.float32 for p in updates.parameters())
    assert updates(X[:, 0, 0, 0].bfloat16()).dtype == torch.bfloat16


def test_same_generator_gives_the_same_start(teacher):
    first, second, third = _updates(teacher), _updates(teacher), _updates(teacher, seed=1)
    assert all(torch.equal(first.down[key], second.down[key]) for key in first.down)
    assert not any(torch.equal(first.down[key], third.down[key]) for key in first.down)


def test_what_cannot_be_updated_is_refused(teacher):
    with pytest.raises(ValueError, match="rank is 0"):
        LowRankUpdates(teacher, rank=0)
    with pytest.raises(ValueError, match="no linear layer"):
        LowRankUpdates(torch.nn.ReLU(), rank=2)
