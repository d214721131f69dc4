"""What the gallery shows: the inputs and the columns of ``gallery.toml``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mdtdist.config import from_dict, load_toml
from mdtdist.errors import InputError
from mdtdist.pipelines.config import Flows

HERE = Path(__file__).parent
_COLUMN = re.compile(r"(teacher|student):([1-9]\d*)\+([1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One picture of the list.

    Attributes:
        title: what a reader sees.
        kind: where it comes from.
        file: relative to the list.
        source: what ``make_inputs.py`` makes it from; empty for one that is there already.
    """

    title: str
    kind: Literal["render", "drawing", "photograph"]
    file: Path
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it is."""
        return HERE / self.file

    @property
    def name(self) -> str:
        """Of its results; no two inputs share it."""
        return self.file.stem


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The content of ``gallery.toml``.

    Attributes:
        seed: of the noise, the same everywhere.
        columns: see ``Column.parse``.
        inputs: in the order of the rows.
    """

    seed: int
    columns: tuple[str, ...]
    inputs: tuple[Input, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One way to generate: whose flows, and the steps of the structure and of the latent flow."""

    flows: Flows
    steps: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> "Column":
        """Read for example ``teacher:25+25``.

        Raises:
            InputError: if the text is not of that form.
        """
        found = _COLUMN.fullmatch(text)
        if not found:
            raise InputError(f"the column is {text!r}; expected for example teacher:25+25 or student:1+2")
        return cls(flows="teacher" if found[1] == "teacher" else "student", steps=(int(found[2]), int(found[3])))

    @property
    def title(self) -> str:
        """For example ``Teacher 25+25``."""
        return f"{self.flows.capitalize()} {self.steps[0]}+{self.steps[1]}"


def read_gallery(path: Path = HERE / "gallery.toml") -> Gallery:
    """Read the list.

    Raises:
        InputError: if it is no valid list, or two inputs have one name.
    """
    gallery = from_dict(Gallery, load_toml(path), where=path.name)
    names = [item.name for item in gallery.inputs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two inputs of {path} have the name {twice[0]!r}; rename a file")
    return gallery


def pick(inputs: Sequence[Input], names: Sequence[str]) -> list[Input]:
    """The inputs of these names, in the order of the list; all for no name.

    Raises:
        InputError: for a name that no input has.
    """
    known = [item.name for item in inputs]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"the list has no {unknown[0]!r}; expected some of {', '.join(known)}")
    return [item for item in inputs if not names or item.name in names]
