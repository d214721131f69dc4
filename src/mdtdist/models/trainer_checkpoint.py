"""Checkpoints of the TRELLIS trainer: state dicts in ``<model>[_ema<rate>]_step<number>.pt``, which are pickles.

They are read with ``torch.load(weights_only=True)``, which unpickles tensors and refuses everything that could run
code, and only to be written again as safetensors.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.models.weights import TensorInfo

_NAME = re.compile(r"(?P<model>.+?)(?:_ema(?P<rate>\d*\.?\d+))?_step(?P<step>\d+)")
_NO_NETWORK = ("misc", "teacher")  # the optimiser's state, and what the MDT trainer distils from


@dataclass(frozen=True, kw_only=True)
class TrainerFile:
    """What the name of a trainer's checkpoint says.

    Attributes:
        path: the file.
        model: the trainer's name of the network; ``denoiser`` for flows.
        ema_rate: of the moving average; None for the plain weights.
        step: of the training.
    """

    path: Path
    model: str
    ema_rate: float | None
    step: int

    @classmethod
    def parse(cls, path: Path) -> "TrainerFile | None":
        """None if the file is named in another way."""
        match = _NAME.fullmatch(path.stem)
        if match is None or path.suffix != ".pt":
            return None
        rate = float(match["rate"]) if match["rate"] else None
        return cls(path=path, model=match["model"], ema_rate=rate, step=int(match["step"]))


def latest_files(folder: Path, *, ema: bool) -> list[Path]:
    """The newest checkpoint of every network in a run folder, or in several below ``folder``.

    Args:
        folder: searched with everything below it.
        ema: take the moving average (of the slowest rate), else the plain weights.

    Returns:
        A file per network and subfolder. Where no file is named by the trainer, all ``.pt`` files.

    Raises:
        InputError: if there is none of the wanted kind.
    """
    paths = sorted(folder.rglob("*.pt"))
    named = [file for file in map(TrainerFile.parse, paths) if file and file.model not in _NO_NETWORK]
    if not named:
        return paths
    wanted = [file for file in named if (file.ema_rate is not None) == ema]
    if not wanted:
        kind = (
            ("a moving average", "--plain takes the plain weights") if ema else ("plain weights", "leave --plain out")
        )
        raise InputError(f"{folder} has no checkpoint of {kind[0]}, only {named[-1].path.name}; {kind[1]}")
    wanted.sort(key=lambda file: (file.step, file.ema_rate or 0.0))
    newest = {(file.path.parent, file.model): file.path for file in wanted}
    return sorted(newest.values())


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a trainer's checkpoint, on the CPU.

    Raises:
        InputError: if the file is missing, cut short, holds anything but named tensors, or a tensor is not finite.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a checkpoint of the TRELLIS trainer")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise InputError(f"{path} is no plain checkpoint: it holds more than tensors, which could run code") from err
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as err:  # what torch makes of a damaged file
        cause = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise InputError(f"{path} cannot be read as a PyTorch checkpoint ({cause}); copy it again") from err
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            hint = " (the trainer's misc file is no network)" if path.name.startswith("misc") else ""
            raise InputError(f"{path}: '{name}' is a {type(value).__name__}; expected tensors only{hint}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: the tensor '{name}' is not finite: this training had diverged")
    return {str(name): value for name, value in content.items()}


def describe(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """The header that these tensors would have in a safetensors file, as far as their fit is concerned."""
    return {
        name: TensorInfo(dtype=value.dtype, shape=tuple(value.shape), begin=0, end=0) for name, value in tensors.items()
    }


def cast_like(tensors: Mapping[str, Tensor], stored: Mapping[str, TensorInfo], *, path: Path) -> dict[str, Tensor]:
    """The tensors in the types in which another checkpoint stores them.

    Args:
        tensors: usually float32 master weights.
        stored: header of a checkpoint with the same names.
        path: named in errors.

    Raises:
        InputError: if a value is beyond the range of the narrower type.
    """
    result = {}
    for name, value in tensors.items():
        result[name] = value.to(stored[name].dtype).contiguous()
        if value.is_floating_point() and not bool(torch.isfinite(result[name]).all()):
            raise InputError(f"{path}: the tensor '{name}' exceeds the range of {stored[name].dtype}")
    return result
