"""The three tables of the MDT-dist paper: ours measured, what was published beside it in columns of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdtdist.evaluation.report_page.blocks import Block, Cell, Column, Heading, Paragraph, Table
from mdtdist.evaluation.report_page.entries import Entry, Group, Metric
from mdtdist.evaluation.report_page.lines import Line, lines, unfilled
from mdtdist.evaluation.report_page.numbers import ordered, show, show_seconds, title, unit
from mdtdist.evaluation.report_page.published import Published, PublishedFigure, PublishedRow

_MISSING = Cell(text="not measured", style="missing")
_MARKED = ("baseline", "calibration")


def table_blocks(groups: Sequence[Group], published: Published) -> list[Block]:
    """All tables: one per published table and group of comparable records."""
    blocks: list[Block] = []
    for key, text in published.tables.items():
        blocks += [Heading(text=text), *_quoted_note(key, published)]
        parts = [(group, lines(group, key, published)) for group in groups]
        parts = [(group, found) for group, found in parts if any(line.entry for line in found)]
        if len(parts) > 1:
            blocks.append(Paragraph(text=_split_sentence(len(parts))))
        for group, found in parts:
            blocks += [Heading(text=group_title(group), level=3), Paragraph(text=describe(group))]
            blocks += _Layout.of(group, found, key, published).blocks()
        if not parts:
            blocks.append(Paragraph(text="No record belongs in this table yet: nothing of ours is measured."))
            blocks += _Layout.of(None, lines(None, key, published), key, published).blocks()
    return blocks


def _split_sentence(count: int) -> str:
    return (
        f"The records were measured in {count} ways that do not compare: digests of the protocol or of the objects, or "
        "kinds of results, differ. Each has a table of its own; do not compare numbers of different tables."
    )


def group_title(group: Group) -> str:
    """The protocol, with the start of its digest."""
    return f"Protocol {group.protocol}" + (f" ({group.digest[:12]})" if group.digest else "")


def describe(group: Group) -> str:
    """Protocol, digest, objects and seeds behind every number of a table."""
    seeds = {entry.seeds for entry in group.entries if entry.seeds}
    parts = [
        f"Protocol `{group.protocol}`"
        + (f", digest `{group.digest[:16]}`" if group.digest else ", which has no digest"),
        f"n = {group.num_objects} objects" if group.num_objects else "",
        f"digest of the objects `{group.objects_digest[:12]}`" if group.objects_digest else "",
        f"seeds {', '.join(map(str, next(iter(seeds))))}" if len(seeds) == 1 else "",
        "seeds differ, see the commands" if len(seeds) > 1 else "",
    ]
    brackets = "" if group.shows_spread else " Brackets are 95 % intervals over the objects."
    return "; ".join(part for part in parts if part) + "." + brackets + (f" {group.note}" if group.note else "")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """One table before it is written.

    Attributes:
        found: its rows.
        metrics: measured columns, in order.
        absent: published metrics that no record of the table has.
        quoted: published columns.
        machines: behind the seconds; each has a letter.
        group: of the records; None without any.
        key, published: which published table.
    """

    found: Sequence[Line]
    metrics: Sequence[Metric]
    absent: Sequence[str]
    quoted: Sequence[str]
    machines: Sequence[str]
    group: Group | None
    key: str
    published: Published

    @classmethod
    def of(cls, group: Group | None, found: Sequence[Line], key: str, published: Published) -> "_Layout":
        """Decide on the columns."""
        entries = [line.entry for line in found if line.entry]
        metrics = ordered([metric for entry in entries for metric in entry.figures])
        quoted = published.metrics(key)
        names = {"ulip" if metric.name in ("ulip1", "ulip2") else metric.name for metric in metrics}
        return cls(
            found=found,
            metrics=metrics,
            absent=[name for name in quoted if name not in {*names, "seconds"}],
            quoted=quoted,
            machines=list(dict.fromkeys(entry.machine for entry in entries if entry.total_seconds and entry.machine)),
            group=group,
            key=key,
            published=published,
        )

    def blocks(self) -> list[Block]:
        """The table and the notes beneath it."""
        columns = [
            Column(title="system"),
            Column(title="steps", detail="evaluations"),
            Column(title="seconds", better="lower"),
            *[self._column(metric) for metric in self.metrics],
            *[Column(title=title(name)) for name in self.absent],
            *[Column(title=_quoted_title(name), detail="published", is_published=True) for name in self.quoted],
        ]
        rows = [[*self._own_cells(line), *self._quoted_cells(line)] for line in self.found]
        notes = [Paragraph(text=note, is_note=True) for note in self._notes()]
        return [Table(columns=columns, rows=rows), *notes]

    def _column(self, metric: Metric) -> Column:
        parts = (unit(metric), f"n = {metric.count}" if metric.count else "")
        detail = ", ".join(part for part in parts if part)
        return Column(title=self._title(metric), detail=detail, better=metric.better)

    def _title(self, metric: Metric) -> str:
        """The metric's title; with a letter where several columns would have the same."""
        twins = [other for other in self.metrics if other.name == metric.name]
        letter = f" ({chr(ord('A') + twins.index(metric))})" if len(twins) > 1 else ""
        return title(metric.name) + letter

    def _own_cells(self, line: Line) -> Iterator[Cell]:
        entry, row = line.entry, line.row
        steps = entry.steps if entry else row.steps if row else None
        beside = f"beside {row.label}" if row and row.figures else entry.kind if entry and entry.kind in _MARKED else ""
        yield Cell(text=entry.name, detail=beside, style="label") if entry else Cell(text=_label(row), style="label")
        evaluations = f"{entry.nfe[0]}+{entry.nfe[1]}" if entry and entry.nfe else ""
        yield Cell(text="+".join(map(str, steps)) if steps else "-", detail=evaluations)
        yield self._seconds(entry)
        for metric in self.metrics:
            yield self._figure(entry, metric)
        yield from [_MISSING] * len(self.absent)

    def _seconds(self, entry: Entry | None) -> Cell:
        if entry is None or entry.total_seconds is None:
            return _MISSING
        letter = chr(ord("a") + self.machines.index(entry.machine)) if entry.machine and len(self.machines) > 1 else ""
        detail = f"machine {letter}" if letter else ""
        return Cell(text=show_seconds(entry.total_seconds), detail=detail, style="measured")

    def _figure(self, entry: Entry | None, metric: Metric) -> Cell:
        measured = entry.figures.get(metric) if entry else None
        if measured is None:
            return _MISSING
        text, detail = show(metric, measured)
        usual = self.group.num_objects if self.group else None
        if metric.count is None and usual and measured.count and measured.count != usual:
            detail = f"{detail} n = {measured.count}".strip()
        return Cell(text=text, detail=detail, style="measured")

    def _quoted_cells(self, line: Line) -> Iterator[Cell]:
        for name in self.quoted:
            figure = line.row.value(name) if line.row and line.is_first else None
            nothing = "-" if line.row and line.is_first else ""
            yield Cell(text=_quoted(figure) if figure else nothing, style="published")

    def _notes(self) -> Iterator[str]:
        networks = [f"{self._title(metric)}: `{metric.network}`" for metric in self.metrics if metric.network]
        if networks:
            yield "Networks: " + "; ".join(networks) + "."
        if len(self.machines) > 1:
            named = [f"({chr(ord('a') + i)}) {machine}" for i, machine in enumerate(self.machines)]
            yield "Seconds are medians; machines of the records: " + "; ".join(named) + "."
        elif self.machines:
            yield f"Seconds are medians; machine of the records: {self.machines[0]}."
        missing = unfilled(self.group, self.key, self.published)
        if missing:
            yield f"Not measured, and no published figure known here: {', '.join(missing)}."


