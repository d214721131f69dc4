"""Read a 3D model that nobody vouches for: refused with a reason, bounded in memory and time, never a crash.

Data sets are collected from strangers. Before a reader allocates anything, the counts a file declares are held against
its size (:mod:`mdtdist.data.file_headers`); the files it names are opened only inside its own folder; pictures are
measured before they are decoded; and the parse runs under a limit on memory and time. What passes is a plain
:class:`TexturedTriangles` with finite positions and faces of vertices that exist.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mdtdist.data.bounds import OutOfTime, bounded
from mdtdist.errors import InputError
from mdtdist.representations.triangles import TexturedTriangles

# Formats that need another program first, and which.
FOREIGN_SUFFIXES = (".fbx", ".blend", ".dae", ".usd", ".usda", ".usdc", ".usdz", ".abc", ".3ds", ".max")
PICTURE_FORMATS = ("AVIF", "BMP", "DDS", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:")  # two letters or more: C: is a drive


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a model may ask of the machine. Beyond it, it is refused.

    Attributes:
        max_file_bytes: size of the model file, and of the files it names together.
        max_vertices, max_faces: over all parts and instances. Objaverse's largest objects have a few million faces.
        max_pixels: of one picture; 2^26 is 8192 x 8192.
        max_total_pixels: of all pictures of a model; four bytes each once decoded.
        max_memory: bytes the parse may add to what the process holds (address space; Linux). Left out in a process
            that uses CUDA, whose driver reserves address space by itself.
        max_seconds: wall clock of the parse (in the main thread of a process, where alarms arrive).
        max_unpacked_bytes: of an archive unpacked whole.
        max_member_bytes: of one file in an archive.
        max_ratio: unpacked over packed size of what is larger than 128 MiB; meshes and pictures stay below 20.
        max_members: files in an archive.
    """

    max_file_bytes: int = 2**30
    max_vertices: int = 20_000_000
    max_faces: int = 10_000_000
    max_pixels: int = 2**26
    max_total_pixels: int = 2**28
    max_memory: int = 8 * 2**30
    max_seconds: float = 300.0
    max_unpacked_bytes: int = 8 * 2**30
    max_member_bytes: int = 2 * 2**30
    max_ratio: float = 200.0
    max_members: int = 200_000


def load_checked(path: Path, limits: Limits | None = None) -> TexturedTriangles:
    """Triangles and materials of a model file, in the axes of the file, with display-referred colours.

    Factors and vertex colours of GLB and glTF, linear light by definition, become sRGB unless trimesh wrote the file
    (:mod:`mdtdist.data.gltf_colors`). Other formats do not say, and hold what is shown.

    Args:
        path: GLB, glTF, OBJ, PLY, STL or OFF.
        limits: None for the defaults.

    Raises:
        InputError: whatever is wrong, with the reason: a missing or foreign file, counts that the file cannot hold, a
            texture or buffer outside the file's folder, oversized pictures, too many faces, positions that are not
            finite, no face, damage of any kind, or more memory or time than the limits give.
    """
    path, limits = Path(path), limits or Limits()
    kind = path.suffix.lower()
    try:
        if not path.is_file():
            raise InputError(f"{path} is no file")
        _check_kind(kind)
        with bounded(max_memory=limits.max_memory, max_seconds=limits.max_seconds):
            return _load(path, limits)
    except InputError:
        raise
    except OutOfTime:
        raise InputError(f"reading it takes longer than {limits.max_seconds:g} s") from None
    except MemoryError:
        raise InputError(f"reading it needs more than {limits.max_memory / 2**30:.3g} GiB of memory") from None
    except Exception as err:  # readers raise whatever a damaged file makes them stumble over
        what = f"{type(err).__name__}: {err}".splitlines()[0][:150]
        raise InputError(f"it cannot be read as {kind[1:].upper()} ({what})") from err


def _check_kind(kind: str) -> None:
    import trimesh

    if kind.lstrip(".") in trimesh.available_formats() and kind not in (".zip", ".gz", ".bz2", ".dxf"):
        return
    if kind in FOREIGN_SUFFIXES:
        raise InputError(f"trimesh {trimesh.__version__} reads no {kind} file; convert it to GLB (Blender does)")
    raise InputError(f"{kind or 'a file without suffix'} is no 3D format read here; give GLB, glTF, OBJ, PLY or STL")


