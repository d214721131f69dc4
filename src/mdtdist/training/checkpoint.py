"""Training checkpoints that appear whole: folders ``checkpoints/step_<n>`` of safetensors and json, with a manifest.

A folder is written aside under a hidden name, with the hash of each file in its manifest, flushed to the disk, and
renamed; the older ones go afterwards. Whenever the process dies, the newest folder with a true manifest is a state of
the run.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.training.sharding import spread_like
from mdtdist.training.tensor_files import file_digest, write_tensors

log = logging.getLogger(__name__)

_TENSORS = ("weights", "average", "optimizer")
_OLD = ".old"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a run needs to go on.

    Attributes:
        step: steps made.
        weights: of all networks, ``<network>.<key>``.
        average: of the main network.
        optimizer: moments, ``<network>.<index>.<name>``.
        meta: counters, small states and configs, as JSON has them.
    """

    step: int
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    meta: dict[str, Any]


def save_checkpoint(folder: Path, state: TrainingState, *, keep: int = 2, writes: bool = True) -> None:
    """Write ``folder/checkpoints/step_<n>``, then drop all but the newest ``keep``.

    Tensors are copied one at a time: to the CPU, and into one piece if they are spread over processes, which all have
    to call this then; ``writes`` says for each whether it is the one that writes.
    """
    checkpoints = folder / "checkpoints"
    new = checkpoints / f".step_{state.step}.new"
    if not writes:
        for name in _TENSORS:
            write_tensors(None, getattr(state, name))
        return
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    digests = {
        f"{name}.safetensors": write_tensors(new / f"{name}.safetensors", getattr(state, name)) for name in _TENSORS
    }
    _write_text(new / "state.json", json.dumps({"step": state.step, **state.meta}, indent=1))
    digests["state.json"] = file_digest(new / "state.json")
    _write_text(new / "manifest.json", json.dumps({"sha256": digests}, indent=1))
    _flush(new)
    _put_in_place(new, checkpoints / f"step_{state.step}")
    _purge(checkpoints, state.step, keep)


def _put_in_place(new: Path, final: Path) -> None:
    """Rename; a folder that has the name already is of this step too, and older, or damaged."""
    old = final.with_name(f".{final.name}{_OLD}")
    if final.exists():  # otherwise an older crash may have left `old` as the only checkpoint
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    new.rename(final)
    _flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _purge(checkpoints: Path, step: int, keep: int) -> None:
    """Later steps than the present one are of folders found damaged, or the run would have gone on from there."""
    numbered = _numbered(checkpoints)
    kept = [number for number in sorted(numbered, reverse=True) if number <= step][:keep]
    for number, path in numbered.items():
        if number not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for leftover in checkpoints.glob(".step_*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _numbered(checkpoints: Path) -> dict[int, Path]:
    """Checkpoints by step; one that was about to be replaced counts while its name is free."""
    paths = [*checkpoints.glob(f".step_*{_OLD}"), *checkpoints.glob("step_*")]
    numbers = {path: path.name.removeprefix(".").removesuffix(_OLD).removeprefix("step_") for path in paths}
    return {int(number): path for path, number in numbers.items() if number.isdigit()}


def _write_text(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Make the names in a folder survive a power failure."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that is whole, or None for a fresh run; a damaged one is warned of.

    Raises:
        InputError: if there are checkpoints and none is whole, or only one of an earlier version.
    """
    numbered = _numbered(folder / "checkpoints")
    for number in sorted(numbered, reverse=True):
        reason = _damage(numbered[number])
        if reason is None:
            return numbered[number]
        log.warning("%s is damaged (%s); going back to the one before", numbered[number], reason)
    if numbered:
        raise InputError(
            f"no checkpoint in {folder / 'checkpoints'} is whole; remove {folder} to start over, or give another out"
        )
    if (folder / "checkpoint" / "state.json").is_file():
        raise InputError(
            f"{folder / 'checkpoint'} is of an earlier version, which cannot be continued; give another out"
        )
    return None


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None if nothing is."""
    try:
        digests = json.loads((checkpoint / "manifest.json").read_text())["sha256"]
        for name, digest in digests.items():
            if file_digest(checkpoint / name) != digest:
                return f"{name} is not what was written"
    except OSError as err:
        return f"{Path(err.filename or checkpoint).name}: {err.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json cannot be read"
    return None


def read_checkpoint(checkpoint: Path) -> TrainingState:
    """The state in a folder that ``find_checkpoint`` has found; its tensors stay on the disk until they are copied."""
    meta = json.loads((checkpoint / "state.json").read_text())
    tensors = {name: load_file(checkpoint / f"{name}.safetensors") for name in _TENSORS}
    return TrainingState(step=meta.pop("step"), meta=meta, **tensors)


def load_checkpoint(folder: Path) -> TrainingState | None:
    """The state in the newest whole checkpoint of a run folder, or None for a fresh run."""
    found = find_checkpoint(folder)
    return None if found is None else read_checkpoint(found)


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Per-parameter optimiser tensors keyed ``<index>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors from ``flatten_optimizer`` back; learning rates stay as configured."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        # Counters are single numbers, on the CPU. A copy, for the file may go while the run lasts.
        placed = spread_like(value, parameter) if value.ndim else value
        is_there = placed.device == parameter.device or not value.ndim
        state.setdefault(int(index), {})[name] = placed.clone() if is_there else placed.to(parameter.device)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def prefixed(tables: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several networks under ``<network>.<key>``."""
    return {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}


def tensors_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of one network out of ``prefixed``."""
    return {key.removeprefix(name + "."): value for key, value in tensors.items() if key.startswith(name + ".")}
