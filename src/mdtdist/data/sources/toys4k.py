"""Toys4K: 4,000 objects of 105 categories (Stojanov et al., CVPR 2021); TRELLIS's test set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from mdtdist.data.archives import extract, open_zip
from mdtdist.data.sources.published import PublishedRow
from mdtdist.data.sources.source import Arrival, Source, first_file
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError

_BLEND, _OBJ = "toys4k_blend_files", "toys4k_obj_files"


@dataclass(frozen=True, kw_only=True)
class Toys4k(Source):
    """``raw/toys4k_blend_files/<category>/<id>/<id>.blend`` or ``raw/toys4k_obj_files/<category>/<id>/mesh.obj``.

    The published identifier is ``<category>/<id>/<id>.blend`` and the published hash that of the Blender file. The OBJ
    files are taken where they are there: they keep the published hash as their name and are not checked against it.
    Blender files are listed otherwise, and each is refused with the advice to convert it.
    """

    name: ClassVar[str] = "toys4k"
    title: ClassVar[str] = "Toys4K"
    license: ClassVar[str] = "per object, as listed by the data set (Creative Commons and royalty-free)"
    homepage: ClassVar[str] = "https://github.com/rehg-lab/lowshot-shapebias/tree/main/toys4k"
    by_hand: ClassVar[str] = (
        f"download {_OBJ}.zip from {homepage} into raw/ of the root ({_BLEND}.zip needs a conversion by Blender)"
    )
    client: ClassVar[str] = "unpacked from the archive a user downloads"
    table: ClassVar[str] = "Toys4k.csv"

    def place(self, file_identifier: str) -> str:
        return f"{_BLEND}/{file_identifier}"

    def locate(self, root: Path, rows: Sequence[PublishedRow]) -> dict[str, Path]:
        blend = super().locate(root, rows)
        obj = {}
        for row in rows:
            if (path := first_file((root / "raw", root), _obj_place(row.file_identifier))) is not None:
                obj[row.sha256] = path
        return blend | obj

    def hashed_file(self, path: Path) -> Path | None:
        return path if path.suffix == ".blend" else None

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        blend = sorted((base / _BLEND).glob("*/*/*.blend"))
        obj = sorted((base / _OBJ).glob("*/*/mesh.obj"))
        for path in obj or blend:
            folder = path.parent
            yield f"{folder.parent.name}/{folder.name}/{folder.name}.blend", path

    def category(self, file_identifier: str, root: Path) -> str:
        return PurePosixPath(file_identifier).parts[0]

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        archives = [root / "raw" / f"{name}.zip" for name in (_OBJ, _BLEND)]
        archive = next((path for path in archives if path.exists()), None)
        if archive is None:
            raise InputError(f"{archives[0]} does not exist: {self.by_hand}.")
        return self._unpack(archive, rows)

    def _unpack(self, archive: Path, rows: Sequence[PublishedRow]) -> Iterator[Arrival]:
        limits = Limits()
        with open_zip(archive) as zipped:
            members: dict[str, list[str]] = {}
            for name in zipped.namelist():
                if not name.endswith("/"):
                    members.setdefault(name.rpartition("/")[0], []).append(name)
            for row in rows:
                identifier = row.file_identifier
                place = self.place(identifier) if archive.stem == _BLEND else _obj_place(identifier)
                try:
                    extract(zipped, members.get(place.rpartition("/")[0], [place]), archive.parent, limits=limits)
                    yield row, archive.parent / place
                except (InputError, OSError) as err:
                    yield row, err


def _obj_place(file_identifier: str) -> str:
    return f"{_OBJ}/{PurePosixPath(file_identifier).parent}/mesh.obj"
