"""A report as one self-contained HTML page: styles, drawings and pictures inside, no script, nothing fetched."""

import re
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from importlib import resources
from string import Template

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
from mdtdist.evaluation.report_page.pictures import SHEET_WIDTH, data_uri

TEMPLATE = "report_page.html"
_ARROWS = {"lower": "&darr;", "higher": "&uarr;"}


def html_page(blocks: Sequence[Block], *, title: str, lead: str) -> str:
    """The page as text.

    Raises:
        InputError: if a picture cannot be read.
    """
    template = Template((resources.files("mdtdist.evaluation.report_page") / TEMPLATE).read_text(encoding="utf-8"))
    headings = [block for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<a href="#{_anchor(block)}">{escape(block.text.partition(":")[0])}</a>' for block in headings)
    return template.substitute(
        title=escape(title), lead=rich(lead), links=links, body="\n".join(write(block) for block in blocks)
    )


def rich(text: str) -> str:
    """Plain text as HTML: everything escaped, ``code`` between backticks."""
    parts = escape(text).replace("+-", "&plusmn;").split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no pair
        return escape(text)
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _anchor(heading: Heading) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.text.lower()).strip("-")


@singledispatch
def write(block: Block) -> str:
    """One block as HTML."""
    raise TypeError(f"no HTML for {type(block).__name__}")


@write.register
def _(block: Heading) -> str:
    name = f' id="{_anchor(block)}"' if block.level == 2 else ""
    return f"<h{block.level}{name}>{escape(block.text)}</h{block.level}>"


@write.register
def _(block: Paragraph) -> str:
    return f'<p class="note">{rich(block.text)}</p>' if block.is_note else f"<p>{rich(block.text)}</p>"


@write.register
def _(block: Table) -> str:
    head = "".join(_head(column) for column in block.columns)
    rows = "\n".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in block.rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="table">{table}</div>'


def _head(column: Column) -> str:
    marked = ' class="published"' if column.is_published else ""
    arrow = f'&nbsp;<abbr title="{column.better} is better">{_ARROWS[column.better]}</abbr>' if column.better else ""
    return f'<th scope="col"{marked}>{escape(column.title)}{arrow}{_small(column.detail)}</th>'


def _cell(cell: Cell) -> str:
    text = escape(cell.text) + _small(cell.detail)
    return f'<th scope="row">{text}</th>' if cell.style == "label" else f'<td class="{cell.style}">{text}</td>'


def _small(text: str) -> str:
    return f"<small>{escape(text).replace('+-', '&plusmn;')}</small>" if text else ""


@write.register
def _(block: Plot) -> str:
    width, height = block.size
    panels = "\n".join(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(block.alt)}">{panel}</svg>'
        for panel in block.panels
    )
    kind = "wide" if block.columns < 3 else "small"
    return f'<figure><div class="panels {kind}">{panels}</div>{_caption(block.caption)}</figure>'


@write.register
def _(block: Sheet) -> str:
    picture = data_uri(Tile(path=block.path), width=SHEET_WIDTH)
    return (
        f'<figure><div class="scroll" tabindex="0"><img class="sheet" src="{picture}" alt="{escape(block.alt)}"></div>'
        f"{_caption(block.caption)}</figure>"
    )


@write.register
def _(block: Grid) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in block.columns)
    rows = [
        "<tr>" + "".join(_picture(tile, name, key) for tile, name in zip(row, block.columns, strict=True)) + "</tr>"
        for key, row in zip(block.rows, block.pictures, strict=True)
    ]
    table = f'<table class="pictures"><thead><tr>{head}</tr></thead><tbody>\n{"".join(rows)}\n</tbody></table>'
    return f'<figure><div class="scroll" tabindex="0">{table}</div>{_caption(block.caption)}</figure>'


def _picture(tile: Tile | None, column: str, row: str) -> str:
    if tile is None:
        return '<td class="missing">no picture</td>'
    return f'<td><img src="{data_uri(tile)}" alt="{escape(f"{row}: {column}")}" title="{escape(row)}"></td>'


@write.register
def _(block: Command) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in block.facts)
    command = f"<pre>{escape(block.command)}</pre>" if block.command else '<p class="note">No command recorded.</p>'
    details = f"<details><summary>How it was measured</summary><dl>{facts}</dl></details>"
    return f'<section class="command"><h4>{escape(block.title)}</h4>{command}{details}</section>'


def _caption(text: str) -> str:
    return f"<figcaption>{rich(text)}</figcaption>" if text else ""
