"""The record of one 3D model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One 3D model with its provenance.

    Attributes:
        source_id: readable name, unique within the source.
        sha256: names all prepared files. The hash of the model file (textures beside it are not part of it), or what
            the published table of a data set calls it by.
        path: the model file.
        name: what the object is; near-duplicates share a name, so splits are made by name.
        size_cm: real width (x), depth (y), height (z); None if unknown.
        rotation: row-major 3x3, applied to the model in its own Y-up axes; None for none.
        metadata: columns that are carried to ``metadata.csv`` as they are: of a data set in TRELLIS-500K
            ``file_identifier``, ``aesthetic_score`` and ``captions`` (a JSON list as text).
    """

    source_id: str
    sha256: str
    path: Path
    name: str
    category: str = ""
    creator: str = ""
    license: str = ""
    size_cm: tuple[float, float, float] | None = None
    rotation: tuple[float, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
