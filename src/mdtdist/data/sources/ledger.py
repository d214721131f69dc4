"""What has been fetched and checked, in a file that grows by a line per object: the memory of an interrupted fetch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "fetched.jsonl"

OK, UNCHECKED, WRONG_HASH, FAILED = "ok", "unchecked", "wrong hash", "failed"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object.

    Attributes:
        sha256: as published.
        status: ``ok``; ``unchecked`` if nothing was published about the bytes of this file; ``wrong hash``; ``failed``.
        path: relative to the root, with forward slashes; empty if there is no file.
        num_bytes: of the checked file; a file of another size is checked again.
        reason: of what went wrong.
    """

    sha256: str
    status: str
    path: str = ""
    num_bytes: int = 0
    reason: str = ""


class Ledger:
    """Entries of a root folder by ``sha256``; the last line about an object holds."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE_NAME
        self._entries: dict[str, Entry] = {}
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        for line in text.splitlines():
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):  # the line that a killed run was writing
                continue
            self._entries[entry.sha256] = entry
        self._is_torn = bool(text) and not text.endswith("\n")

    def get(self, sha256: str) -> Entry | None:
        """The last entry of an object."""
        return self._entries.get(sha256)

    def add(self, entry: Entry) -> None:
        """Write an entry, unless it says nothing new."""
        if self._entries.get(entry.sha256) == entry:
            return
        self._entries[entry.sha256] = entry
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._is_torn + json.dumps(asdict(entry)) + "\n")
        self._is_torn = False