def _quoted_note(table: str, published: Published) -> list[Block]:
    """What the marked columns of a table are."""
    figures = [figure for row in published.rows if table in row.tables for figure in row.figures]
    named = "; ".join(
        f"{source.reference}, on {source.hardware}"
        for key, source in published.sources.items()
        if any(figure.source == key for figure in figures)
    )
    text = (
        f"Marked columns quote what was published ({named}): another model, other objects, another machine. Compare "
        "them within themselves only; what is known of how they were made stands under Sources."
    )
    return [Paragraph(text=text, is_note=True)] if named else []


def _quoted_title(name: str) -> str:
    return "seconds" if name == "seconds" else title(name) + (" x 100" if name == "ulip" else "")


def _quoted(figure: PublishedFigure) -> str:
    return f"{figure.value:g}" if figure.metric == "seconds" else f"{figure.value:.1f}"


def _label(row: PublishedRow | None) -> str:
    return row.label if row else ""


def sources_blocks(published: Published) -> list[Block]:
    """Where each published figure comes from."""
    blocks: list[Block] = [Heading(text="Sources of the published figures")]
    for key, source in published.sources.items():
        blocks.append(Paragraph(text=f"{source.title}, {source.reference}, on {source.hardware}. {source.protocol}"))
        for where in dict.fromkeys(figure.where for row in published.rows for figure in row.figures):
            said = [_said(row, key, where) for row in published.rows]
            text = f"From its {where}: {'; '.join(dict.fromkeys(part for part in said if part))}."
            blocks.append(Paragraph(text=text, is_note=True))
    return blocks


def _said(row: PublishedRow, source: str, where: str) -> str:
    """A line's figures out of one place of one source."""
    figures = [figure for figure in row.figures if (figure.source, figure.where) == (source, where)]
    text = ", ".join(f"{_quoted_title(figure.metric)} {_quoted(figure)}" for figure in figures)
    return f"{row.label}: {text}" if text else ""
