"""The Sweet Home 3D furniture libraries: 820 named, textured everyday objects under free licences.

They come as the Debian package ``sweethome3d-furniture``: an ``ar`` archive that holds a tar of five ``.sh3f`` files,
each a zip with a ``PluginFurnitureCatalog.properties`` and OBJ models.
"""

import io
import logging
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mdtdist.data.archives import inside, unpack_zip
from mdtdist.data.sources.asset import Asset, hash_file
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

PACKAGE = "sweethome3d-furniture"
VERSION = "1.8-1"
SHA256 = "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668"
FILE_NAME = f"{PACKAGE}_{VERSION}_all.deb"

CATALOG = "PluginFurnitureCatalog.properties"
_ENTRY = re.compile(r"(\w+)#(\d+)\s*[=:]\s*(.*)")
# Checked in this order against the catalogue's `license` line, then against LICENSE.TXT.
_LICENSES = (
    (re.compile(r"3\.0 United States|by/3\.0/us", re.I), "CC-BY-3.0-US"),
    (re.compile(r"Attribution 3\.0|by/3\.0", re.I), "CC-BY-3.0"),
    (re.compile(r"Public domain|Zero|CC-?0", re.I), "CC0-1.0"),
)


def fetch_package(folder: Path) -> Path:
    """The Debian package in ``folder``, downloaded with apt unless it is already there; its hash is checked.

    Raises:
        InputError: without apt or network, or if the file is not the expected one.
    """
    path = folder / FILE_NAME
    hint = f"download {FILE_NAME} from a Debian mirror (pool/main/s/sweethome3d-furniture) and give its path"
    if not path.exists():
        if shutil.which("apt-get") is None:
            raise InputError(f"cannot fetch {PACKAGE}: apt-get is not on this machine; {hint}.")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "download", f"{PACKAGE}={VERSION}"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode or not path.exists():
            reason = (result.stderr.strip() or "no file arrived").splitlines()[-1]
            raise InputError(f"`{' '.join(command)}` failed ({reason}); {hint}.")
    if (found := hash_file(path)) != SHA256:
        raise InputError(f"{path} has sha256 {found[:12]}..., expected {SHA256[:12]}...; delete it and fetch it again.")
    return path


def read_ar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Members (name, bytes) of a Unix ``ar`` archive: 60-byte text headers, bodies padded to even length.

    Raises:
        InputError: if the file is no ``ar`` archive or is cut short.
    """
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise InputError(f"{path} is not a Debian package (no ar archive); give the .deb as it was downloaded.")
        while header := file.read(60):
            size = int(header[48:58]) if len(header) == 60 and header[48:58].strip().isdigit() else -1
            if size < 0 or size > num_bytes:
                raise InputError(f"{path} is cut short; download it again.")
            body = file.read(size)
            if len(body) < size:
                raise InputError(f"{path} is cut short; download it again.")
            file.read(size % 2)
            yield header[:16].decode("ascii").strip().rstrip("/"), body


def unpack_package(package: Path, *, cache: Path) -> list[Path]:
    """Write the ``.sh3f`` libraries of a Debian package into ``cache`` and return their paths, sorted.

    Raises:
        InputError: if the package holds none.
    """
    stamp = cache / f"{package.stem}.sha256"  # written last: with it, decompressing again can be left out
    if stamp.exists() and stamp.read_text() == hash_file(package):
        return sorted(cache.glob("*.sh3f"))
    written = []
    for name, body in read_ar(package):
        if name.startswith("data.tar"):
            try:
                written += [_write(cache / path.name, data) for path, data in _read_libraries(body)]
            except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as err:
                raise InputError(f"{package} cannot be unpacked ({err}); download it again.") from err
    if not written:
        raise InputError(f"{package} holds no .sh3f library; expected the package {PACKAGE}.")
    _write(stamp, hash_file(package).encode())
    return sorted(written)


def _read_libraries(body: bytes) -> Iterator[tuple[Path, bytes]]:
    """Name and bytes of the libraries in a package's tar."""
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:*") as tar:
        for member in tar:
            if member.size > Limits().max_member_bytes:  # a reader would unpack it on the way to the next
                raise InputError(f"{member.name} has {member.size:,} bytes; it is not unpacked.")
            if member.isfile() and member.name.endswith(".sh3f"):
                source = tar.extractfile(member)
                assert source is not None
                yield Path(member.name), source.read()


def list_libraries(libraries: list[Path], *, cache: Path) -> list[Asset]:
    """Extract libraries below ``cache`` and list their assets, in catalogue order."""
    return [asset for library in libraries for asset in _list_library(library, _extract(library, cache=cache))]


def read_catalog(text: str) -> list[dict[str, str]]:
    """Entries of a furniture catalogue (lines ``key#N=value``), in the order of N; escapes are decoded."""
    entries: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _ENTRY.fullmatch(line.strip()):
            key, number, value = match.groups()
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), value)
            entries.setdefault(int(number), {})[key] = value
    return [entries[number] for number in sorted(entries)]


def _list_library(library: Path, folder: Path) -> list[Asset]:
    text = (folder / CATALOG).read_text(encoding="latin-1")
    license_name = _license(text, folder)
    return [_asset(entry, library.stem, license_name, folder) for entry in read_catalog(text) if "model" in entry]


def _asset(entry: dict[str, str], library: str, license_name: str, folder: Path) -> Asset:
    try:
        return _read_entry(entry, library, license_name, folder)
    except (KeyError, ValueError, OSError) as err:
        raise InputError(f"an entry of {library}'s {CATALOG} cannot be used ({err}): {entry.get('model')!r}.") from err


def _read_entry(entry: dict[str, str], library: str, license_name: str, folder: Path) -> Asset:
    path = inside(folder, entry["model"].lstrip("/"))
    rotation = entry.get("modelRotation")
    return Asset(
        source_id=f"{library}/{path.parent.name}",
        sha256=hash_file(path),
        path=path,
        name=entry["name"],
        category=entry.get("category", ""),
        creator=entry.get("creator", ""),
        license=license_name,
        size_cm=(float(entry["width"]), float(entry["depth"]), float(entry["height"])),
        rotation=tuple(float(value) for value in rotation.split()) if rotation else None,
    )


def _license(catalog: str, folder: Path) -> str:
    lines = [line for line in catalog.splitlines() if line.startswith("license=")]
    text = folder / "LICENSE.TXT"
    for candidate in (*lines, text.read_text(encoding="latin-1") if text.exists() else ""):
        for pattern, name in _LICENSES:
            if pattern.search(candidate):
                return name
    return "unknown"


def _extract(library: Path, *, cache: Path) -> Path:
    """Unzip a library once; the folder appears whole."""
    folder = cache / library.stem
    if not folder.exists():
        partial = cache / f".{library.stem}.{os.getpid()}"
        try:
            unpack_zip(library, partial, what=".sh3f library (a zip file)")
            if not (partial / CATALOG).exists():
                raise InputError(f"{library} holds no {CATALOG}; expected a Sweet Home 3D furniture library.")
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    os.replace(partial, path)
    return path
