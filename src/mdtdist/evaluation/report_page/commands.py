"""How each row was made: its exact command, and what a reader needs to judge or repeat it."""

import json
from collections.abc import Iterator, Sequence

from mdtdist.evaluation.report_page.blocks import Block, Command, Heading
from mdtdist.evaluation.report_page.entries import Entry, Group
from mdtdist.evaluation.report_page.numbers import show_seconds, title
from mdtdist.evaluation.report_page.tables import group_title


def command_blocks(groups: Sequence[Group]) -> list[Block]:
    """One block per record; rows that were read from one file share one."""
    blocks: list[Block] = [Heading(text="Commands")]
    for group in groups:
        by_source: dict[object, list[Entry]] = {}
        for entry in group.entries:
            by_source.setdefault(entry.source, []).append(entry)
        for entries in by_source.values():
            named = entries[0].name if len(entries) == 1 else f"{len(entries)} rows of {entries[0].source.name}"
            blocks.append(
                Command(
                    title=f"{named} - {group_title(group)}",
                    facts=list(_facts(group, entries)),
                    command=entries[0].command,
                )
            )
    return blocks


def _facts(group: Group, entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    entry = entries[0]
    yield "file", entry.source.name
    if group.digest:
        yield "protocol", f"{group.protocol}, digest {group.digest}"
    if group.objects_digest:
        yield "objects", f"{group.num_objects}, digest {group.objects_digest}"
    if entry.seeds:
        yield "seeds", ", ".join(map(str, entry.seeds))
    if entry.machine:
        yield "machine", entry.machine
    if entry.made:
        yield "made", entry.made
    if len(entries) == 1:
        yield from _own_facts(entry)
    if entry.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in entry.versions.items())


def _own_facts(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.seconds:
        yield "seconds", ", ".join(f"{name.replace('_', ' ')} {show_seconds(s)}" for name, s in entry.seconds.items())
    if entry.memory_bytes:
        yield "peak memory", f"{entry.memory_bytes / 2**30:.2f} GiB"
    if entry.alignment:
        yield "alignment", json.dumps(dict(entry.alignment))
    for name, reason in entry.not_measured.items():
        yield f"{title(name)} not measured", reason
    for note in entry.notes:
        yield "note", note
