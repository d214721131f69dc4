"""Rows of turntables with captions, as one moving and one still picture for a README."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mdtdist.errors import InputError
from mdtdist.files import appear_whole

SIZE, NUM_FRAMES = 160, 24  # of the turntables, pixels and pictures per turn
FRAME_MS = 125
MAX_WEBP_BYTES, MAX_PNG_BYTES = 3_000_000, 1_000_000
_QUALITIES, _BITS = (85, 75, 65, 55, 45, 35), (8, 7, 6, 5)  # per channel; a palette of 256 spoils photographs
_GAP, _MARGIN, _LINE, _FONT, _TITLE_FONT = 8, 12, 17, 13, 15  # pixels
_INK, _QUIET, _RULE, _PAPER = "#1b1f24", "#57606a", "#d0d7de", "#ffffff"  # a ground of its own, on dark pages too
_BLOCKS = 2  # the rows of the moving picture stand in so many columns, so that it fits on a screen


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A still or a turntable, and the words beneath.

    Attributes:
        frames: one turn from the front on, or a single picture; sRGB. None where nothing was made.
        caption: one line.
    """

    frames: UInt8[np.ndarray, "F S S 3"] | None
    caption: str = ""

    def view(self, turn: float, *, caption: str | None = None) -> "Cell":
        """A still after ``turn`` of a full turn, in [0, 1)."""
        frames = self.frames
        still = None if frames is None else frames[[round(turn * len(frames)) % len(frames)]]
        return Cell(frames=still, caption=self.caption if caption is None else caption)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One input and what each column made of it."""

    given: Cell
    made: Sequence[Cell]


def write_moving(path: Path, titles: Sequence[str], rows: Sequence[Row], **words: Any) -> None:
    """Write an endless animated WebP in which all turntables turn.

    Args:
        path: file to write; it appears whole.
        titles: of what the rows have in ``made``.
        rows: cells of ``SIZE`` pixels, turntables of ``NUM_FRAMES`` pictures.
        words: ``title`` and ``notes`` of ``draw_table``.

    Raises:
        InputError: if it has more than ``MAX_WEBP_BYTES`` at the lowest quality.
    """
    header, blocks = ["Input", *titles], min(_BLOCKS, len(rows))
    tables = [
        draw_table(
            header,
            [[cell.view(frame / NUM_FRAMES) for cell in (row.given, *row.made)] for row in rows],
            blocks=blocks,
            **words,
        )
        for frame in range(NUM_FRAMES)
    ]
    save = partial(tables[0].save, format="WEBP", save_all=True, append_images=tables[1:], duration=FRAME_MS, loop=0)
    _save_within(path, MAX_WEBP_BYTES, [partial(save, quality=quality) for quality in _QUALITIES])


def write_still(path: Path, titles: Sequence[str], rows: Sequence[Row], **words: Any) -> None:
    """Write a PNG with every turntable from the front and, right of it, from behind; arguments as ``write_moving``.

    Raises:
        InputError: if it has more than ``MAX_PNG_BYTES`` with the fewest bits per channel.
    """
    header = ["Input", *(text for title in titles for text in (title, "from behind"))]
    cells = [
        [row.given, *(view for cell in row.made for view in (cell.view(0), cell.view(0.5, caption="")))] for row in rows
    ]
    sheet = draw_table(header, cells, **words)
    _save_within(path, MAX_PNG_BYTES, [partial(_save_png, sheet, bits) for bits in _BITS])


def draw_table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str, notes: Sequence[str], blocks: int = 1
) -> Image.Image:
    """The first frame of every cell in rows, captions beneath, column titles above.

    Args:
        header: a title per column.
        rows: as many cells as titles each.
        title: on top.
        notes: below, broken into lines.
        blocks: into how many parts of equal length the rows are cut, which stand side by side.
    """
    per_block = -(-len(rows) // blocks)
    block_width, top = len(header) * (SIZE + _GAP) - _GAP + 2 * _MARGIN, 2 * _LINE + 3 * _GAP
    bottom = top + per_block * (SIZE + _LINE + _GAP)
    font = ImageFont.load_default(_FONT)
    lines = [line for note in notes for line in _wrap(note, font, blocks * block_width - 2 * _MARGIN)]
    sheet = Image.new("RGB", (blocks * block_width, bottom + len(lines) * _LINE + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _GAP), title, fill=_INK, font=ImageFont.load_default(_TITLE_FONT))
    for block in range(blocks):
        x, part = block * block_width, rows[block * per_block : (block + 1) * per_block]
        if block:
            draw.line((x, 2 * _GAP + _LINE, x, bottom - _GAP), fill=_RULE)
        _draw_block(sheet, header, part, (x + _MARGIN, 2 * _GAP + _LINE), font)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, bottom + number * _LINE), line, fill=_QUIET, font=font)
    return sheet


def _draw_block(
    sheet: Image.Image, header: Sequence[str], rows: Sequence[Sequence[Cell]], corner: tuple[int, int], font: Any
) -> None:
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    for column, text in enumerate(header):
        x = left + column * (SIZE + _GAP)
        draw.text((x, top), text, fill=_INK, font=font)
        for number, row in enumerate(rows):
            y = top + _LINE + _GAP + number * (SIZE + _LINE + _GAP)
            frames = row[column].frames
            if frames is None:
                draw.rectangle((x, y, x + SIZE - 1, y + SIZE - 1), outline=_RULE)
            else:
                sheet.paste(Image.fromarray(frames[0]), (x, y))
            draw.text((x, y + SIZE + 1), row[column].caption, fill=_QUIET, font=font)


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Lines of whole words that are at most ``width`` pixels wide; a longer word has a line for itself."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if not lines[-1] or font.getlength(longer) <= width else [lines[-1], word]
    return lines


def _save_png(sheet: Image.Image, bits: int, path: Path) -> None:
    ImageOps.posterize(sheet, bits).save(path, "PNG", optimize=True)


def _save_within(path: Path, limit: int, encoders: Iterable[Callable[[Path], object]]) -> None:
    """Write a file by the first encoder whose result has at most ``limit`` bytes."""
    with appear_whole(path) as partial_path:
        for encode in encoders:
            encode(partial_path)
            if partial_path.stat().st_size <= limit:
                return
        raise InputError(f"{path} would have more than {limit} bytes; take fewer inputs or columns")
