"""The tables of TRELLIS-500K (arXiv:2412.01506): which objects of each data set, with scores and captions.

One CSV per data set with the columns ``sha256``, ``file_identifier``, ``aesthetic_score`` and ``captions`` (a JSON
list as text). The same columns head the ``metadata.csv`` of a folder that TRELLIS's own tools prepared.
"""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdtdist.errors import InputError

REPOSITORY = "JeffreyXiang/TRELLIS-500K"  # on the Hugging Face hub, MIT licence
_NEEDED = ("sha256", "file_identifier")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One object of a published table.

    Attributes:
        aesthetic_score: None if the table has none.
        captions: JSON list as text, from the longest to the shortest caption; empty if there are none.
    """

    sha256: str
    file_identifier: str
    aesthetic_score: float | None = None
    captions: str = ""

    @property
    def metadata(self) -> dict[str, Any]:
        """Columns to carry along; what is missing is left out."""
        known: dict[str, Any] = {"file_identifier": self.file_identifier}
        if self.aesthetic_score is not None:
            known["aesthetic_score"] = self.aesthetic_score
        return known | ({"captions": self.captions} if self.captions else {})


def read_table(path: Path) -> list[PublishedRow]:
    """Rows of a table, in its order; other columns are ignored.

    Raises:
        InputError: if it is no such table, naming the line.
    """
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if lacking := [name for name in _NEEDED if name not in (reader.fieldnames or ())]:
            raise InputError(f"{path} has no column {lacking[0]}; expected a table of TRELLIS-500K.")
        for record in reader:
            try:
                rows.append(_row(record))
            except (TypeError, ValueError) as err:
                raise InputError(f"{path}, line {reader.line_num}: {err}") from err
    return rows


def captions_of(metadata: dict[str, Any]) -> list[str]:
    """Captions of an asset's metadata as a list; empty if there are none.

    Raises:
        InputError: if they are not a JSON list of strings.
    """
    text = metadata.get("captions") or "[]"
    try:
        captions = json.loads(text)
    except json.JSONDecodeError as err:
        raise InputError(f"captions {text[:60]!r} are no JSON; expected a list of strings") from err
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise InputError(f"captions are {text[:60]!r}; expected a JSON list of strings")
    return captions


def find_table(root: Path, file_name: str) -> Path | None:
    """The published table in ``root``: under its own name, or as the ``metadata.csv`` of TRELLIS's tools."""
    for path in (root / file_name, root / "raw" / file_name, root / "metadata.csv"):
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                if set(_NEEDED) <= set(next(csv.reader(file), ())):
                    return path
    return None


def fetch_table(root: Path, file_name: str) -> Path:
    """The published table in ``root``, downloaded from the hub unless it is there.

    Raises:
        InputError: without the hub's client, a network or permission.
    """
    if (path := find_table(root, file_name)) is not None:
        return path
    from mdtdist.data.sources.hub import fetch_file

    return fetch_file(REPOSITORY, file_name, root)


def _row(record: dict[str, str]) -> PublishedRow:
    sha256, score = record["sha256"].strip(), (record.get("aesthetic_score") or "").strip()
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"sha256 is {sha256[:70]!r}; expected 64 hexadecimal digits")
    if not record["file_identifier"]:
        raise ValueError("file_identifier is empty")
    return PublishedRow(
        sha256=sha256,
        file_identifier=record["file_identifier"],
        aesthetic_score=float(score) if score else None,
        captions=record.get("captions") or "",
    )
