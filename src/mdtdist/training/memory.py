"""Too little memory, said in one sentence."""

import contextlib
import os
from collections.abc import Iterator

import torch

from mdtdist.errors import InputError
from mdtdist.training.trainer_config import TrainerConfig

_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


@contextlib.contextmanager
def explain_memory(config: TrainerConfig, *, device: str, num_processes: int) -> Iterator[None]:
    """Turn running out of memory into a sentence that names what was asked and what to lower.

    Raises:
        InputError: in place of ``MemoryError``, ``torch.OutOfMemoryError`` and the error of the CPU's allocator.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as err:  # torch.OutOfMemoryError is a RuntimeError
        if not isinstance(err, MemoryError) and not any(word in str(err) for word in _WORDS):
            raise
        raise InputError(_sentence(config, device, num_processes)) from err


def _sentence(config: TrainerConfig, device: str, num_processes: int) -> str:
    per_pass = config.batch_size // (num_processes * config.accumulate)
    advice = []
    if per_pass > 1:
        advice.append(f"raise trainer.accumulate from {config.accumulate} or lower trainer.batch_size")
    if not config.checkpoint_activations:
        advice.append("set trainer.checkpoint_activations = true")
    if config.precision == "fp32":
        advice.append("set trainer.precision = 'bf16'")
    if config.parallel != "fsdp":
        advice.append("spread the networks over several GPUs with trainer.parallel = 'fsdp'")
    return (
        f"a pass of {per_pass} samples (batch_size {config.batch_size}, {num_processes} process(es), accumulate "
        f"{config.accumulate}) in {config.precision} does not fit into the {_total(device):.1f} GB of {device}; "
        + ", or ".join(advice)
    )


def _total(device: str) -> float:
    """Memory of a device in GB."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return float("nan")
