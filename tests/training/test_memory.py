"""Running out of memory is one sentence with both sides and the way out."""

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.training.memory import explain_memory
from mdtdist.training.trainer import Trainer
from tests.training.toy import ToyTask, toy_config


def raised(error: BaseException):
    def event(loss):
        raise error

    return event


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)
def test_too_little_memory_names_both_sides_and_what_to_lower(error, tmp_path):
    with pytest.raises(InputError) as caught:
        Trainer(ToyTask({2: raised(error)}), toy_config(batch_size=6, accumulate=2), tmp_path).run()
    message = str(caught.value)
    asked = "a pass of 3 samples (batch_size 6, 1 process(es), accumulate 2) in fp32 does not fit into the "
    assert message.startswith(asked) and "GB of cpu; raise trainer.accumulate from 2" in message
    assert "trainer.checkpoint_activations = true" in message and "trainer.precision = 'bf16'" in message
    assert caught.value.__cause__ is error and "\n" not in message


def test_advice_is_what_is_left_to_do():
    config = toy_config(batch_size=1, checkpoint_activations=True, precision="bf16")
    with pytest.raises(InputError) as caught, explain_memory(config, device="cpu", num_processes=1):
        raise MemoryError
    assert "accumulate from" not in str(caught.value) and "precision = " not in str(caught.value)
    assert "parallel = 'fsdp'" in str(caught.value)


def test_other_errors_pass():
    with (
        pytest.raises(RuntimeError, match="^shapes differ$"),
        explain_memory(toy_config(), device="cpu", num_processes=1),
    ):
        raise RuntimeError("shapes differ")


def test_a_true_allocation_that_fails_is_explained(tmp_path):
    with pytest.raises(InputError, match="does not fit into"):
        Trainer(ToyTask({1: lambda loss: loss + torch.empty(2**55).sum()}), toy_config(), tmp_path).run()
