"""Amazon Berkeley Objects: 7,953 product models (arXiv:2110.06199)."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from mdtdist.data.archives import extract_tar, inside
from mdtdist.data.sources.download import download
from mdtdist.data.sources.published import PublishedRow
from mdtdist.data.sources.source import Arrival, Source, in_threads
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError

ARCHIVE = "abo-3dmodels.tar"
_FOLDER = "3dmodels/original"


@dataclass(frozen=True, kw_only=True)
class Abo(Source):
    """``raw/3dmodels/original/<last letter>/<id>.glb``, from the public archive or file by file from the same bucket.

    The whole set comes as the archive (150 GB, which stays in ``raw/``), chosen objects one by one.

    Attributes:
        url: of the bucket.
        workers: files at once.
    """

    name: ClassVar[str] = "abo"
    aliases: ClassVar[tuple[str, ...]] = ("amazon-berkeley-objects",)
    title: ClassVar[str] = "Amazon Berkeley Objects"
    license: ClassVar[str] = "CC-BY-4.0"
    homepage: ClassVar[str] = "https://amazon-berkeley-objects.s3.amazonaws.com/index.html"
    client: ClassVar[str] = "plain HTTP from its public bucket"
    table: ClassVar[str] = "ABO.csv"

    url: str = "https://amazon-berkeley-objects.s3.amazonaws.com"
    workers: int = 8

    def place(self, file_identifier: str) -> str:
        return f"{_FOLDER}/{file_identifier}"

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        folder = base / _FOLDER
        return ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.glob("*/*.glb")))

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        archive = root / "raw" / ARCHIVE
        if is_all or archive.exists():
            download(f"{self.url}/archives/{ARCHIVE}", archive)
            return self._from_archive(archive, rows)

        def bring_one(row: PublishedRow) -> Path:
            place = self.place(row.file_identifier)
            return download(f"{self.url}/{quote(place)}", inside(root / "raw", place), sha256=row.sha256)

        return in_threads(bring_one, rows, self.workers)

    def _from_archive(self, archive: Path, rows: Sequence[PublishedRow]) -> Iterator[Arrival]:
        """In the order of the archive, which is read once from front to back."""
        wanted = {self.place(row.file_identifier): row for row in rows}
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if (row := wanted.get(member.name.removeprefix("./"))) is not None:
                        try:
                            yield row, extract_tar(tar, member, archive.parent, limits=Limits())
                        except (InputError, OSError) as err:
                            yield row, err
        except (tarfile.TarError, EOFError) as err:
            raise InputError(f"{archive} is no readable archive ({err}); delete it and fetch it again.") from err
