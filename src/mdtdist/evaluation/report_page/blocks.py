"""The parts of a report, before it is known whether they become HTML or Markdown.

Texts are plain; ``code`` stands between backticks. The writers escape everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Style = Literal["label", "text", "measured", "missing", "published", "empty"]


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A title; level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """Sentences; a note is set smaller."""

    text: str
    is_note: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: what it says, and what stands small beneath."""

    text: str
    detail: str = ""
    style: Style = "text"


@dataclass(frozen=True, kw_only=True)
class Column:
    """The head of a column; published columns are marked from top to bottom."""

    title: str
    detail: str = ""
    better: Literal["lower", "higher"] | None = None
    is_published: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under columns; the first column labels the row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing.

    Attributes:
        name: file name without suffix.
        panels: SVG elements of each panel, without the outer ``<svg>``.
        size: of a panel, SVG units: width, height.
        alt: what it shows, for those who do not see it.
        caption: beneath it.
        columns: panels side by side in the file.
    """

    name: str
    panels: Sequence[str]
    size: tuple[int, int]
    alt: str
    caption: str
    columns: int = 1


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A picture that exists already."""

    name: str
    path: Path
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture, or a part of one: ``box`` is left, top, right, bottom in pixels."""

    path: Path
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Pictures of several objects (rows) by several systems (columns); None where there is none."""

    name: str
    rows: Sequence[str]
    columns: Sequence[str]
    pictures: Sequence[Sequence[Tile | None]]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """How one row was made: a title, facts, the exact command."""

    title: str
    facts: Sequence[tuple[str, str]]
    command: str


Block = Heading | Paragraph | Table | Plot | Sheet | Grid | Command
