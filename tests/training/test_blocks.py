"""Switches of the blocks: neither changes what is computed."""

import pytest
import torch
from torch import nn

from mdtdist.models import build
from mdtdist.training.blocks import blocks_of, checkpoint_activations, compile_blocks
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.config import from_dict
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.trainer import Trainer
from tests.training.tiny import FLOWS, STAGES, stage_values
from tests.training.toy import PairTask, Stack, ToyTask, clone, draw, equal, toy_config


def test_blocks_are_found_in_networks_and_in_collections_of_them():
    stack = Stack()
    assert blocks_of(stack) == list(stack.blocks) and blocks_of(nn.ModuleDict({"a": stack})) == list(stack.blocks)
    assert blocks_of(nn.Linear(2, 2)) == []
    for stage in STAGES:
        assert len(blocks_of(build(FLOWS[stage][0], **FLOWS[stage][1]))) == 1


def test_checkpointed_activations_run_the_block_twice_and_give_the_same_gradients():
    plain, twice = Stack(), Stack()
    twice.load_state_dict(plain.state_dict())
    checkpoint_activations(twice)
    runs = []
    for block in twice.blocks:
        block.layer.register_forward_hook(lambda *_: runs.append(1))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for network in (plain, twice):
        network(x).square().sum().backward()
    assert len(runs) == 4 and twice.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), twice.parameters(), strict=True))
    with torch.no_grad():
        twice(x)
    assert len(runs) == 6


def test_training_with_checkpointed_activations_is_bitwise_the_same(tmp_path):
    tasks = PairTask(), PairTask()
    for switch, task in zip((False, True), tasks, strict=True):
        Trainer(task, toy_config(checkpoint_activations=switch), tmp_path / str(switch)).run()
    states = [load_checkpoint(tmp_path / name) for name in ("False", "True")]
    assert equal(states[0].weights, states[1].weights) and equal(states[0].optimizer, states[1].optimizer)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["backward", "jvp"])
def test_students_of_any_derivative_can_checkpoint_activations(stage, kind, prepared, networks):
    values = {
        "data": stage_values(stage, prepared.path, networks),
        "teacher": str(networks / stage / "flow"),
        "options": {"derivative": {"kind": kind}},
    }
    task = DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")
    gradients = []
    for _ in range(2):
        task.module.zero_grad()
        task.loss(draw(0, 2))["loss"].backward()
        gradients.append({name: p.grad.clone() for name, p in task.module.named_parameters()})
        checkpoint_activations(task.module)
    assert equal(gradients[0], gradients[1])


@pytest.mark.slow
def test_compiled_training_is_the_same_but_for_rounding(tmp_path):
    plain, compiled = PairTask(), PairTask()
    for switch, task in ((False, plain), (True, compiled)):
        options = {"compile": switch, "checkpoint_activations": switch}
        Trainer(task, toy_config(num_samples=9, **options), tmp_path / str(switch)).run()
    for key, value in clone(plain.module).items():
        torch.testing.assert_close(clone(compiled.module)[key], value, atol=1e-5, rtol=1e-4)
    assert all(block._compiled_call_impl is not None for block in compiled.module.blocks)
    assert compiled.module._compiled_call_impl is None and plain.module.blocks[0]._compiled_call_impl is None


@pytest.mark.slow
def test_a_network_without_blocks_is_compiled_as_a_whole():
    task = ToyTask()
    compile_blocks(task.module.layer)
    assert task.module.layer._compiled_call_impl is not None
    assert task.module.layer(task.data).shape == (7, 2)
