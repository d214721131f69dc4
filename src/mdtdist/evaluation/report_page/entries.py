"""What a report is made of: one entry per measured system, grouped so that numbers that compare share a group."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mdtdist.errors import InputError

# Distances between sets grow as the sets shrink: values of different n never share a column.
SET_DISTANCES = ("fd_", "kd_")
_STEPS = re.compile(r"\b\d+\s*(?:\+|x)\s*\d+\b")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a column of a table holds: two metrics that differ in any field never share one.

    Attributes:
        name: for example ``fd_dinov2``.
        network: name and digest of what computed it; None where no network is needed.
        unit: as recorded; None or empty for a pure number.
        better: "lower" or "higher"; None if neither.
        count: pictures or objects, for distances between sets; None elsewhere.
    """

    name: str
    network: str | None = None
    unit: str | None = None
    better: Literal["lower", "higher"] | None = None
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measured number.

    Attributes:
        value: the number, in the unit of its metric.
        low, high: 95 % interval, None if not known.
        spread: standard deviation over the seeds of training, None if not known.
        count: objects or pictures behind it, None if not known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One measured system.

    Attributes:
        name: as recorded, for example ``student 1+1``.
        kind: see ``mdtdist.evaluation.measuring.records.Kind``.
        steps: Euler steps of the structure and of the latent flow; None where that means nothing.
        nfe: network evaluations of the two flows.
        guided: with guidance at run time.
        figures: what was measured.
        not_measured: metric -> why it is missing.
        notes: what a reader has to know beside the numbers.
        seconds: stage -> median seconds.
        memory_bytes: peak.
        seeds: of the noise (or of the trainings).
        machine, command, made, versions, alignment: where the numbers come from.
        pictures: files, in the order of the record.
        objects: ids in the order of the record.
        source: the file this was read from.
    """

    name: str
    kind: str
    steps: tuple[int, int] | None = None
    nfe: tuple[int, int] | None = None
    guided: bool | None = None
    figures: Mapping[Metric, Measured] = field(default_factory=dict)
    not_measured: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] | None = None
    memory_bytes: int | None = None
    seeds: tuple[int, ...] = ()
    machine: str = ""
    command: str = ""
    made: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    alignment: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()
    objects: tuple[str, ...] = ()
    source: Path = Path()

    @property
    def method(self) -> str:
        """The name without steps, guidance, role and punctuation: ``student paper 1+1`` is ``paper``."""
        words = re.findall(r"[a-z0-9.]+", _STEPS.sub(" ", self.name.lower()))
        return " ".join(word for word in words if word not in ("teacher", "student", "guided", "unguided"))

    @property
    def total_seconds(self) -> float | None:
        """Seconds from the picture to the asset: the recorded total, else the sum over the stages."""
        if not self.seconds:
            return None
        return self.seconds["total"] if "total" in self.seconds else sum(self.seconds.values())

    @property
    def num_evaluations(self) -> int | None:
        """Network evaluations of both flows together."""
        return None if self.nfe is None else sum(self.nfe)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Entries that compare: one protocol by its digest, one list of objects.

    Attributes:
        protocol: its id.
        digest: of the protocol's content; empty where the file knows only a name.
        num_objects: objects behind every number.
        objects_digest: of the list of objects; empty where the file does not say.
        entries: by order of reading.
        note: a sentence to print above the tables.
        shows_spread: numbers carry a standard deviation over seeds instead of an interval.
        tables: keys of the tables these entries are for; None for all.
    """

    protocol: str
    digest: str
    num_objects: int | None
    objects_digest: str
    entries: tuple[Entry, ...]
    note: str = ""
    shows_spread: bool = False
    tables: tuple[str, ...] | None = None

    @property
    def key(self) -> tuple[str, str, int | None, str]:
        """What has to agree before two numbers may share a table."""
        return self.protocol, self.digest, self.num_objects, self.objects_digest


def merge_groups(groups: Iterable[Group]) -> list[Group]:
    """Join groups of the same key, in the order of their first appearance.

    Raises:
        InputError: if one system was measured twice under the same protocol on the same objects.
    """
    merged: dict[tuple[str, str, int | None, str], Group] = {}
    for group in groups:
        if group.key in merged:
            first = merged[group.key]
            group = Group(**{**vars(first), "entries": first.entries + group.entries})
        merged[group.key] = group
    for group in merged.values():
        _check_unique(group)
    return list(merged.values())


def _check_unique(group: Group) -> None:
    seen: dict[str, Entry] = {}
    for entry in group.entries:
        other = seen.setdefault(entry.name, entry)
        if other is not entry:
            raise InputError(
                f"{other.source} and {entry.source} both measure {entry.name!r} under protocol {group.protocol} on the "
                "same objects; expected one record per system: keep one of the files or rename the system"
            )
