"""``metadata.csv``: one row per asset, made of its provenance and of what lies in the folder; one table per shard.

Machines that share a folder write ``metadata_shard_<i>_of_<n>.csv`` each. Whoever needs to know what has happened so
far reads all tables; where two speak of one asset, the one that was written last counts.
"""

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mdtdist.data import files
from mdtdist.data.engine import Shard
from mdtdist.data.layouts import CHOSEN_BY_HAND, PROVENANCE, SIZE, Layout, Row, trellis_cells
from mdtdist.data.sources import Asset
from mdtdist.data.split import EXCLUDED, SPLITS, frozen_split, split_by_name
from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

MAIN = "metadata.csv"


def table_path(out: Path, shard: Shard | None) -> Path:
    """The table that a run writes."""
    return out / (MAIN if shard is None else f"metadata{shard.suffix}.csv")


def read_tables(out: Path) -> dict[str, dict[str, str]]:
    """``sha256 -> row`` of all tables of a folder, in the order of ``metadata.csv``, then of the shards' tables.

    Raises:
        InputError: if a table cannot be read.
    """
    tables = [out / MAIN, *sorted(out.glob("metadata_shard_*_of_*.csv"))]
    tables = [path for path in tables if path.exists()]
    order = [sha256 for path in tables for sha256 in _read(path)]
    newest: dict[str, dict[str, str]] = {}
    for path in sorted(tables, key=lambda path: path.stat().st_mtime_ns):
        newest |= _read(path)
    return {sha256: newest[sha256] for sha256 in dict.fromkeys(order)}


def _read(path: Path) -> dict[str, dict[str, str]]:
    csv.field_size_limit(2**31 - 1)  # lists of captions can be long
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["sha256"]: row for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as err:
        raise InputError(f"{path} is no table of assets ({err!r}); expected a CSV with a column sha256.") from err


def with_metadata(assets: Sequence[Asset], path: Path) -> list[Asset]:
    """Assets with the columns of a user's table added to what their source says; its cells count where both speak.

    A row belongs to the asset of its ``sha256``, else to that of its ``file_identifier``: the source's own, or the
    path of a model in a folder.

    Raises:
        InputError: if it is no table, has neither column, or speaks of none of the assets.
    """
    keys = ("sha256", "file_identifier")
    tables: dict[str, dict[str, Row]] = {key: {} for key in keys}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for key in keys:
                    tables[key][row.get(key) or ""] = {name: cell for name, cell in row.items() if name and cell}
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise InputError(f"{path} cannot be read as a table ({err}); expected a CSV with a header.") from err
    found = [_cells_of(asset, tables) for asset in assets]
    if not any(found):
        raise InputError(f"{path} speaks of none of the {len(assets)} assets; expected sha256 or file_identifier.")
    logger.info("%s: %d of %d assets have a row", path, sum(map(bool, found)), len(assets))
    return [replace(asset, metadata={**asset.metadata, **cells}) for asset, cells in zip(assets, found, strict=True)]


def _cells_of(asset: Asset, tables: Mapping[str, Mapping[str, Row]]) -> Row:
    identifier = asset.metadata.get("file_identifier") or asset.source_id
    cells = tables["sha256"].get(asset.sha256) or tables["file_identifier"].get(identifier) or {}
    return {name: cell for name, cell in cells.items() if name != "sha256"}


def check_layout(out: Path, layout: Layout) -> None:
    """Refuse to mix two layouts in one folder.

    Raises:
        InputError: if the folder's table is of another layout.
    """
    found = _found_layout(out)
    if found is not None and found != layout.name:
        raise InputError(f"{out} holds the layout {found}, not {layout.name}; give --layout {found} or another --out.")


def _found_layout(out: Path) -> str | None:
    """Which layout a folder holds; None if it is new."""
    if (contents := files.read_contents(out)) is not None:
        return contents.layout
    path = out / MAIN
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        return None
    return "trellis" if "file_identifier" in header else "mini"


def asset_cells(
    assets: Sequence[Asset], out: Path, layout: Layout, earlier: Mapping[str, Row], *, score: float | None
) -> list[Row]:
    """What is known of assets before any stage; columns of an earlier table that this layout does not know are kept.

    Args:
        score: aesthetic score of an asset without one, in a table that has such a column. None: the top of the scale
            if no asset has one (a folder chosen by hand is not to be filtered), else an empty cell.

    Raises:
        InputError: if an asset lacks a column that the layout carries or has another value there than in an earlier
            table, or if one object would be in two splits.
    """
    for asset in assets:
        _check_carried(asset, layout, earlier.get(asset.sha256, {}))
    if "split" in layout.carried:
        _check_splits(assets)
    has_scores = any(asset.metadata.get("aesthetic_score") not in (None, "") for asset in assets)
    default = CHOSEN_BY_HAND if score is None and not has_scores else score
    rows = []
    for asset in assets:
        row: Row = dict(earlier.get(asset.sha256, {})) if layout.closing_columns else {}
        row |= {"sha256": asset.sha256, **{name: getattr(asset, name) for name in PROVENANCE}}
        row |= dict(zip(SIZE, asset.size_cm or ("", "", ""), strict=True))
        row |= {name: asset.metadata[name] for name in layout.carried}
        if "file_identifier" in layout.columns:
            row |= trellis_cells(asset, out, default_score=default)
        rows.append(row)
    return rows


