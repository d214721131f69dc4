"""Fetch a file over HTTP so that an interrupted download continues: parts are kept and asked for by range."""

import contextlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from mdtdist.data.sources.asset import hash_file
from mdtdist.errors import InputError

_CHUNK = 2**20


class WrongHash(InputError):
    """The bytes arrived and are not the expected ones."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    attempts: int = 5,
    timeout: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The file at ``url``, written to ``path``, which appears whole; what is there already is kept.

    Parts lie beside it (``.<name>.part``) and are continued where they ended, as long as the server says that its file
    is still the same (its ``ETag`` or date); otherwise the download starts anew.

    Args:
        url: http or https.
        sha256: expected hash; None for no check.
        attempts: connections in a row that bring nothing before it is given up.
        timeout: seconds without a byte.
        progress: called with bytes there and bytes in all.

    Raises:
        WrongHash: if the whole file has another hash; the part is removed.
        InputError: if the server refuses or the attempts are used up; the part stays.
    """
    if path.is_file() and (sha256 is None or hash_file(path) == sha256):
        return path
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no http address.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    _fill(url, part, attempts=attempts, timeout=timeout, progress=progress)
    if sha256 is not None and (found := hash_file(part)) != sha256:
        _discard(part)
        raise WrongHash(f"{url} has sha256 {found[:12]}..., expected {sha256[:12]}...")
    os.replace(part, path)
    _discard(part)
    return path


def _fill(url: str, part: Path, *, attempts: int, timeout: float, progress: Callable[[int, int], None] | None) -> None:
    """Connect until the part is whole. A connection that came further than all before starts the count anew."""
    left, furthest = attempts, _size(part)
    while True:
        try:
            if _receive(url, part, timeout=timeout, progress=progress):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as err:
            if err.code == 416:  # nothing is left of that range: the file became another one, or the part is too long
                _discard(part)
            elif err.code < 500 and err.code not in (408, 429):
                raise InputError(f"{url} answers {err.code} {err.reason}; is it still there?") from err
            reason = f"{err.code} {err.reason}"
        except (OSError, HTTPException) as err:
            reason = str(err) or type(err).__name__
        left = attempts if _size(part) > furthest else left - 1
        furthest = max(furthest, _size(part))
        if left <= 0:
            raise InputError(f"{url} cannot be fetched ({reason}); run it again to continue.")
        time.sleep(min(0.2 * 2 ** (attempts - left), 10.0) if left < attempts else 0.0)


def _receive(url: str, part: Path, *, timeout: float, progress: Callable[[int, int], None] | None) -> bool:
    """One connection; whether the part is whole afterwards."""
    have, mark = _size(part), _mark_of(part)
    headers = {"User-Agent": "mdtdist", "Accept-Encoding": "identity"}
    if have and mark:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        is_continued = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        total = _length(answer) + (have if is_continued else 0)
        if not is_continued:
            mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            # A weak tag does not promise equal bytes, so such a file is not continued.
            part.with_suffix(".mark").write_text("" if mark.startswith("W/") else mark)
        with part.open("ab" if is_continued else "wb") as file:
            while block := answer.read(_CHUNK):
                file.write(block)
                if progress is not None:
                    progress(file.tell(), total)
    if 0 <= total < _size(part):  # more than there is: nothing of it can be trusted
        _discard(part)
    return total < 0 or _size(part) == total


def _length(answer: HTTPResponse) -> int:
    """Bytes to come; hugely negative if the server does not say (then the end of the connection is the end)."""
    length = answer.headers.get("Content-Length")
    return int(length) if length is not None else -(2**62)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _mark_of(part: Path) -> str:
    mark = part.with_suffix(".mark")
    return mark.read_text() if mark.exists() else ""


def _discard(part: Path) -> None:
    for path in (part, part.with_suffix(".mark")):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
