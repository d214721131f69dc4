"""Safetensors files written tensor by tensor, so that no second copy of a network has to fit in memory."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtdist.models.weights import DTYPES
from mdtdist.training.sharding import whole

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_tensors(path: Path | None, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors from any device, also spread over processes, and flush the file to the disk.

    Args:
        path: file to write; None writes nothing, for a process that only helps to gather.
        tensors: by name.

    Returns:
        The SHA-256 of the file, in hexadecimal.
    """
    if path is None:
        for tensor in tensors.values():
            whole(tensor)
        return ""
    with path.open("wb") as file:
        head = _header(tensors)
        digest = hashlib.sha256(head)
        file.write(head)
        for tensor in tensors.values():
            # Bytes, for numpy has no bfloat16.
            data: Any = whole(tensor).detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy()
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Eight bytes of length and the JSON that says where each tensor lies, padded to a multiple of eight."""
    entries, start = {}, 0
    for name, tensor in tensors.items():
        end = start + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