def _check_carried(asset: Asset, layout: Layout, earlier: Row) -> None:
    for name in layout.carried:
        if name not in asset.metadata:
            raise InputError(f"{asset.source_id} has no {name}, which the layout {layout.name} takes from its source.")
        value, before = str(asset.metadata[name]), earlier.get(name)
        if before not in (None, value):
            raise InputError(
                f"{asset.source_id} has the {name} {value}, and {before} in an earlier run; its files are of that one. "
                "Give the same source and options, or another --out."
            )


def _check_splits(assets: Sequence[Asset]) -> None:
    """All items of an object belong to one set."""
    splits: dict[str, str] = {}
    for asset in assets:
        split, known = asset.metadata["split"], asset.metadata.get("object", asset.sha256)
        if split not in SPLITS or splits.setdefault(known, split) != split:
            raise InputError(
                f"{asset.source_id} has the split {split!r}; expected one of {', '.join(SPLITS)}, "
                "the same for all items of an object."
            )


class Table:
    """The rows of a folder while its assets are prepared.

    Args:
        cells: what is known before any stage, one per asset.
        failures: ``sha256 -> reason``.
        shard: None for the table of all assets; a shard cannot split by name, which takes all of them.
    """

    def __init__(
        self, cells: Sequence[Row], out: Path, layout: Layout, *, failures: Mapping[str, str], shard: Shard | None
    ) -> None:
        self._cells = {row["sha256"]: row for row in cells}
        self._out, self._layout, self._shard = out, layout, shard
        self._failures = dict(failures)
        self._rows = {sha256: self._evaluate(sha256) for sha256 in self._cells}

    def update(self, sha256: str, reason: str | None) -> None:
        """Look at the files of an asset again after a stage; ``reason`` if it failed."""
        if reason is not None:
            self._failures[sha256] = reason
        self._rows[sha256] = self._evaluate(sha256)

    def rows(self) -> list[Row]:
        """All rows, with their splits."""
        rows = [dict(row) for row in self._rows.values()]
        usable = [row for row in rows if row["status"] == "ok" and "split" not in self._layout.carried]
        splits = _splits(usable, is_whole=self._shard is None)
        for row in rows:
            row["split"] = splits.get(row["sha256"], row["split"])
            if row["split"] == EXCLUDED:
                row |= {"status": EXCLUDED, "reason": "left out of the frozen split", "split": ""}
        return rows

    def write(self) -> list[Row]:
        """Write the table; returns its rows."""
        rows = self.rows()
        columns = self._layout.table_columns(rows)
        flags = {key for row in rows for key, value in row.items() if isinstance(value, bool)}
        flags |= {"rendered", "voxelized", "cond_rendered"} & set(columns)
        blank = dict.fromkeys(flags, False)  # pandas cannot select by a column that is empty here and there
        files.write_csv(table_path(self._out, self._shard), [blank | row for row in rows], columns=columns)
        return rows

    def _evaluate(self, sha256: str) -> Row:
        chosen_here = {} if "split" in self._layout.carried else {"split": ""}
        row = {**self._cells[sha256], **chosen_here, "status": "ok", "reason": ""}
        for stage in self._layout.stages:
            row |= stage.columns(self._out, sha256)
        if reason := self._layout.exclusion(row):
            row |= {"status": EXCLUDED, "reason": reason}
        if (failure := self._failures.get(sha256)) is not None:
            row |= {"status": "failed", "reason": failure}
        return row


def earlier_failures(
    tables: Mapping[str, Mapping[str, str]], out: Path, layout: Layout, *, retried: Iterable[str]
) -> dict[str, str]:
    """Recorded failures, but for those of stages that are tried again now or whose files have come since."""
    retried = set(retried)
    stages = {stage.name: stage for stage in layout.stages}
    failures = {}
    for sha256, row in tables.items():
        name = (row.get("reason") or "").split(":")[0]
        is_over = name in retried or (name in stages and stages[name].is_done(out, sha256))
        if row.get("status") == "failed" and not is_over:
            failures[sha256] = row["reason"]
    return failures


def _splits(rows: Sequence[Row], *, is_whole: bool) -> dict[str, str]:
    """``sha256 -> split``: the frozen list where it knows the asset, by name otherwise."""
    frozen = frozen_split()
    result: dict[str, str] = {}
    unknown: list[Asset] = []
    for row in rows:
        if (entry := frozen.get(row.get("source_id", ""))) is None:
            unknown.append(_as_asset(row))
            continue
        if entry.sha256 != row["sha256"]:
            logger.warning("%s differs from the frozen list (another sha256); its split is kept", row["source_id"])
        result[row["sha256"]] = entry.split
    return result | split_by_name(unknown) if is_whole else result


def _as_asset(row: Mapping[str, Any]) -> Asset:
    """As much of an asset as splitting needs."""
    source_id, name, category = (row.get(key) or "" for key in ("source_id", "name", "category"))
    return Asset(source_id=source_id, sha256=row["sha256"], path=Path(), name=name, category=category)
