"""Records of measured systems: one JSON file each, everything a table or a report needs.

A record says what was measured (system, objects, seeds, alignment), how (protocol with its digest, networks with those
of their checkpoints), where (machine, versions, command), and the numbers with their intervals.
"""

import datetime
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mdtdist.config import from_dict
from mdtdist.errors import InputError
from mdtdist.files import appear_whole

SCHEMA = "mdtdist-evaluation-1"
Kind = Literal["teacher", "student", "baseline", "other", "calibration"]


@dataclass(frozen=True, kw_only=True)
class System:
    """What was measured.

    Attributes:
        name: for people, for example ``student 1+1``.
        kind: what it is to the tables.
        steps: sampler steps of the structure and of the latent flow; None where that means nothing.
        nfe: network evaluations of both flows, guidance included.
        guided: whether guidance was on.
    """

    name: str
    kind: Kind = "other"
    steps: tuple[int, ...] | None = None
    nfe: tuple[int, ...] | None = None
    guided: bool | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("the name of the system is empty; give one for the tables")
        for label, pair in (("steps", self.steps), ("nfe", self.nfe)):
            if pair is not None and (len(pair) != 2 or min(pair) < 1):
                raise InputError(f"{label} is {pair!r}; expected two whole numbers from 1 up")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number with its interval.

    Attributes:
        value: the number, in ``unit``.
        low: lower end of the interval over objects; None where there is none.
        high: upper end.
        better: which direction is good.
        unit: for example "object units" or "x 100"; empty for a pure number.
        n: objects behind the number.
        network: the name that the measuring network gives itself; empty without one.
    """

    value: float
    low: float | None
    high: float | None
    better: Literal["lower", "higher"]
    unit: str = ""
    n: int
    network: str = ""


@dataclass(frozen=True, kw_only=True)
class ProtocolReference:
    """Which protocol a record follows."""

    id: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measured system.

    Attributes:
        system: what was measured.
        protocol: how.
        num_objects: objects on either side of every comparison.
        objects_digest: see :func:`objects_digest`.
        objects: their ids, in the order of all per-object values.
        seeds: of the outputs.
        alignment: how the files were turned and scaled to the reference.
        metrics: name -> number.
        not_measured: name -> why it is missing, and what would add it.
        notes: what a reader has to know beside the numbers.
        seconds: stage -> median seconds of generation, as the files beside the assets state them; None without.
        memory_bytes: peak memory of generation; None where unknown.
        machine: hardware and versions of the measurement.
        command: that made the record.
        made: ISO date and time, UTC.
        versions: of packages.
        pictures: files beside the record.
        per_object: metric -> one value per object, the mean over its seeds; None where an object has none.
        schema: of the file.
    """

    system: System
    protocol: ProtocolReference
    num_objects: int
    objects_digest: str
    objects: tuple[str, ...]
    seeds: tuple[int, ...]
    alignment: dict[str, Any]
    metrics: dict[str, Any]  # of Metric
    not_measured: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: dict[str, Any] | None = None
    memory_bytes: int | None = None
    machine: str
    command: str
    made: str
    versions: dict[str, str]
    pictures: tuple[str, ...] = ()
    per_object: dict[str, Any] = field(default_factory=dict)
    schema: str = SCHEMA


def objects_digest(ids: Iterable[str]) -> str:
    """SHA-256 of the sorted ids, one a line: equal for equal sets of objects."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def write_record(path: Path, record: Record) -> None:
    """Write a record; the file appears whole. Numbers keep six digits."""
    values = _rounded(asdict(record))
    lines = [f" {json.dumps(key)}: {_entry(value)}" for key, value in values.items()]
    with appear_whole(path) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read a record strictly.

    Raises:
        InputError: if the file is missing, no JSON, of another schema, or has unknown or missing keys.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise InputError(f"cannot read the record {path}: {err.strerror}") from err
    except ValueError as err:
        raise InputError(f"{path} is no JSON ({err}); expected a record of `mdtdist evaluate --assets`") from err
    schema = values.get("schema") if isinstance(values, Mapping) else None
    if schema != SCHEMA:
        raise InputError(
            f"{path} has the schema {schema!r}; expected {SCHEMA!r}, as `mdtdist evaluate --assets` writes"
        )
    where = f"record {path.name}"
    values["metrics"] = {
        name: from_dict(Metric, value, where=f"{where}.metrics.{name}") for name, value in values["metrics"].items()
    }
    return from_dict(Record, values, where=where)


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, by file name; other JSON files are passed over.

    Raises:
        InputError: if the folder has none, or one is broken.
    """
    paths = [path for path in sorted(folder.glob("*.json")) if SCHEMA in path.read_text(encoding="utf-8")]
    if not paths:
        raise InputError(f"{folder} has no record; make one with `mdtdist evaluate --assets DIR --protocol ID`")
    return [read_record(path) for path in paths]


def check_same_protocol(records: Sequence[Record]) -> None:
    """Refuse to put records into one table that were not measured alike.

    Raises:
        InputError: if protocols or objects differ; names the two records.
    """
    for record in records[1:]:
        first = records[0]
        for label, mine, theirs in (
            ("protocol digest", record.protocol.digest, first.protocol.digest),
            ("set of objects", record.objects_digest, first.objects_digest),
        ):
            if mine != theirs:
                raise InputError(
                    f"{record.system.name!r} and {first.system.name!r} differ in the {label} ({mine[:12]} and "
                    f"{theirs[:12]}); measure both under one protocol on the same objects, or make two tables"
                )


def package_versions() -> dict[str, str]:
    """Versions of what the numbers may depend on."""
    names = ("mdtdist", "torch", "numpy", "scipy", "pillow")
    return {name: metadata.version(name) for name in names} | {"python": platform.python_version()}


def time_stamp() -> str:
    """Now, as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()


def _rounded(value: Any) -> Any:
    """Plain data for JSON, floats with six significant digits, tuples as lists."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _entry(value: Any) -> str:
    """JSON of one entry; a mapping has one line per key."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value, allow_nan=False)
    lines = [f"  {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n }"
