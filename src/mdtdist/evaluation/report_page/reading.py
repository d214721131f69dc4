"""Find what a report is made of: evaluation records, and results files from before there were records."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.records import SCHEMA, Record, read_record
from mdtdist.evaluation.report_page.entries import SET_DISTANCES, Entry, Group, Measured, Metric
from mdtdist.evaluation.report_page.older import is_benchmark_file, read_benchmark

_FAMILY = SCHEMA.rstrip("0123456789")


def read_groups(paths: Sequence[Path]) -> tuple[list[Group], list[Path]]:
    """Read records from files and folders; a folder gives every ``*.json`` below it.

    Results that ``mdtdist evaluate`` wrote for a model folder (``mini.json``) are read too.

    Returns:
        One group per file, in the order of the paths, and the files of folders that hold no record.

    Raises:
        InputError: if a path is missing, a named file is no record, a record is of another schema or incomplete, or
            nothing is found.
    """
    groups, left_out = [], []
    for path, is_named in _candidates(paths):
        values = _load(path)
        if isinstance(values, dict) and str(values.get("schema")).startswith(_FAMILY):
            groups.append(record_group(path, read_record(path)))
        elif is_benchmark_file(values):
            groups.append(read_benchmark(path, values))
        elif is_named:
            raise InputError(f"{path} is no evaluation record; expected a file with 'schema': '{SCHEMA}'")
        else:
            left_out.append(path)
    if not groups:
        where = ", ".join(map(str, paths)) or "no folder"
        raise InputError(f"no evaluation record in {where}; write some with 'mdtdist evaluate'")
    return groups, left_out


def _candidates(paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    """Files to read, each once, and whether the user named them."""
    found: dict[Path, tuple[Path, bool]] = {}
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                found.setdefault(file.resolve(), (file, False))
        elif path.is_file():
            found[path.resolve()] = (path, True)
        else:
            raise InputError(f"{path} does not exist; expected a folder of evaluation records")
    return list(found.values())


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"{path} cannot be read as JSON ({err}); remove it or measure again") from err


def record_group(path: Path, record: Record) -> Group:
    """One record as a group of one entry.

    Raises:
        InputError: if a number is not finite.
    """
    system = record.system
    entry = Entry(
        name=system.name,
        kind=system.kind,
        steps=_pair(system.steps),
        nfe=_pair(system.nfe),
        guided=system.guided,
        figures=_figures(path, record),
        not_measured=record.not_measured,
        notes=record.notes,
        seconds=_seconds(path, record.seconds),
        memory_bytes=record.memory_bytes,
        seeds=record.seeds,
        machine=record.machine,
        command=record.command,
        made=record.made,
        versions=record.versions,
        alignment=record.alignment,
        pictures=tuple(path.parent / name for name in record.pictures),
        objects=record.objects,
        source=path,
    )
    return Group(
        protocol=record.protocol.id,
        digest=record.protocol.digest,
        num_objects=record.num_objects,
        objects_digest=record.objects_digest,
        entries=(entry,),
    )


def _pair(values: Sequence[int] | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])


def _figures(path: Path, record: Record) -> dict[Metric, Measured]:
    figures = {}
    for name, found in record.metrics.items():
        metric = Metric(
            name=name,
            network=found.network or None,
            unit=found.unit or None,
            better=found.better,
            count=found.n if name.startswith(SET_DISTANCES) else None,
        )
        ends = [None if end is None else _finite(path, f"metrics.{name}", end) for end in (found.low, found.high)]
        value = _finite(path, f"metrics.{name}", found.value)
        figures[metric] = Measured(value=value, low=ends[0], high=ends[1], count=found.n)
    return figures


def _seconds(path: Path, seconds: Mapping[str, Any] | None) -> dict[str, float] | None:
    """Stages that have a time."""
    timed = {stage: value for stage, value in (seconds or {}).items() if value is not None}
    return {stage: _finite(path, f"seconds.{stage}", value) for stage, value in timed.items()} or None


def _finite(path: Path, where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{path}: {where} is {value!r}; expected a finite number: measure again")
    return float(value)
