"""Make the drawings and photographs in ``inputs/`` and their ``SOURCES.md`` from two Debian packages.

    apt-get download openclipart-png=1:0.18+dfsg-19 gcompris-qt-data=3.1-2
    python recipes/small/make_inputs.py --packages . [--out recipes/small/inputs]

Which pictures, and the outlines along which the photographs are cut out, says ``gallery.toml``.
"""

import argparse
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gallery_list import Input, read_gallery
from PIL import Image, ImageDraw

from mdtdist.config import from_dict
from mdtdist.data.files import whole_file
from mdtdist.data.sweethome import read_ar
from mdtdist.errors import InputError

PACKAGES = {
    "openclipart-png": (
        "openclipart-png_1%3a0.18+dfsg-19_all.deb",
        "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
    ),
    "gcompris-qt-data": (
        "gcompris-qt-data_3.1-2_all.deb",
        "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    ),
}
MAX_SIDE = 512  # pixels
_SUPERSAMPLING = 4  # of the outlines, for a soft edge
_RCC_MAGIC, _RCC_ZLIB, _RCC_FOLDER, _RCC_ZSTD = b"qres", 1, 2, 4
SOURCES = """\
# Sources of these pictures

Inputs of the gallery (`gallery.toml`) that are no renders of ours. Written by `make_inputs.py`, which makes the
pictures from two Debian packages; the licence of each was read by hand at the place named below.

| picture | shows | kind | creator | licence | original |
|---|---|---|---|---|---|
{rows}

- `openclipart-png` 1:0.18+dfsg-19 (bookworm): drawings of the Open Clip Art Library. Its `copyright` file is the
  Creative Commons Public Domain Dedication, for all of them; the drawing of the same name in `openclipart-svg` of the
  same version holds its own statement, `cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"`, with the
  creator named here. Changes: margin cut off, scaled down to {max_side} pixels where it was larger.
- `gcompris-qt-data` 3.1-2 (bookworm): the file `README` beside the photographs, in the same archive, names creator,
  original and licence of each (`License: Public Domain` or `License: CC0-1.0`). Changes: cut out along an outline drawn
  by hand (in `gallery.toml`), margin cut off.

None of them asks for credit; it is given with thanks.
"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a picture comes from.

    Attributes:
        package: of ``PACKAGES``.
        member: file in it.
        inside: file in the member, if that is an archive of Qt resources.
        page: where the original is described.
        outline, holes: polygons (x, y, x, y, ...), pixels; without an outline the picture keeps its own alpha.
    """

    package: str
    member: str
    creator: str
    license: str
    inside: str = ""
    page: str = ""
    outline: tuple[float, ...] = ()
    holes: tuple[tuple[float, ...], ...] = ()


def read_package(package: Path, members: Sequence[str]) -> dict[str, bytes]:
    """Files of a Debian package by path.

    Raises:
        InputError: if one is not there.
    """
    found = {}
    for name, body in read_ar(package):
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body), mode="r:*") as tar:
                for entry in tar:
                    path, file = entry.name.removeprefix("./"), tar.extractfile(entry)
                    if file is not None and path in members:
                        found[path] = file.read()
    if missing := [name for name in members if name not in found]:
        raise InputError(f"{package} has no {missing[0]}; take the version that this recipe names")
    return found


def read_resource(data: bytes, path: str) -> bytes:
    """A file of a Qt resource archive (rcc, version 2 or 3).

    The header holds the offsets of a tree of 22-byte nodes, of the data and of the names; a folder's children stand
    one after the other.

    Raises:
        InputError: if it is no such archive, the file is not there, or it is packed with zstd.
    """
    if data[:4] != _RCC_MAGIC:
        raise InputError("the archive does not begin with 'qres'; expected Qt resources")
    _, tree, contents, names = struct.unpack(">4I", data[4:20])

    def node(index: int) -> tuple[str, int, int, int]:
        name, flags, first, second = struct.unpack(">IHII", data[tree + 22 * index :][:14])
        length = struct.unpack(">H", data[names + name :][:2])[0]
        return data[names + name + 6 :][: 2 * length].decode("utf-16-be"), flags, first, second

    index = 0
    for part in path.split("/"):
        _, _, count, first = node(index)
        index = next((i for i in range(first, first + count) if node(i)[0] == part), -1)
        if index < 0:
            raise InputError(f"the archive has no {path!r}: nothing is called {part!r}")
    _, flags, _, offset = node(index)
    if flags & (_RCC_FOLDER | _RCC_ZSTD):
        raise InputError(f"{path!r} is a folder or packed with zstd; expected a plain file")
    size = struct.unpack(">I", data[contents + offset :][:4])[0]
    body = data[contents + offset + 4 :][:size]
    return zlib.decompress(body[4:]) if flags & _RCC_ZLIB else body


def outline_alpha(
    size: tuple[int, int], outline: Sequence[float], holes: Sequence[Sequence[float]] = ()
) -> Image.Image:
    """Alpha that is opaque inside a polygon and outside its holes, with a soft edge of a pixel.

    Args:
        size: width and height, pixels.
        outline, holes: x, y, x, y, ..., pixels from the upper left corner, y down.
    """
    scale = _SUPERSAMPLING
    mask = Image.new("L", (scale * size[0], scale * size[1]), 0)
    draw = ImageDraw.Draw(mask)
    for polygon, value in ((outline, 255), *((hole, 0) for hole in holes)):
        draw.polygon([scale * edge for edge in polygon], fill=value)
    return mask.resize(size, Image.Resampling.BOX)


def cut_out(picture: Image.Image, source: Source) -> Image.Image:
    """RGBA with the object only: no margin, nothing behind transparent pixels, no longer than ``MAX_SIDE``."""
    picture = picture.convert("RGBA")
    if source.outline:
        picture.putalpha(outline_alpha(picture.size, source.outline, source.holes))
    picture = picture.crop(picture.getchannel("A").getbbox())
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    pixels = np.array(picture)
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def make(item: Input, source: Source, members: dict[str, bytes]) -> Image.Image:
    """The picture of an input."""
    data = members[source.member]
    return cut_out(Image.open(io.BytesIO(read_resource(data, source.inside) if source.inside else data)), source)


def source_row(item: Input, source: Source) -> str:
    """A line of the table in ``SOURCES.md``."""
    original = f"`{source.package}`: `{Path(source.inside or source.member).name}`"
    original += f" ([page]({source.page}))" if source.page else ""
    cells = (f"`{item.file.name}`", item.title, item.kind, source.creator, source.license, original)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=Path("."), help="folder with the Debian packages")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "inputs")
    args = parser.parse_args()
    inputs = [(item, from_dict(Source, item.source)) for item in read_gallery().inputs if item.source]
    members: dict[str, bytes] = {}
    for name, (file_name, sha256) in PACKAGES.items():
        path = args.packages / file_name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise SystemExit(f"{path} is not there or not the file it should be; see the commands in {__file__}")
        members |= read_package(path, [source.member for _, source in inputs if source.package == name])
    for item, source in inputs:
        with whole_file(args.out / item.file.name) as file:
            make(item, source, members).save(file, format="PNG", optimize=True)
        print(args.out / item.file.name)
    rows = "\n".join(source_row(item, source) for item, source in inputs)
    with whole_file(args.out / "SOURCES.md") as file:
        file.write(SOURCES.format(rows=rows, max_side=MAX_SIDE).encode())


if __name__ == "__main__":
    main()
