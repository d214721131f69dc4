"""Picture grids: the same objects by several systems, side by side.

A record lists pictures by file. Either one sheet, as ``mdtdist evaluate --assets`` writes it: a heading, then one row
of condition image, true object and output per object, in the order of the record's objects. Or one file per object,
whose stem names the object; what shows the condition image has a stem that ends with ``_input`` or lies in a folder
``inputs``, and the true object likewise with ``truth``. Systems are laid side by side on the objects they share.
"""

import base64
import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mdtdist.errors import InputError
from mdtdist.evaluation.report_page.blocks import Block, Grid, Heading, Sheet, Tile
from mdtdist.evaluation.report_page.entries import Entry, Group
from mdtdist.evaluation.report_page.tables import group_title
from mdtdist.files import appear_whole

MAX_OBJECTS = 8
THUMBNAIL, SHEET_WIDTH = 224, 1600  # pixels
_GIVEN = ("input", "truth")  # columns that show no system
_HEADER, _GAP = 20, 4  # pixels of the written sheet
_RECORD_HEADER, _RECORD_GAP = 16, 4  # pixels of the sheet beside a record
Drawn = Mapping[str, Mapping[str, Mapping[str, Tile]]]  # system -> object -> role ("" for its own picture) -> picture
# Sheets that the commands before records write beside their results.
_SHEETS = {
    "mini_first.png": "The first held-out objects by order of id: input, truth, teacher, student at one and two steps.",
    "mini_worst.png": "The worst objects of the teacher: input, truth, teacher, student at one and two steps.",
    "compare.png": "Method by method at one step for each flow; the first held-out objects by order of id.",
    "compare_curves.png": "Losses of all trainings of the comparison.",
}


def picture_blocks(groups: Sequence[Group]) -> list[Block]:
    """Two grids per group (teacher with few-step students; method by method), then sheets beside older results."""
    blocks: list[Block] = []
    for number, group in enumerate(groups, 1):
        drawn = {entry.name: _by_object(entry) for entry in group.entries if entry.pictures}
        if drawn:
            chosen = [entry for entry in group.entries if entry.name in drawn]
            blocks += _grids(number, group, chosen, drawn)
    sources = {entry.source.parent for group in groups for entry in group.entries}
    for folder in sorted(sources):
        blocks += [
            Sheet(name=Path(name).stem, path=folder / name, alt=caption, caption=caption)
            for name, caption in _SHEETS.items()
            if (folder / name).is_file()
        ]
    return [Heading(text="Pictures"), *blocks] if blocks else []


def _grids(number: int, group: Group, entries: Sequence[Entry], drawn: Drawn) -> Iterator[Grid]:
    teachers = [entry for entry in entries if entry.kind == "teacher" and _longest(entry) > 2]
    students = [entry for entry in entries if entry.kind == "student"]
    own = [entry for entry in students if not entry.method]
    one_step = [entry for kind in ("teacher", "student") for entry in entries if entry.kind == kind]
    one_step = [entry for entry in one_step if _longest(entry) == 1]
    others = [entry for entry in entries if entry.kind in ("other", "baseline")]
    parts = {
        "teacher": ("teacher, and students at one and two steps for each flow", [*teachers, *(own or students)]),
        "methods": ("method by method, one step for each flow", one_step),
        "systems": ("systems side by side", [*teachers[:1], *own[:1], *others] if others else []),
    }
    for key, (text, columns) in parts.items():
        if columns:
            caption = f"{group_title(group)}: {text}. The first objects by name, not chosen."
            yield _grid(f"pictures_{number}_{key}", columns, drawn, caption)


def _longest(entry: Entry) -> int:
    return max(entry.steps) if entry.steps else 0


def _grid(name: str, entries: Sequence[Entry], drawn: Drawn, caption: str) -> Grid:
    """One row per object; the given pictures come from whichever record has them."""
    objects = sorted({key for entry in entries for key, found in drawn[entry.name].items() if "" in found})[
        :MAX_OBJECTS
    ]
    given: dict[str, dict[str, Tile]] = {}
    for pictures in drawn.values():
        for key, found in pictures.items():
            given.setdefault(key, {}).update({role: path for role, path in found.items() if role in _GIVEN})
    roles = [role for role in _GIVEN if any(role in given.get(key, {}) for key in objects)]
    return Grid(
        name=name,
        rows=objects,
        columns=[*roles, *(entry.name for entry in entries)],
        pictures=[
            [*(given[key].get(role) for role in roles), *(drawn[entry.name].get(key, {}).get("") for entry in entries)]
            for key in objects
        ],
        caption=caption,
    )


