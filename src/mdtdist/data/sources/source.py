"""A data set by name: what it is, how it is fetched, where its files lie, and what is published about them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mdtdist.data.archives import inside
from mdtdist.data.sources.asset import Asset, hash_file
from mdtdist.data.sources.download import WrongHash
from mdtdist.data.sources.ledger import FAILED, OK, UNCHECKED, WRONG_HASH, Entry, Ledger
from mdtdist.data.sources.published import PublishedRow, fetch_table, find_table, read_table
from mdtdist.errors import InputError
from mdtdist.files import hold

logger = logging.getLogger(__name__)

# Stage, number done, number to do: the callback of `prepare`.
Progress = Callable[[str, int, int], None]
# What came of an object: its file, or what went wrong.
Arrival = tuple[PublishedRow, Path | Exception]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Outcome of a fetch.

    Attributes:
        num_there: objects that are there and checked, those of earlier runs included.
        failed: ``sha256`` -> reason.
    """

    num_there: int
    failed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Base of all data sets. A root folder holds one: ``raw/`` with its files as its publisher lays them out, and the
    published table beside it, as TRELLIS's own data tools arrange them. A folder in the publisher's layout without
    ``raw/`` is read as well.

    Class attributes:
        name: on the command line.
        aliases: other names it goes by.
        title, license, homepage: for people. A licence per object is stated by the data set, not here.
        by_hand: what a user must accept or fetch before; empty if nothing.
        client: what does the fetching.
        table: file of the published table in TRELLIS-500K.
        is_repeatable: whether fetching an object once more may bring other bytes.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str]
    license: ClassVar[str]
    homepage: ClassVar[str]
    by_hand: ClassVar[str] = ""
    client: ClassVar[str] = ""
    table: ClassVar[str] = ""
    is_repeatable: ClassVar[bool] = True

    # What a data set says about itself ------------------------------------------------------------------------------

    def place(self, file_identifier: str) -> str:
        """Path of an object below ``raw/``, from its published identifier."""
        raise NotImplementedError

    def hashed_file(self, path: Path) -> Path | None:
        """The file whose hash is published for the model at ``path``; None if there is none to compare with."""
        return path

    def scan(self, base: Path) -> Iterator[tuple[str, Path]]:
        """Identifiers and model files in the publisher's layout, for a root without a table."""
        raise NotImplementedError

    def bring(self, root: Path, rows: Sequence[PublishedRow], *, is_all: bool) -> Iterator[Arrival]:
        """Fetch objects, each as it arrives; ``is_all`` if the whole set is wanted.

        Raises:
            InputError: if nothing can be fetched at all, with what a user has to do.
        """
        raise InputError(f"{self.title} cannot be fetched by a program: {self.by_hand}")

    def category(self, file_identifier: str, root: Path) -> str:
        """What kind of thing an object is; empty if the data set does not say."""
        return ""

    # What all data sets do ------------------------------------------------------------------------------------------

    def locate(self, root: Path, rows: Sequence[PublishedRow]) -> dict[str, Path]:
        """Files that are there, by ``sha256``."""
        found: dict[str, Path] = {}
        for row in rows:
            if (path := first_file(_bases(root), self.place(row.file_identifier))) is not None:
                found[row.sha256] = path
        return found

    def fetch(
        self,
        root: Path,
        ids: Iterable[str] | None = None,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """Fetch objects into ``root`` and check their hashes. Run again, it continues.

        A file whose hash is not the published one is recorded, removed, fetched once more, and then given up.

        Args:
            ids: ``sha256`` or ``file_identifier``; None for the whole published set.
            limit: only the first so many.

        Raises:
            InputError: for an unknown id, or if nothing can be fetched, with what to do.
        """
        root.mkdir(parents=True, exist_ok=True)
        with hold(root):
            everything = read_table(fetch_table(root, self.table))
            rows = self._placeable(_chosen(everything, ids))[:limit]
            ledger = Ledger(root)
            to_do = self._not_there(root, rows, ledger)
            for _ in range(2 if self.is_repeatable else 1):
                self._bring_all(root, to_do, ledger, is_all=len(rows) == len(everything), progress=progress)
                to_do = [row for row in to_do if _status(ledger, row) == WRONG_HASH]
                if not to_do:
                    break
            failed = {row.sha256: _reason(ledger, row) for row in rows if _status(ledger, row) not in (OK, UNCHECKED)}
        return Fetched(num_there=len(rows) - len(failed), failed=failed)

    def _placeable(self, rows: Sequence[PublishedRow]) -> Sequence[PublishedRow]:
        """Rows whose identifier names a place below the root; a table is a download like others."""
        good = []
        for row in rows:
            try:
                inside(Path(), self.place(row.file_identifier))
            except InputError as err:
                logger.warning("a row of the table is left out: %s", err)
                continue
            good.append(row)
        return good

    def _not_there(self, root: Path, rows: Sequence[PublishedRow], ledger: Ledger) -> Sequence[PublishedRow]:
        """Rows without a good file. A bad one is removed if another can be had."""
        places, to_do = self.locate(root, rows), []
        for row in rows:
            path = places.get(row.sha256)
            if path is None:
                to_do.append(row)
            elif not self._is_good(root, row, path, ledger) and self.is_repeatable:
                path.unlink()
                to_do.append(row)
        return to_do

    def _bring_all(
        self, root: Path, rows: Sequence[PublishedRow], ledger: Ledger, *, is_all: bool, progress: Progress | None
    ) -> None:
        """Fetch, check and record."""
        arrived = set()
        for number, (row, outcome) in enumerate(self.bring(root, rows, is_all=is_all) if rows else (), start=1):
            arrived.add(row.sha256)
            if isinstance(outcome, Path):
                if not self._is_good(root, row, outcome, ledger) and self.is_repeatable:
                    outcome.unlink(missing_ok=True)
            else:
                status = WRONG_HASH if isinstance(outcome, WrongHash) else FAILED
                ledger.add(Entry(sha256=row.sha256, status=status, reason=_first_line(outcome)))
                logger.warning("%s: %s", row.file_identifier, _first_line(outcome))
            if progress is not None:
                progress(f"fetch {self.name}", number, len(rows))
        for row in rows:
            if row.sha256 not in arrived:
                ledger.add(Entry(sha256=row.sha256, status=FAILED, reason="it did not arrive; run it again"))

    def _is_good(self, root: Path, row: PublishedRow, path: Path, ledger: Ledger) -> bool:
        """Whether a file is what was published, by the ledger or else by its hash, which is then recorded."""
        relative, hashed = path.relative_to(root).as_posix(), self.hashed_file(path)
        num_bytes = (hashed or path).stat().st_size if (hashed or path).is_file() else 0
        entry = ledger.get(row.sha256)
        if entry is None or (entry.path, entry.num_bytes) != (relative, num_bytes) or entry.status == FAILED:
            status, reason = _compare(hashed, row.sha256)
            entry = Entry(sha256=row.sha256, status=status, path=relative, num_bytes=num_bytes, reason=reason)
            ledger.add(entry)
        return entry.status in (OK, UNCHECKED)

    def list(self, root: Path) -> Sequence[Asset]:
        """Assets of the data set that are in ``root``, with what is published about them.

        With a table, only its objects count and each file is checked against its hash (once; the ledger remembers).
        Without one, every model of the publisher's layout counts and is named by its own hash.

        Raises:
            InputError: if there is no model, saying how to get them.
        """
        if not root.is_dir():
            raise InputError(f"{root} is no folder; {self.advice}.")
        table = find_table(root, self.table)
        assets = self._published(root, read_table(table)) if table else self._scanned(root)
        if not assets:
            raise InputError(f"{root} holds no model of {self.title}; {self.advice}.")
        return assets

    @property
    def advice(self) -> str:
        """What to do to have the data set."""
        return self.by_hand or f"fetch it first ({self.client}), or give the folder that holds it"

    def _published(self, root: Path, rows: Sequence[PublishedRow]) -> Sequence[Asset]:
        rows, assets = self._placeable(rows), []
        ledger, places = Ledger(root), self.locate(root, rows)
        for row in rows:
            if (path := places.get(row.sha256)) is None:
                continue
            if self._is_good(root, row, path, ledger):
                assets.append(self._asset(root, row, path))
            else:
                logger.warning("%s is left out: %s", path, _reason(ledger, row))
        return assets

    def _scanned(self, root: Path) -> Sequence[Asset]:
        assets: dict[str, Asset] = {}
        for base in _bases(root):
            for identifier, path in self.scan(base):
                hashed = self.hashed_file(path)
                sha256 = hash_file(hashed if hashed is not None and hashed.is_file() else path)
                row = PublishedRow(sha256=sha256, file_identifier=identifier)
                assets.setdefault(sha256, self._asset(root, row, path))
        return tuple(assets.values())

    def _asset(self, root: Path, row: PublishedRow, path: Path) -> Asset:
        identifier = row.file_identifier
        return Asset(
            source_id=f"{self.name}/{identifier}",
            sha256=row.sha256,
            path=path,
            name=Path(self.place(identifier)).parent.name if path.stem in _UNTELLING else path.stem,
            category=self.category(identifier, root),
            license=self.license,
            metadata=row.metadata | {"local_path": path.relative_to(root).as_posix()},
        )


# Files that are called the same for all objects; their folder has the name.
_UNTELLING = ("raw_model", "normalized_model", "mesh", "model")


def in_threads(
    bring_one: Callable[[PublishedRow], Path], rows: Sequence[PublishedRow], workers: int
) -> Iterator[Arrival]:
    """Fetch several objects at once; what goes wrong with one is its outcome."""
    pool = ThreadPoolExecutor(workers)
    try:
        jobs = {pool.submit(bring_one, row): row for row in rows}
        for job in as_completed(jobs):
            error = job.exception()
            if error is not None and not isinstance(error, (InputError, OSError)):
                raise error
            yield jobs[job], job.result() if error is None else error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def first_file(bases: Sequence[Path], place: str) -> Path | None:
    """The first of the folders that has a file at ``place``.

    Raises:
        InputError: if ``place`` leaves the folder.
    """
    return next((path for base in bases if (path := inside(base, place)).is_file()), None)


def _bases(root: Path) -> Sequence[Path]:
    return (root / "raw", root)


def _chosen(rows: Sequence[PublishedRow], ids: Iterable[str] | None) -> Sequence[PublishedRow]:
    if ids is None:
        return rows
    wanted = set(ids)
    chosen = [row for row in rows if row.sha256 in wanted or row.file_identifier in wanted]
    unknown = wanted - {row.sha256 for row in chosen} - {row.file_identifier for row in chosen}
    if unknown:
        raise InputError(f"{sorted(unknown)[0]!r} is not in the published table; give its sha256 or file_identifier.")
    return chosen


def _compare(hashed: Path | None, sha256: str) -> tuple[str, str]:
    """Status and reason of a file."""
    if hashed is None:
        return UNCHECKED, ""
    if not hashed.is_file():
        return FAILED, f"{hashed.name}, whose hash is published, is absent"
    if (found := hash_file(hashed)) != sha256:
        return WRONG_HASH, f"{hashed.name} has sha256 {found[:12]}..., published is {sha256[:12]}..."
    return OK, ""


def _status(ledger: Ledger, row: PublishedRow) -> str:
    entry = ledger.get(row.sha256)
    return FAILED if entry is None else entry.status


def _reason(ledger: Ledger, row: PublishedRow) -> str:
    entry = ledger.get(row.sha256)
    return "it did not arrive; run it again" if entry is None else entry.reason


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
