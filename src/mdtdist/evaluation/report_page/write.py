"""Put a report together and write it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdtdist.errors import InputError
from mdtdist.evaluation.report_page.blocks import Block
from mdtdist.evaluation.report_page.commands import command_blocks
from mdtdist.evaluation.report_page.entries import Group, merge_groups
from mdtdist.evaluation.report_page.html import html_page
from mdtdist.evaluation.report_page.markdown import write_markdown, write_text
from mdtdist.evaluation.report_page.older import read_comparison
from mdtdist.evaluation.report_page.pictures import picture_blocks
from mdtdist.evaluation.report_page.plots import curve_blocks, speed_blocks
from mdtdist.evaluation.report_page.published import Published, read_published
from mdtdist.evaluation.report_page.reading import read_groups
from mdtdist.evaluation.report_page.tables import sources_blocks, table_blocks

NAME, TITLE = "report", "Few-step 3D generation: measured and published"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written.

    Attributes:
        html, markdown: the two pages.
        num_systems: rows of ours.
        protocols: id and digest of each group of comparable records.
        left_out: JSON files of the given folders that are no records.
    """

    html: Path
    markdown: Path
    num_systems: int
    protocols: tuple[tuple[str, str], ...]
    left_out: tuple[Path, ...]


def write_report(
    records: Sequence[Path],
    out: Path,
    *,
    compare: Path | None = None,
    runs: Sequence[Path] = (),
    published: Path | None = None,
    title: str = TITLE,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Write ``report.html`` (self-contained) and ``report.md`` with its pictures into ``out``.

    Args:
        records: folders of evaluation records, or single files.
        out: folder, made if missing; the two pages appear whole, the HTML last.
        compare: ``compare.json`` of the method comparison.
        runs: folders of training runs, for the learning curves.
        published: TOML of published figures; without it the one that ships.
        title: of the page.
        progress: told what is being done.

    Raises:
        InputError: if an input is missing or broken, one system is measured twice under one protocol, or ``out`` cannot
            be written.
    """
    say = progress or (lambda text: None)
    say("reading the records")
    found, left_out = read_groups(records)
    groups = merge_groups([*found, *([read_comparison(compare)] if compare else [])])
    left_out = [path for path in left_out if compare is None or path.resolve() != compare.resolve()]
    blocks = report_blocks(groups, read_published(published), runs=runs)
    out = prepare_folder(out)
    say("writing the Markdown and its pictures")
    lead = lead_text(groups)
    markdown = write_markdown(blocks, out, name=NAME, title=title, lead=lead)
    say("writing the page")
    page = out / f"{NAME}.html"
    write_text(page, html_page(blocks, title=title, lead=lead))
    return Report(
        html=page,
        markdown=markdown,
        num_systems=sum(len(group.entries) for group in groups),
        protocols=tuple((group.protocol, group.digest) for group in groups),
        left_out=tuple(left_out),
    )


def report_blocks(groups: Sequence[Group], published: Published, *, runs: Sequence[Path] = ()) -> list[Block]:
    """All parts in order: tables, plots, curves, pictures, commands, sources."""
    return [
        *table_blocks(groups, published),
        *speed_blocks(groups, published),
        *curve_blocks(runs),
        *picture_blocks(groups),
        *command_blocks(groups),
        *sources_blocks(published),
    ]


def lead_text(groups: Sequence[Group]) -> str:
    """What a reader has to know before the first table."""
    count = sum(len(group.entries) for group in groups)
    dates = sorted(entry.made[:10] for group in groups for entry in group.entries if entry.made)
    made = f", the latest from {dates[-1]}" if dates else ""
    ways = "one protocol" if len(groups) == 1 else f"{len(groups)} protocols or sets of objects, kept apart"
    return (
        f"{count} systems measured under {ways}{made}. `a+b` is a steps of the structure flow and b steps of the "
        "latent flow: the paper's 1x2, one step for each of two flows, is `1+1`, its 2x2 is `2+2`, its teacher 25x2 is "
        "`25+25`. "
        "Evaluations count what guidance adds. Published figures stand in marked columns of their own; what has no "
        "record of ours is not measured."
    )


def prepare_folder(out: Path) -> Path:
    """Make the folder to write into.

    Raises:
        InputError: if it is a file or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(f"cannot make the folder {out} ({err.strerror}); choose another place for it") from err
    return out