def _load(path: Path, limits: Limits) -> TexturedTriangles:
    import trimesh

    from mdtdist.data.file_headers import check_header
    from mdtdist.data.gltf_colors import has_linear_colors, with_default_materials
    from mdtdist.data.scene import triangles_of_scene

    pictures = PictureBudget(limits)
    tree = check_header(path, limits, pictures.check)
    changed = with_default_materials(path, tree)
    folder = _folder_of(path, limits, pictures.check)
    try:
        source, kind = (path, None) if changed is None else (changed, path.suffix[1:].lower())
        scene = trimesh.load_scene(source, file_type=kind, process=False, resolver=folder)
    finally:
        if folder.refusals:  # readers take a refused texture for a missing one; the refusal is the first real cause
            raise InputError(folder.refusals[0])
    return triangles_of_scene(
        scene,
        max_faces=limits.max_faces,
        max_vertices=limits.max_vertices,
        is_linear=has_linear_colors(tree),
    )


class PictureBudget:
    """Measures pictures by their header, one by one and together, before anything decodes them."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._total = limits, 0

    def check(self, data: bytes, name: str) -> None:
        """Refuse a picture that is too large or of a format that is not a texture's (PostScript runs programs).

        Raises:
            InputError: with the size or format.
        """
        from PIL import Image

        try:
            kind, width, height = _measure(data)
        except MemoryError:
            raise
        except Image.DecompressionBombError as err:  # Pillow's own limit, which it applies before it tells the size
            raise InputError(f"picture {name} is too large ({str(err).split(',')[0]})") from None
        except Exception:  # no picture, or a broken one: the model is read without it
            return
        if kind not in PICTURE_FORMATS:
            raise InputError(f"picture {name} is {kind}; textures may be {', '.join(PICTURE_FORMATS)}")
        self._total += width * height
        if width * height > self._limits.max_pixels:
            raise InputError(f"picture {name} has {width} x {height} pixels, more than {self._limits.max_pixels:,}")
        if self._total > self._limits.max_total_pixels:
            raise InputError(f"its pictures have more than {self._limits.max_total_pixels:,} pixels together")


def _measure(data: bytes) -> tuple[str, int, int]:
    """Format and size of a picture from its header."""
    import io
    import warnings

    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data)) as image:
            return str(image.format), *image.size


def resolve_inside(folder: Path, name: str) -> Path | None:
    """The file that a model in ``folder`` means by ``name``; None if there is none.

    A path that leaves the folder (by ``..``, from the root, or through a link) is never followed. If the folder itself
    holds a file of that name, that one is meant: exporters write the paths of their own machines. For the same reason
    a path from the root that leads nowhere here is an absent file like others, no attack.

    Raises:
        InputError: if the path leaves the folder, or is an address.
    """
    name, root = name.strip(), folder.resolve()
    outside = InputError(f"it refers to {name[:80]!r}, outside its folder; put the file beside it")
    if _SCHEME.match(name):
        raise outside
    is_outside = False
    for candidate in dict.fromkeys((name, name.lstrip("/"), Path(name).name)):
        path = (root / candidate).resolve()
        if not path.is_relative_to(root):
            is_outside |= path.exists() or not Path(candidate).is_absolute()
        elif candidate and path.is_file():
            return path
    if is_outside:
        raise outside
    return None


def _folder_of(path: Path, limits: Limits, check_picture: Callable[[bytes, str], None]) -> Any:
    """A trimesh resolver that opens files of the model's own folder only; what it refused is in ``refusals``."""
    from trimesh.resolvers import FilePathResolver

    class OwnFolder(FilePathResolver):
        def __init__(self, source: str) -> None:
            super().__init__(source)
            self.refusals: list[str] = []
            self.room = limits.max_file_bytes

        def get(self, name: str) -> bytes:
            try:
                return self._read(str(name))
            except InputError as err:
                self.refusals.append(str(err))
                raise

        def _read(self, name: str) -> bytes:
            found = resolve_inside(Path(self.parent), name)
            if found is None and path.suffix.lower() in (".gltf", ".glb"):  # their names are percent-encoded
                found = resolve_inside(Path(self.parent), unquote(name))
            if found is None:
                raise FileNotFoundError(name)
            self.room -= found.stat().st_size
            if self.room < 0:
                raise InputError(f"the files it names have more than {limits.max_file_bytes:,} bytes together")
            data = found.read_bytes()
            check_picture(data, name[:80])
            return data

        def write(self, name: str, data: Any) -> None:
            raise InputError(f"reading a model wrote {name!r}")

        def namespaced(self, namespace: str) -> "OwnFolder":
            return self

    return OwnFolder(str(path.absolute()))
