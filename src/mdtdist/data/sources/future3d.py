"""3D-FUTURE: 16,563 pieces of furniture (arXiv:2009.09633)."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from mdtdist.data.archives import extract, open_zip
from mdtdist.data.sources.published import PublishedRow
from mdtdist.data.sources.source import Arrival, Source
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

ARCHIVE = "3D-FUTURE-model.zip"
_FOLDER = "3D-FUTURE-model"


@dataclass(frozen=True, kw_only=True)
class Future3d(Source):
    """``raw/3D-FUTURE-model/<id>/raw_model.obj`` with ``model.mtl``, ``texture.png`` and ``image.jpg``.

    The published identifier is ``3D-FUTURE-model/<id>``, and the published hash is that of ``image.jpg``.
    """

    name: ClassVar[str] = "3d-future"
    aliases: ClassVar[tuple[str, ...]] = ("3dfuture", "future3d")
    title: ClassVar[str] = "3D-FUTURE"
    license: ClassVar[str] = "3D-FUTURE terms of use (research, no commercial use)"
    homepage: ClassVar[str] = "https://tianchi.aliyun.com/specials/promotion/alibaba-3d-future"
    by_hand: ClassVar[str] = (
        f"accept the terms on {homepage}, download {ARCHIVE} there and put it into the folder raw/ of the root"
    )
    client: ClassVar[str] = "unpacked from the archive a user downloads"
    table: ClassVar[str] = "3D-FUTURE.csv"

    def place(self, file_identifier: str) -> str:
        return f"{file_identifier}/raw_model.obj"

    def hashed_file(self, path: Path) -> Path:
        return path.with_name("image.jpg")

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        paths = sorted((base / _FOLDER).glob("*/raw_model.obj"))
        return ((f"{_FOLDER}/{path.parent.name}", path) for path in paths)

    def category(self, file_identifier: str, root: Path) -> str:
        for folder in (root / "raw" / _FOLDER, root / _FOLDER, root / "raw", root):
            if (path := folder / "model_info.json").is_file():
                return _categories(path, path.stat().st_mtime_ns).get(Path(file_identifier).name, "")
        return ""

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        archive = root / "raw" / ARCHIVE
        if not archive.exists():
            raise InputError(f"{archive} does not exist: {self.by_hand}.")
        return self._unpack(archive, rows)

    def _unpack(self, archive: Path, rows: Sequence[PublishedRow]) -> Iterator[Arrival]:
        limits = Limits()
        with open_zip(archive) as zipped:
            members: dict[str, list[str]] = {}
            for name in zipped.namelist():
                if not name.endswith("/"):
                    members.setdefault(name.rpartition("/")[0], []).append(name)
            extract(zipped, members.get(_FOLDER, []), archive.parent, limits=limits)  # model_info.json, if it is there
            for row in rows:
                try:
                    extract(zipped, members.get(row.file_identifier, []), archive.parent, limits=limits)
                    yield row, archive.parent / self.place(row.file_identifier)
                except (InputError, OSError) as err:
                    yield row, err


@lru_cache(maxsize=4)
def _categories(path: Path, changed: int) -> dict[str, str]:
    """Model id -> super-category, from the data set's ``model_info.json``; empty if it is damaged."""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        return {model["model_id"]: model.get("super-category") or "" for model in models}
    except (ValueError, TypeError, KeyError, AttributeError):
        logger.warning("%s cannot be read; categories stay empty", path)
        return {}
