"""Objaverse: 800,000 objects from Sketchfab (arXiv:2212.08051), and the part of Objaverse-XL that lies on GitHub
(arXiv:2307.05663). Both come through the package ``objaverse`` of the data set's authors.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from mdtdist.data.archives import extract, inside, open_zip
from mdtdist.data.sources.folder import MODEL_SUFFIXES
from mdtdist.data.sources.published import PublishedRow
from mdtdist.data.sources.source import Arrival, Source
from mdtdist.data.untrusted import FOREIGN_SUFFIXES, Limits
from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

_BATCH = 512  # objects per call of the client, which gives up a whole call when one connection fails
_GLBS = "hf-objaverse-v1/glbs"
_REPOS = "github/repos"
_UNPACKED = "github/unpacked"
_SKETCHFAB = "https://sketchfab.com/3d-models/"
_GITHUB = "https://github.com/"


@dataclass(frozen=True, kw_only=True)
class Objaverse(Source):
    """``raw/hf-objaverse-v1/glbs/<000-xxx>/<uid>.glb``; a client's own ``~/.objaverse`` is a root as well.

    Attributes:
        workers: processes of the client.
    """

    name: ClassVar[str] = "objaverse"
    aliases: ClassVar[tuple[str, ...]] = ("objaversexl_sketchfab", "objaverse-xl-sketchfab")
    title: ClassVar[str] = "Objaverse (Sketchfab)"
    license: ClassVar[str] = "ODC-By-1.0 for the collection; each object has its own, see the Objaverse annotations"
    homepage: ClassVar[str] = "https://objaverse.allenai.org"
    client: ClassVar[str] = "the package objaverse"
    table: ClassVar[str] = "ObjaverseXL_sketchfab.csv"

    workers: int = 8

    def place(self, file_identifier: str) -> str:
        return f"{_GLBS}/{_uid(file_identifier)}.glb"

    def locate(self, root: Path, rows: Sequence[PublishedRow]) -> dict[str, Path]:
        files = {path.stem: path for base in (root, root / "raw") for path in (base / _GLBS).glob("*/*.glb")}
        places = ((row.sha256, files.get(_uid(row.file_identifier))) for row in rows)
        return {sha256: path for sha256, path in places if path is not None}

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        return ((_SKETCHFAB + path.stem, path) for path in sorted((base / _GLBS).glob("*/*.glb")))

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        return _bring(self, root, rows, "sketchfab", self.workers)


@dataclass(frozen=True, kw_only=True)
class ObjaverseGithub(Source):
    """``raw/github/repos/<owner>/<repository>/<path>``, or the repository as a zip, as TRELLIS's tools keep it.

    The published identifier is the file's address at a commit, so fetching it once more brings the same bytes. Many of
    these objects are FBX, Blender, COLLADA or USD files: they are listed and fail with that reason.

    Attributes:
        workers: processes of the client, which clones repositories with git.
    """

    name: ClassVar[str] = "objaverse-xl-github"
    aliases: ClassVar[tuple[str, ...]] = ("objaversexl_github", "objaverse-xl")
    title: ClassVar[str] = "Objaverse-XL (GitHub)"
    license: ClassVar[str] = "ODC-By-1.0 for the collection; each repository has its own"
    homepage: ClassVar[str] = "https://objaverse.allenai.org"
    client: ClassVar[str] = "the package objaverse, and git"
    table: ClassVar[str] = "ObjaverseXL_github.csv"
    is_repeatable: ClassVar[bool] = False

    workers: int = 8

    def place(self, file_identifier: str) -> str:
        return "/".join((_REPOS, *_address(file_identifier)))

    def locate(self, root: Path, rows: Sequence[PublishedRow]) -> dict[str, Path]:
        found = super().locate(root, rows)
        for row in rows:
            if row.sha256 not in found and (path := _unpack(root / "raw", row.file_identifier)) is not None:
                found[row.sha256] = path
        return found

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        for path in sorted((base / _REPOS).glob("*/*/**/*")):
            if path.suffix.lower() in (*MODEL_SUFFIXES, *FOREIGN_SUFFIXES) and path.is_file():
                owner, repository, *rest = path.relative_to(base / _REPOS).parts
                yield f"{_GITHUB}{owner}/{repository}/blob/HEAD/{'/'.join(rest)}", path

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        return _bring(self, root, rows, "github", self.workers)


def download_objects(rows: Sequence[PublishedRow], *, source: str, folder: Path, workers: int) -> None:
    """Call the data set's client; its files appear below ``folder``.

    Raises:
        InputError: if the package is not installed.
    """
    try:
        import objaverse.xl as client
        import pandas
    except ImportError as err:
        raise InputError("Objaverse comes through its own package; pip install 'mdtdist[objaverse]'.") from err
    objects = pandas.DataFrame(
        {
            "fileIdentifier": [row.file_identifier for row in rows],
            "sha256": [row.sha256 for row in rows],
            "source": source,
        }
    )
    client.download_objects(objects, download_dir=str(folder), processes=workers, save_repo_format="files")


def _bring(source: Source, root: Path, rows: Sequence[PublishedRow], kind: str, workers: int) -> Iterator[Arrival]:
    """In batches; what a failed batch left behind counts."""
    for start in range(0, len(rows), _BATCH):
        batch, problem = rows[start : start + _BATCH], "the client brought nothing; it may be gone"
        try:
            workers = min(workers, len(batch), os.cpu_count() or 1)
            download_objects(batch, source=kind, folder=root / "raw", workers=workers)
        except InputError:
            raise
        except Exception as err:  # the client raises what its connections raise
            problem = f"the client stopped ({type(err).__name__}: {err}); run it again"
            logger.warning("%s: %s", source.title, problem)
        places = source.locate(root, batch)
        for row in batch:
            yield row, places.get(row.sha256) or OSError(problem)


def _uid(file_identifier: str) -> str:
    return file_identifier.rstrip("/").rpartition("/")[2]


def _address(file_identifier: str) -> tuple[str, ...]:
    """Owner, repository and path of ``https://github.com/<owner>/<repository>/blob/<commit>/<path>``."""
    parts = file_identifier.removeprefix(_GITHUB).split("/")
    if not file_identifier.startswith(_GITHUB) or len(parts) < 5 or parts[2] != "blob":
        raise InputError(
            f"{file_identifier!r} is no file on GitHub; expected {_GITHUB}OWNER/REPOSITORY/blob/COMMIT/PATH"
        )
    return parts[0], parts[1], *parts[4:]


def _unpack(base: Path, file_identifier: str) -> Path | None:
    """The file from its repository's zip, together with the folder it lies in; None without the zip or in vain."""
    owner, repository, *rest = _address(file_identifier)
    archive = inside(base, f"{_REPOS}/{owner}/{repository}.zip")
    folder = inside(base, f"{_UNPACKED}/{owner}/{repository}")
    path = inside(folder, "/".join(rest))
    if path.is_file() or not archive.is_file():
        return path if path.is_file() else None
    near = "".join(f"{part}/" for part in PurePosixPath(*rest).parent.parts)
    try:
        with open_zip(archive) as zipped:
            names = [name for name in zipped.namelist() if name.startswith(near) and not name.endswith("/")]
            own = "/".join(rest)  # last, so that the object is there only when its textures are
            extract(zipped, [*(name for name in names if name != own), own], folder, limits=Limits())
    except InputError as err:
        logger.warning("%s is left out: %s", file_identifier, err)
        return None
    return path
