"""What a PLY file says it holds, read without believing it."""

from dataclasses import dataclass
from pathlib import Path

from mdtdist.errors import InputError

_MAX_HEADER = 2**16  # bytes; the 62 properties of a splat with all harmonics take 1500
_SPLAT_FIELDS = ("x", "f_dc_0", "opacity", "scale_0", "rot_0")
_SIZES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2, "int": 4,
    "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8, "float64": 8,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PlyHeader:
    """The header of a PLY file.

    Attributes:
        counts: element -> how many the file says there are.
        properties: element -> names of its properties.
    """

    counts: dict[str, int]
    properties: dict[str, tuple[str, ...]]

    @property
    def is_splats(self) -> bool:
        """Whether its vertices are Gaussians."""
        return all(name in self.properties.get("vertex", ()) for name in _SPLAT_FIELDS)

    @property
    def has_normals(self) -> bool:
        return "nx" in self.properties.get("vertex", ())

    @property
    def has_faces(self) -> bool:
        return any(self.counts.get(name, 0) > 0 for name in ("face", "tristrips"))


def read_ply_header(path: Path, *, max_count: int) -> PlyHeader:
    """Read the header and compare it with the size of the file.

    Args:
        path: the file.
        max_count: of elements of one kind.

    Raises:
        InputError: if the file cannot be read, is no PLY, announces more than ``max_count`` elements of a kind, or
            more than it has bytes for.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_MAX_HEADER)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); expected a PLY file") from error
    head, mark, _ = start.partition(b"end_header")
    lines = [line.split() for line in head.decode("ascii", errors="replace").splitlines()]
    if lines[:1] != [["ply"]] or not mark:
        raise InputError(f"{path} has no PLY header; expected one, so export the file again")
    counts, properties, width = _elements(path, lines)
    for name, count in counts.items():
        if not 0 <= count <= max_count:
            raise InputError(f"{path} announces {count} {name} elements; expected at most {max_count}")
    is_text = ["format", "ascii", "1.0"] in lines
    # A value takes at least two bytes as text; lists count as one value, which every list has.
    least = sum(count * (2 * len(properties[name]) if is_text else width[name]) for name, count in counts.items())
    if size - len(head) < least - 1:
        raise InputError(f"{path} is cut short: its header announces {least} bytes or more and it has {size}")
    return PlyHeader(counts=counts, properties=properties)


def _elements(path: Path, lines: list[list[str]]) -> tuple[dict[str, int], dict[str, tuple[str, ...]], dict[str, int]]:
    """Counts, property names and least bytes of every element."""
    counts: dict[str, int] = {}
    properties: dict[str, tuple[str, ...]] = {}
    width: dict[str, int] = {}
    current = ""
    try:
        for line in lines:
            if line[:1] == ["element"]:
                _, current, count = line
                counts[current], properties[current], width[current] = int(count), (), 0
            elif line[:1] == ["property"]:
                properties[current] += (line[-1],)
                width[current] += _SIZES[line[2] if line[1] == "list" else line[1]]
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} has a PLY header that cannot be understood; export the file again") from error
    return counts, properties, width
