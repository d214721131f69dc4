"""What was measured on each object, kept in files, so that an interrupted evaluation goes on where it stopped."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdtdist.files import appear_whole

_STAMP = "stamp"
_SAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True, kw_only=True)
class MeasureStore:
    """Arrays per object in ``<folder>/<name>.npz``, each with a stamp of what they were measured from.

    Attributes:
        folder: made when the first file is written.
    """

    folder: Path

    def load(self, name: str, stamp: Mapping[str, str]) -> dict[str, np.ndarray]:
        """The arrays that were kept under this stamp; nothing if there are none, or of something else."""
        path = self._path(name)
        try:
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, KeyError):
            return {}
        return arrays if str(arrays.pop(_STAMP, "")) == _text(stamp) else {}

    def save(self, name: str, stamp: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays; the file appears whole and replaces what was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with appear_whole(self._path(name)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **{_STAMP: np.array(_text(stamp)), **arrays})  # type: ignore[arg-type]

    def _path(self, name: str) -> Path:
        return self.folder / f"{slug(name)}.npz"


def slug(name: str) -> str:
    """A name as a file can carry it: ``student 1+1`` becomes ``student_1+1``."""
    return _SAFE.sub("_", name).strip("_") or "unnamed"


def _text(stamp: Mapping[str, str]) -> str:
    return json.dumps(dict(stamp), sort_keys=True)
