"""Habitat Synthetic Scenes Dataset: the objects of its scenes (arXiv:2306.11290)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mdtdist.data.sources.hub import fetch_file
from mdtdist.data.sources.published import PublishedRow
from mdtdist.data.sources.source import Arrival, Source, in_threads

REPOSITORY = "hssd/hssd-models"


@dataclass(frozen=True, kw_only=True)
class Hssd(Source):
    """``raw/objects/<first letter>/<id>.glb``, from the gated repository on the Hugging Face hub.

    Attributes:
        workers: files at once.
    """

    name: ClassVar[str] = "hssd"
    title: ClassVar[str] = "HSSD"
    license: ClassVar[str] = "CC-BY-NC-4.0"
    homepage: ClassVar[str] = f"https://huggingface.co/datasets/{REPOSITORY}"
    by_hand: ClassVar[str] = f"accept the terms on {homepage}, then run `hf auth login` and fetch it"
    client: ClassVar[str] = "huggingface_hub"
    table: ClassVar[str] = "HSSD.csv"

    workers: int = 8

    def place(self, file_identifier: str) -> str:
        return file_identifier

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        # objects/decomposed holds the same objects once more, in parts; stages and openings are no objects.
        paths = sorted((base / "objects").glob("?/*.glb"))
        return ((path.relative_to(base).as_posix(), path) for path in paths)

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        fetch_file(REPOSITORY, "README.md", root / "raw")  # without permission this fails once, with what to do

        def bring_one(row: PublishedRow) -> Path:
            return fetch_file(REPOSITORY, row.file_identifier, root / "raw")

        return in_threads(bring_one, rows, self.workers)
