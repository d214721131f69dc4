"""Files appear whole: written beside their place, then renamed. A folder has one writer at a time."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mdtdist.errors import InputError


@contextlib.contextmanager
def appear_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, with the same suffix; rename it to ``path`` when the block succeeds.

    An existing file is replaced in one step. If the block fails, nothing is left behind and ``path`` is untouched.

    Raises:
        InputError: if the folder does not exist or cannot be written.
    """
    path = Path(path)
    temporary = _reserve(path)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private; an output is an ordinary file
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error}); choose another place for it") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes that ask the same way out of ``folder`` until the block ends or this process dies.

    Raises:
        InputError: if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows has other locks; there the user has to take care
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is writing into {folder}; wait for it or choose another folder"
            ) from error
        yield


def _reserve(path: Path) -> Path:
    """An empty file beside ``path`` that no other writer has."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise InputError(
            f"cannot write into {path.parent} ({error.strerror}); choose a folder that exists and can be written"
        ) from error
    os.close(handle)
    return Path(name)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
