"""Published figures: read from ``evaluation/report_page/published.toml``, where each has its source."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mdtdist.config import from_dict, load_toml
from mdtdist.errors import InputError
from mdtdist.evaluation.report_page.entries import Entry

SCHEMA = "mdtdist-published-1"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where figures were published.

    Attributes:
        title: of the paper.
        reference: for example an arXiv id.
        protocol: how its authors measured, and what they left unsaid.
        hardware: behind its seconds.
    """

    title: str
    reference: str
    protocol: str
    hardware: str


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """One published number.

    Attributes:
        metric: ``seconds``, ``fd_dinov2``, ``ulip`` (its version is not always said).
        value: as printed.
        source: key of ``sources``.
        where: in the source: abstract or tables.
        unit: as printed.
    """

    metric: str
    value: float
    source: str
    where: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A line of the published tables, and which records of ours belong in it.

    Attributes:
        label: as in the tables.
        tables: keys of the tables that have this line.
        methods: names of systems without steps and role, see :attr:`Entry.method`.
        kind, steps, guided: what a record must have; None takes any.
        figures: what was published; empty where nothing is recorded here.
    """

    label: str
    tables: tuple[str, ...]
    methods: tuple[str, ...]
    kind: str | None = None
    steps: tuple[int, ...] | None = None
    guided: bool | None = None
    figures: tuple[PublishedFigure, ...] = ()

    def takes(self, entry: Entry) -> bool:
        """Whether a measured system is what this line is about."""
        return (
            entry.method in self.methods
            and (self.kind is None or entry.kind == self.kind)
            and (self.steps is None or entry.steps == self.steps)
            and (self.guided is None or bool(entry.guided) == self.guided)
        )

    def value(self, metric: str) -> PublishedFigure | None:
        """The published figure of a metric."""
        return next((figure for figure in self.figures if figure.metric == metric), None)


@dataclass(frozen=True, kw_only=True)
class Published:
    """All published figures.

    Attributes:
        tables: key -> title, in order.
        sources: key -> source.
        rows: in the order of the tables.
    """

    tables: Mapping[str, str]
    sources: Mapping[str, Source]
    rows: Sequence[PublishedRow]

    def metrics(self, table: str) -> list[str]:
        """Metrics that a table has columns for: those with more than one figure, by first appearance."""
        rows = [row for row in self.rows if table in row.tables]
        counts = Counter(figure.metric for row in rows for figure in row.figures)
        return [metric for metric, count in counts.items() if count > 1 or len(rows) == 1]


def read_published(path: Path | None = None) -> Published:
    """Read the published figures; without a path those that ship with the package.

    Raises:
        InputError: if the file is missing, of another schema, has an unknown key, or a figure without a known source.
    """
    if path is None:
        with resources.as_file(resources.files("mdtdist.evaluation.report_page") / "published.toml") as shipped:
            return read_published(shipped)
    values = load_toml(path)
    if values.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {values.get('schema')!r}; expected '{SCHEMA}'")
    published = Published(
        tables=dict(values.get("tables", {})),
        sources={key: from_dict(Source, item, where=f"sources.{key}") for key, item in values["sources"].items()},
        rows=[
            from_dict(PublishedRow, item, where=f"rows[{number}]") for number, item in enumerate(values.get("rows", []))
        ],
    )
    _check(path, published)
    return published


def _check(path: Path, published: Published) -> None:
    for row in published.rows:
        for table in row.tables:
            if table not in published.tables:
                raise InputError(
                    f"{path}: {row.label!r} is in table {table!r}; expected one of {', '.join(published.tables)}"
                )
        for figure in row.figures:
            if figure.source not in published.sources:
                raise InputError(
                    f"{path}: {figure.metric} of {row.label!r} has source {figure.source!r}; expected one of "
                    f"{', '.join(published.sources)}: no figure without its source"
                )