def _by_object(entry: Entry) -> dict[str, dict[str, Tile]]:
    """Object -> role ("" for the system's own) -> picture; several pictures of an object: the first."""
    if len(entry.pictures) == 1 and (cut := _cut_sheet(entry.pictures[0], entry.objects)):
        return cut
    found: dict[str, dict[str, Tile]] = {}
    for path in entry.pictures:
        role, key = "", path.stem
        for given in _GIVEN:
            if path.parent.name == f"{given}s":
                role = given
            elif path.stem.endswith(f"_{given}"):
                role, key = given, path.stem.removesuffix(f"_{given}")
        found.setdefault(key, {}).setdefault(role, Tile(path=path))
    return found


def _cut_sheet(path: Path, objects: Sequence[str]) -> dict[str, dict[str, Tile]]:
    """The tiles of the sheet beside a record; nothing if the picture has another layout."""
    with open_picture_file(path) as file:
        width, height = file.size
    step, rest = divmod(width + _RECORD_GAP, 3)
    rows, left = divmod(height - _RECORD_HEADER + _RECORD_GAP, max(step, 1))
    if rest or left or not 0 < rows <= len(objects):
        return {}
    found = {}
    for row, key in enumerate(objects[:rows]):
        top, side = _RECORD_HEADER + row * step, step - _RECORD_GAP
        boxes = [(column * step, top, column * step + side, top + side) for column in range(3)]
        found[key] = {role: Tile(path=path, box=box) for role, box in zip((*_GIVEN, ""), boxes, strict=True)}
    return found


# --------------------------------------------------------------------------------------------------------------- files


def data_uri(tile: Tile, *, width: int = THUMBNAIL) -> str:
    """The picture at most ``width`` pixels wide, on white, as a ``data:`` URI: small ones JPEG, sheets PNG.

    Raises:
        InputError: if the file is missing or no picture.
    """
    picture = open_picture(tile, width=width)
    content, kind = io.BytesIO(), "png" if width > THUMBNAIL else "jpeg"
    picture.save(content, kind, **({"optimize": True} if kind == "png" else {"quality": 88}))
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def open_picture(tile: Tile, *, width: int) -> Image.Image:
    """RGB on white, scaled down to ``width`` pixels.

    Raises:
        InputError: if the file is missing or no picture.
    """
    with open_picture_file(tile.path) as file:
        picture = file.convert("RGBA")
    if tile.box is not None:
        picture = picture.crop(tile.box)
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    if picture.width > width:
        white = white.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS)
    return white.convert("RGB")


@contextlib.contextmanager
def open_picture_file(path: Path) -> Iterator[Image.Image]:
    """A picture as it is stored.

    Raises:
        InputError: if the file is missing, no picture, or too large to be one.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield file
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise InputError(f"{path} cannot be read as a picture ({err}); mend the record or measure again") from err


def write_grid(grid: Grid, path: Path) -> None:
    """The grid as one PNG: a header, then a row per object."""
    pitch = THUMBNAIL + _GAP
    size = (pitch * len(grid.columns) - _GAP, _HEADER + pitch * len(grid.rows) - _GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, label in enumerate(grid.columns):
        draw.text(
            (column * pitch + 3, 4), label.encode("latin-1", "replace").decode("latin-1"), fill="black", font=font
        )
        for row, pictures in enumerate(grid.pictures):
            found = pictures[column]
            if found is not None:
                picture = open_picture(found, width=THUMBNAIL)
                picture.thumbnail((THUMBNAIL, THUMBNAIL))
                sheet.paste(picture, (column * pitch, _HEADER + row * pitch))
    with appear_whole(path) as partial:
        sheet.save(partial, "PNG", optimize=True)
