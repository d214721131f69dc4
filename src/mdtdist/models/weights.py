"""Safetensors files, checked before they are read: the first thing wrong is named with its tensor and its file."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mdtdist.errors import InputError

# The longest header of a published checkpoint has about 0.1 MB. A header is parsed as JSON before anything else is
# known about the file, so a foreign or hostile one must not decide how much memory that takes.
MAX_HEADER_BYTES = 16 * 2**20
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One entry of a header.

    Attributes:
        dtype: as stored.
        shape: as stored.
        begin: first byte, counted from the end of the header.
        end: byte after the last.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, types and shapes of the tensors of a safetensors file, in file order.

    The file is a length (8 bytes, little endian), that many bytes of JSON, and the data. The length is compared with
    the size of the file and with ``MAX_HEADER_BYTES`` before the JSON is read, and the places of all tensors with the
    data that is there.

    Raises:
        InputError: if the file is missing, cut short, or no safetensors file.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a safetensors file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = _header_length(file.read(_LENGTH_BYTES), size, path)
            text = file.read(length)
    except OSError as err:
        raise InputError(f"cannot read {path} ({err.strerror}); check its permissions") from err
    try:
        entries = dict(json.loads(text).items())
    except (ValueError, AttributeError, RecursionError) as err:
        raise InputError(f"{path} is no safetensors file: its header is not a JSON object; copy it again") from err
    tensors = {name: _tensor_info(name, entry, path) for name, entry in entries.items() if name != "__metadata__"}
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_places(tensors, size - _LENGTH_BYTES - length, path)
    return tensors


def check_fit(tensors: Mapping[str, TensorInfo], expected: Mapping[str, Tensor], path: Path) -> None:
    """Compare a file with the state dict that a network expects.

    Raises:
        InputError: names the first tensor that is missing, has another shape or kind, or is not known.
    """
    missing = [key for key in expected if key not in tensors]
    if missing:
        shape = tuple(expected[missing[0]].shape)
        raise InputError(
            f"{path} lacks the tensor '{missing[0]}' {shape}{_and_more(missing)}; it does not fit its network's json"
        )
    for key, value in expected.items():
        info = tensors[key]
        if info.shape != tuple(value.shape):
            raise InputError(
                f"{path}: the tensor '{key}' has shape {info.shape}; its network's json expects {tuple(value.shape)}"
            )
        if info.dtype.is_floating_point != value.is_floating_point():
            raise InputError(f"{path}: the tensor '{key}' has type {info.dtype}; expected {value.dtype}")
    unknown = [key for key in tensors if key not in expected]
    if unknown:
        raise InputError(
            f"{path} has the tensor '{unknown[0]}'{_and_more(unknown)}, which its network's json does not know"
        )


def read_tensors(
    path: Path, dtypes: Mapping[str, torch.dtype], *, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Tensors of a file that ``check_fit`` accepted, each converted as it is read, in memory of their own."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {key: file.get_tensor(key).to(dtype, copy=True) for key, dtype in dtypes.items()}
    except (OSError, ValueError, SafetensorError) as err:  # changed since its header was read
        raise InputError(f"cannot read {path} ({err}); copy it again") from err


def _header_length(prefix: bytes, size: int, path: Path) -> int:
    length = int.from_bytes(prefix, "little")
    if size < _LENGTH_BYTES:
        raise InputError(f"{path} is no safetensors file: it has {size} bytes; copy it again")
    if length > MAX_HEADER_BYTES:
        raise InputError(
            f"{path} is no safetensors file: it claims a header of {length} bytes; expected at most {MAX_HEADER_BYTES}"
        )
    if length > size - _LENGTH_BYTES:
        raise InputError(
            f"{path} is cut short inside its header: it has {size} bytes and its header alone "
            f"{length + _LENGTH_BYTES}; copy it again"
        )
    return length


def _tensor_info(name: str, entry: Any, path: Path) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise ValueError("sizes are not whole numbers")
    except (KeyError, TypeError, ValueError) as err:
        raise InputError(f"{path}: the header entry of '{name}' is damaged ({err}); copy it again") from err
    if dtype not in DTYPES:
        raise InputError(f"{path}: the tensor '{name}' has the type {dtype!r}; expected one of {', '.join(DTYPES)}")
    info = TensorInfo(dtype=DTYPES[dtype], shape=shape, begin=begin, end=end)
    if end - begin != info.numel * info.dtype.itemsize:
        raise InputError(
            f"{path}: the tensor '{name}' of shape {shape} and type {dtype} has {end - begin} bytes; "
            f"expected {info.numel * info.dtype.itemsize}; copy it again"
        )
    return info


def _check_places(tensors: Mapping[str, TensorInfo], available: int, path: Path) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    position = 0
    for name, info in tensors.items():
        if info.begin != position:
            raise InputError(f"{path}: the tensor '{name}' begins at byte {info.begin}; expected {position}")
        if info.end > available:
            raise InputError(
                f"{path} is cut short: the tensor '{name}' ends at byte {info.end} of the data, which has {available}; "
                "copy it again"
            )
        position = info.end
    if position != available:
        raise InputError(f"{path} has {available - position} bytes after its last tensor; copy it again")


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
