"""Public checkpoints of evaluation networks: whatever wrapper they come in, out comes a plain state dict in float32.

Such files are mostly pickles. They are read with ``torch.load(weights_only=True)``, which builds tensors and plain
containers and refuses everything that could run code; the one class allowed beside them is ``argparse.Namespace``,
in which training scripts like to keep their arguments.
"""

import argparse
import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.models.weights import read_header, read_tensors

_WRAPPERS = ("state_dict", "module", "model")  # OpenCLIP and ULIP; DeepSpeed (Uni3D); others
_HALF = (torch.float16, torch.bfloat16)


def read_checkpoint(path: Path, *, prefixes: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file or a PyTorch checkpoint, on the CPU, in memory of its own.

    Dictionaries around it (``state_dict``, ``module``, ``model``) are opened, ``module.`` is taken out of the names,
    float16 and bfloat16 are widened to float32, and entries that are no tensors are left out.

    Args:
        path: the file.
        prefixes: keep only names that begin so; the rest of a large file is then not even read.

    Raises:
        InputError: if the file is missing, damaged, holds objects that could run code, or has no tensor to keep.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a checkpoint (.safetensors, .pt, .pth or .bin)")
    wanted = (lambda name: name.startswith(prefixes)) if prefixes else (lambda name: True)
    if path.suffix == ".safetensors":
        stored = {name: info.dtype for name, info in read_header(path).items() if wanted(_plain_name(name))}
        tensors = read_tensors(path, {name: _widened(dtype) for name, dtype in stored.items()})
    else:
        entries = _unwrapped(_read_torch(path), path)
        found = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        tensors = {
            name: value.to(_widened(value.dtype), copy=True)
            for name, value in found.items()
            if wanted(_plain_name(name))
        }
    if not tensors:
        sought = f"named {' or '.join(prefixes)}..." if prefixes else "at all"
        raise InputError(f"{path} has no tensor {sought}; expected a state dict, please check which file this is")
    plain = {_plain_name(name): value for name, value in tensors.items()}
    if len(plain) < len(tensors):
        raise InputError(f"{path} has the same tensor twice, with and without 'module.'; expected one of them")
    return plain


def checkpoint_digest(path: Path) -> str:
    """The first 12 hexadecimal digits of the file's SHA-256: enough to tell one checkpoint from another in a table."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as err:
        raise InputError(f"cannot read {path} ({err.strerror}); expected a checkpoint") from err


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, unused: str = r"(?!)") -> None:
    """Give a network built on the meta device its weights, and freeze it in evaluation mode.

    Args:
        network: its state dict and ``tensors`` have to agree in names and shapes, except for ``unused``.
        tensors: become the parameters; they are not copied.
        path: named in errors.
        unused: regular expression of whole names that a file may hold and the network does not need.

    Raises:
        InputError: names the first tensor that is missing, has another shape, or is not known.
    """
    expected = network.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise InputError(f"{path} lacks the tensor '{name}' {tuple(value.shape)} of {type(network).__name__}")
        if tensors[name].shape != value.shape:
            raise InputError(
                f"{path}: the tensor '{name}' has shape {tuple(tensors[name].shape)}; "
                f"{type(network).__name__} expects {tuple(value.shape)}"
            )
    unknown = [name for name in tensors if name not in expected and not re.fullmatch(unused, name)]
    if unknown:
        raise InputError(f"{path} has the tensor '{unknown[0]}', which {type(network).__name__} does not know")
    network.load_state_dict({name: tensors[name] for name in expected}, strict=True, assign=True)
    network.eval().requires_grad_(False)


def count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks: one more than the largest number that follows ``prefix`` in a name."""
    numbers = (re.match(re.escape(prefix) + r"(\d+)\.", name) for name in tensors)
    return max((int(match[1]) + 1 for match in numbers if match), default=0)


def count_heads(channels: int, known: Mapping[int, int] | None = None, *, path: Path) -> int:
    """Attention heads of a network this wide, which its tensors do not show: the ``known`` number, or channels / 64.

    Raises:
        InputError: if the width is not known and no multiple of 64.
    """
    if known and channels in known:
        return known[channels]
    if channels % 64:
        raise InputError(
            f"{path} holds a network of {channels} channels, whose number of attention heads is not known; "
            "expected one of the published sizes, or a multiple of 64 channels"
        )
    return channels // 64


def _widened(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in _HALF else dtype


def _plain_name(name: str) -> str:
    """Parallel training puts ``module.`` in front of a name, or somewhere inside."""
    return ".".join(part for part in name.split(".") if part != "module")


def _unwrapped(content: Any, path: Path) -> Mapping[str, Any]:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {str(name): value for name, value in content.items()}
        content = inner
    raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict")


def _read_torch(path: Path) -> Any:
    is_archive = zipfile.is_zipfile(path)  # since torch 1.6; only these can be mapped instead of read
    if is_archive and _is_torchscript(path):
        raise InputError(
            f"{path} is a TorchScript archive, which is a program; expected weights. For OpenAI's CLIP, take "
            "model.safetensors of its repository on the hub, such as openai/clip-vit-large-patch14"
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as err:
        raise InputError(
            f"{path} is damaged or holds more than tensors, which could run code ({_first_line(err)}); "
            "expected a plain checkpoint"
        ) from err
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as err:
        raise InputError(f"{path} cannot be read as a PyTorch checkpoint ({_first_line(err)}); copy it again") from err


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _first_line(err: Exception) -> str:
    return str(err).splitlines()[0] if str(err) else type(err).__name__
