"""A report as Markdown, with its pictures (PNG) and drawings (SVG) as files beside it."""

from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path

from mdtdist.evaluation.report_page.blocks import (
    Block,
    Cell,
    Column,
    Command,
    Grid,
    Heading,
    Paragraph,
    Plot,
    Sheet,
    Table,
    Tile,
)
from mdtdist.evaluation.report_page.charts import document
from mdtdist.evaluation.report_page.pictures import SHEET_WIDTH, open_picture, write_grid
from mdtdist.files import appear_whole

_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\*_[]<>|#~$&"})


def write_markdown(blocks: Sequence[Block], folder: Path, *, name: str, title: str, lead: str) -> Path:
    """Write ``<name>.md`` and the files it shows, which begin with ``<name>_``.

    Raises:
        InputError: if a picture cannot be read or the folder not be written.
    """
    parts = [f"# {plain(title)}", rich(lead), *(write(block, folder, name) for block in blocks)]
    path = folder / f"{name}.md"
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """A text file that appears whole."""
    with appear_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(text.split()).translate(_SPECIAL).replace("`", "\\`")


def rich(text: str) -> str:
    """Plain text with ``code`` between backticks, which stays code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no pair
        return plain(text)
    pieces = [f"`{part}`" if number % 2 else _keep_ends(part) for number, part in enumerate(parts)]
    return "".join(pieces).strip()


def _keep_ends(text: str) -> str:
    """``plain`` without losing the blanks next to code."""
    left, right = " " * text[:1].isspace(), " " * text[-1:].isspace()
    return f"{left}{plain(text)}{right}" if text.strip() else " " * bool(text)


@singledispatch
def write(block: Block, folder: Path, name: str) -> str:
    """One block as Markdown; its files go into ``folder``."""
    raise TypeError(f"no Markdown for {type(block).__name__}")


@write.register
def _(block: Heading, folder: Path, name: str) -> str:
    return f"{'#' * block.level} {plain(block.text)}"


@write.register
def _(block: Paragraph, folder: Path, name: str) -> str:
    return rich(block.text)


@write.register
def _(block: Table, folder: Path, name: str) -> str:
    head = [_column(column) for column in block.columns]
    rule = ["---", *["---:"] * (len(block.columns) - 1)]
    rows = [[_cell(cell) for cell in row] for row in block.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows])


def _column(column: Column) -> str:
    text = f"*{plain(column.title)}*" if column.is_published else plain(column.title)
    details = [f"{column.better} is better" if column.better else "", column.detail]
    detail = ", ".join(plain(part) for part in details if part)
    return f"{text}<br>{detail}" if detail else text


def _cell(cell: Cell) -> str:
    between = "<br>" if cell.detail and cell.style in ("label", "text") else " "
    text = f"{plain(cell.text)}{between}{plain(cell.detail)}".strip()
    is_marked = cell.style in ("published", "missing") and text
    return f"*{text}*" if is_marked else text


@write.register
def _(block: Plot, folder: Path, name: str) -> str:
    file = f"{name}_{block.name}.svg"
    write_text(folder / file, document(block.panels, block.size, columns=block.columns, alt=block.alt))
    return _picture(file, block.alt, block.caption)


@write.register
def _(block: Sheet, folder: Path, name: str) -> str:
    file = f"{name}_{block.name}.png"
    with appear_whole(folder / file) as partial:
        open_picture(Tile(path=block.path), width=SHEET_WIDTH).save(partial, "PNG", optimize=True)
    return _picture(file, block.alt, block.caption)


@write.register
def _(block: Grid, folder: Path, name: str) -> str:
    file = f"{name}_{block.name}.png"
    write_grid(block, folder / file)
    return _picture(file, block.caption, f"{block.caption} Rows: {', '.join(key[:12] for key in block.rows)}.")


def _picture(file: str, alt: str, caption: str) -> str:
    return f"![{plain(alt)}]({file})" + (f"\n\n{rich(caption)}" if caption else "")


@write.register
def _(block: Command, folder: Path, name: str) -> str:
    facts = "; ".join(f"{plain(key)}: {plain(text)}" for key, text in block.facts)
    lines = "\n".join(f"    {line}" for line in block.command.splitlines()) or "No command recorded."
    return f"**{plain(block.title)}**\n\n{lines}\n\n{facts}"
