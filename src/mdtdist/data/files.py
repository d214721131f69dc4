"""Names of prepared files and how they are written: whole or not at all."""

import csv
import io
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from mdtdist.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)

_THREADS = min(16, os.cpu_count() or 1)
ENCODER = "efficientnet_lite0"
COLUMNS = (
    "sha256",
    "name",
    "category",
    "source_id",
    "creator",
    "license",
    "split",
    "status",
    "reason",
    "num_voxels",
    "num_faces",
    "flatness",
    "width_cm",
    "depth_cm",
    "height_cm",
    "voxelized",
    "rendered",
    f"feature_{ENCODER}",
    f"cond_{ENCODER}",
)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a prepared folder says of itself in ``prepared.json``; without that file it is of the layout mini.

    Attributes:
        layout: name of the layout.
        resolution: voxels a side.
        features: folder of the voxel features below ``features/``.
    """

    layout: str = "mini"
    resolution: int = 32
    features: str = ENCODER


def read_contents(root: Path) -> Contents | None:
    """None for a folder without ``prepared.json``.

    Raises:
        InputError: if the file is damaged.
    """
    path = root / "prepared.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        layout, features, resolution = values["layout"], values["features"], int(values["resolution"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise InputError(f"{path} cannot be read ({err!r}); run `mdtdist prepare` into another folder.") from err
    return Contents(layout=str(layout), resolution=resolution, features=str(features))


def write_contents(root: Path, contents: Contents) -> None:
    """Write ``prepared.json``."""
    write_json(root / "prepared.json", asdict(contents))


def voxel_path(root: Path, sha256: str) -> Path:
    """``indices`` uint8 [N, 3], ``num_faces``, ``flatness``."""
    return root / "voxels" / f"{sha256}.npz"


def render_folder(root: Path, sha256: str) -> Path:
    """``transforms.json`` and, per view, ``000.png`` (RGBA) and ``000_depth.png`` (16 bit)."""
    return root / "renders" / sha256


def feature_path(root: Path, sha256: str, *, features: str = ENCODER) -> Path:
    """``indices`` uint8 [N, 3], ``patchtokens`` float16 [N, C].

    Where mirroring in x changes channels, also ``mirror_order`` and ``mirror_sign`` [C]: channel c of a mirrored voxel
    is ``mirror_sign[c]`` times channel ``mirror_order[c]`` of the voxel.
    """
    return root / "features" / features / f"{sha256}.npz"


def cond_path(root: Path, sha256: str) -> Path:
    """``tokens`` float16 [V, 2, 49, 896]: per condition view, as seen and mirrored."""
    return root / "cond" / ENCODER / f"{sha256}.npz"


def is_done(root: Path, stage: str, sha256: str, *, features: str = ENCODER) -> bool:
    """Whether the files of a stage (voxels, renders, features) are there; image features come with tokens."""
    if stage == "voxels":
        return voxel_path(root, sha256).exists()
    if stage == "renders":
        return (render_folder(root, sha256) / "transforms.json").exists()
    has_tokens = features != ENCODER or cond_path(root, sha256).exists()
    return has_tokens and feature_path(root, sha256, features=features).exists()


@contextmanager
def wait_for(folder: Path) -> Iterator[None]:
    """Let one process at a time, of all machines that share ``folder`` and ask this way, run the block.

    Where the system or the file system has no locks (Windows), nobody waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".wait").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a network folder without locks
            logger.debug("no lock in %s", folder, exc_info=True)
        yield


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under its name only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")  # shards on two machines can have one process id
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_npz(path: Path, *, is_compressed: bool = True, **arrays: Any) -> None:
    """An npz, whole. Feature maps hardly compress and are quicker without."""
    with whole_file(path) as file:
        (np.savez_compressed if is_compressed else np.savez)(file, **arrays)


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``function`` of every item, in their order, by several threads; the first error is raised.

    For reading: zlib, Pillow and the disk leave the interpreter to others meanwhile.
    """
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        yield from pool.map(function, items)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, whole."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
    """A UTF-8 table, whole; missing values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
