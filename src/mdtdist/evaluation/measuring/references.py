"""The side that systems are compared with: the true objects, and the pictures they were generated from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mdtdist.data import PreparedFolder
from mdtdist.data.sources import MODEL_SUFFIXES, list_assets
from mdtdist.data.views import read_views
from mdtdist.errors import InputError
from mdtdist.evaluation.assets.reading import Asset3D, read_asset
from mdtdist.evaluation.measuring.outputs import digest_files
from mdtdist.evaluation.model_benchmark.test_objects import input_view

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class ReferenceObject:
    """One true object.

    Attributes:
        id: what outputs of systems are named after.
        path: the model file.
        rotation: row-major 3x3, applied in the axes of the file; None for none.
        image: the condition picture; None if there is none.
    """

    id: str
    path: Path
    rotation: tuple[float, ...] | None = None
    image: Path | None = None

    def read(self) -> Asset3D:
        """The object, Z up, centred, its longest side 1."""
        return read_asset(self.path, rotation=self.rotation)

    def picture(self) -> Image.Image | None:
        """The condition picture as its file holds it."""
        if self.image is None:
            return None
        with Image.open(self.image) as file:
            return file.copy()

    def digest(self) -> str:
        """SHA-256 of the model file, and the rotation."""
        return digest_files([self.path]) + ("" if self.rotation is None else str(self.rotation))


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The true objects by order of id.

    Attributes:
        folder: where they come from.
        objects: id -> object.
        prepared: the prepared folder that it is; None for a folder of models.
    """

    folder: Path
    objects: dict[str, ReferenceObject]
    prepared: PreparedFolder | None = None

    @property
    def ids(self) -> list[str]:
        """In order."""
        return list(self.objects)

    @property
    def has_images(self) -> bool:
        """Whether every object has its condition picture."""
        return all(item.image is not None for item in self.objects.values())


def open_reference(
    folder: Path,
    *,
    images: Path | None = None,
    models: Path | None = None,
    split: str = "test",
    limit: int | None = None,
) -> Reference:
    """Read which objects there are.

    Args:
        folder: a prepared folder (objects of ``split``, by sha256), or a folder of model files (by file name).
        images: condition pictures named after the ids; without it those of the prepared folder, see ``find_image``.
        models: source models of a prepared folder; without it its own ``source``.
        split: of a prepared folder.
        limit: only the first so many objects by order of id.

    Raises:
        InputError: if the folder has no object, two of one id, or a picture or model is missing.
    """
    prepared = PreparedFolder(folder) if (folder / "metadata.csv").is_file() else None
    objects = _list_models(folder) if prepared is None else _list_prepared(prepared, models, split)
    chosen = dict(sorted(objects.items())[:limit])
    pictures = {name: _find_image(name, images, prepared) for name in chosen}
    if images is not None and (lacking := [name for name, path in pictures.items() if path is None]):
        raise InputError(
            f"{images} has no picture of {lacking[0]} ({len(lacking)} of {len(chosen)} objects lack one); "
            f"name the pictures after the ids, for example {lacking[0]}.png"
        )
    with_images = {
        name: ReferenceObject(id=name, path=item.path, rotation=item.rotation, image=pictures[name])
        for name, item in chosen.items()
    }
    return Reference(folder=folder, objects=with_images, prepared=prepared)


def _list_models(folder: Path) -> dict[str, ReferenceObject]:
    """Model files of a folder; in ``<id>/<file>`` the folder gives the id where its only model is called otherwise."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the true objects: model files, or a prepared folder")
    objects: dict[str, ReferenceObject] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in MODEL_SUFFIXES):
        siblings = [other for other in path.parent.iterdir() if other.suffix.lower() in MODEL_SUFFIXES]
        name = path.parent.name if path.parent != folder and len(siblings) == 1 else path.stem
        if name in objects:
            raise InputError(f"{objects[name].path} and {path} are both called {name}; expected one file per object")
        objects[name] = ReferenceObject(id=name, path=path)
    if not objects:
        raise InputError(f"{folder} holds no {', '.join(MODEL_SUFFIXES)} file; give the folder of the true objects")
    return objects


def _list_prepared(prepared: PreparedFolder, models: Path | None, split: str) -> dict[str, ReferenceObject]:
    """Usable objects of a split, with the model files they were prepared from."""
    ids = prepared.ids(split)
    objects = _by_local_path(prepared, ids)
    if lacking := [sha for sha in ids if sha not in objects]:
        source = models or prepared.path / "source"
        if not source.exists():
            raise InputError(
                f"{prepared.path} does not say where its models are; give their folder (the SOURCE of `mdtdist "
                f"prepare`) with --models"
            )
        found = {
            asset.sha256: asset for asset in list_assets(source, cache=source if source.is_dir() else source.parent)
        }
        objects |= {
            sha: ReferenceObject(id=sha, path=found[sha].path, rotation=found[sha].rotation)
            for sha in lacking
            if sha in found
        }
    if lacking := [sha for sha in ids if sha not in objects]:
        raise InputError(
            f"{len(lacking)} models of {prepared.path} are not in its source, the first is {lacking[0][:12]} "
            f"({prepared.rows[lacking[0]].get('source_id', '')}); give the folder they were prepared from with --models"
        )
    return objects


def _by_local_path(prepared: PreparedFolder, ids: Sequence[str]) -> dict[str, ReferenceObject]:
    """What the column ``local_path`` of the table leads to, as far as it is there; it never leaves the folder."""
    root, objects = prepared.path.resolve(), {}
    for sha in ids:
        local = prepared.rows[sha].get("local_path")
        path = (root / local).resolve() if local else None
        if path is not None and path.is_file() and path.is_relative_to(root):
            objects[sha] = ReferenceObject(id=sha, path=path)
    return objects


def _find_image(name: str, images: Path | None, prepared: PreparedFolder | None) -> Path | None:
    """The condition picture of an object.

    Without a folder of pictures: of a folder prepared for the shipped model the view that looks most nearly
    three-quarters from the front; of one in the layout of TRELLIS the first condition view.
    """
    if images is not None:
        return next((path for end in _IMAGE_SUFFIXES if (path := images / f"{name}{end}").is_file()), None)
    if prepared is None:
        return None
    first = prepared.path / "renders_cond" / name / "000.png"
    if first.is_file():
        return first
    folder = prepared.path / "renders" / name
    if not (folder / "transforms.json").is_file():
        return None
    return folder / f"{input_view(read_views(folder)):03d}.png"
