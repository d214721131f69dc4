"""Unpack archives that nobody vouches for: sizes are held against limits before a byte is written."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from mdtdist.data.files import whole_file
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError

# Below this an archive cannot hurt, however well it packs; a black 4096 x 4096 TGA has half of it.
_HARMLESS_BYTES = 2**27


@contextmanager
def open_zip(path: Path, *, what: str = "zip file") -> Iterator[zipfile.ZipFile]:
    """A zip to read from; whatever damage raises inside the block becomes a reason.

    Raises:
        InputError: if the file is missing, no zip, damaged, encrypted or packed in an unknown way.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as err:
        raise InputError(f"{err.filename or path} does not exist; give the {what}.") from err
    except zipfile.BadZipFile as err:
        raise InputError(f"{path} is not a readable {what} ({err}); fetch it again.") from err
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError, OverflowError) as err:
        raise InputError(f"{path} cannot be unpacked ({err}); it is damaged or encrypted.") from err


def unpack_zip(path: Path, folder: Path, *, limits: Limits | None = None, what: str = "zip file") -> None:
    """Unpack a whole zip into ``folder``.

    Raises:
        InputError: for an archive bomb, a member outside ``folder``, a link, or damage.
    """
    limits = limits or Limits()
    with open_zip(path, what=what) as archive:
        members = archive.infolist()
        check_zip(archive, limits)
        extract(archive, [member.filename for member in members if not member.is_dir()], folder, limits=limits)


def check_zip(archive: zipfile.ZipFile, limits: Limits) -> None:
    """Hold what a zip says of its members against the limits.

    The reader never unpacks more of a member than the size declared here, so a lie is a damaged file, not a bomb.

    Raises:
        InputError: with the size, ratio or count.
    """
    name, members = archive.filename, archive.infolist()
    total, packed = sum(member.file_size for member in members), sum(member.compress_size for member in members)
    if len(members) > limits.max_members:
        raise InputError(f"{name} holds {len(members):,} files, more than {limits.max_members:,}; it is not unpacked.")
    if total > limits.max_unpacked_bytes:
        raise InputError(
            f"{name} unpacks to {total:,} bytes, more than {limits.max_unpacked_bytes:,}; it is not unpacked."
        )
    if total > _HARMLESS_BYTES and total > limits.max_ratio * packed:
        raise InputError(f"{name} unpacks {packed:,} bytes to {total:,}, an archive bomb; it is not unpacked.")


def extract(archive: zipfile.ZipFile, names: Iterable[str], folder: Path, *, limits: Limits) -> list[Path]:
    """Write members of a zip below ``folder``, each file whole; those that are there in full are left.

    Raises:
        InputError: for a member that is too large, packed too well, a link, absent or outside ``folder``.
    """
    written = []
    for name in names:
        try:
            member = archive.getinfo(name)
        except KeyError:
            raise InputError(f"{archive.filename} holds no {name}; is it the right archive?") from None
        path = inside(folder, name)
        _check_member(member, limits)
        if not (path.is_file() and path.stat().st_size == member.file_size):
            with archive.open(member) as source:
                _write(source, path, member.file_size)
        written.append(path)
    return written


def extract_tar(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, *, limits: Limits) -> Path:
    """Write one plain file of a tar below ``folder``, whole.

    Raises:
        InputError: for a link or device, a file that is too large, or a place outside ``folder``.
    """
    path = inside(folder, member.name)
    if not member.isfile():
        raise InputError(f"{member.name} in the archive is no plain file; it is not unpacked.")
    if member.size > limits.max_member_bytes:
        raise InputError(f"{member.name} has {member.size:,} bytes, more than {limits.max_member_bytes:,}.")
    source = archive.extractfile(member)
    assert source is not None
    _write(source, path, member.size)
    return path


def inside(folder: Path, name: str) -> Path:
    """``folder / name`` for a name from an archive or a table, which must stay below ``folder``.

    Raises:
        InputError: if it is absolute, has a drive or climbs out.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name.split("/")[0] or not parts.parts or "\0" in name:
        raise InputError(f"{name[:100]!r} leaves the folder it belongs into; nothing is read or written there.")
    return folder.joinpath(*parts.parts)


def _check_member(member: zipfile.ZipInfo, limits: Limits) -> None:
    name, size = member.filename, member.file_size
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{name} is a symbolic link; it is not unpacked.")
    if size > limits.max_member_bytes:
        raise InputError(f"{name} unpacks to {size:,} bytes, more than {limits.max_member_bytes:,}.")
    if size > _HARMLESS_BYTES and size > limits.max_ratio * member.compress_size:
        raise InputError(f"{name} unpacks {member.compress_size:,} bytes to {size:,}, an archive bomb.")


def _write(source: IO[bytes], path: Path, size: int) -> None:
    with whole_file(path) as file:
        shutil.copyfileobj(source, file, 2**20)
        if file.tell() != size:
            raise InputError(f"{path.name} unpacks to {file.tell():,} bytes instead of {size:,}: damaged.")
