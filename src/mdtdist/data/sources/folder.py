"""Any folder of model files, and which kind of source a path is."""

from pathlib import Path

from mdtdist.data.sources.asset import Asset, hash_file
from mdtdist.errors import InputError

# FBX is listed so that it is counted; where trimesh cannot read it, each asset fails with that reason.
MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".fbx")


def list_folder(folder: Path) -> list[Asset]:
    """Assets of a folder tree of mesh files, one per distinct file, in the order of their paths.

    The name of an asset is its file name without trailing digits (``chair_012.glb`` is a ``chair``), its category
    the folder it lies in. Files with the same bytes are taken once.

    Raises:
        InputError: if there is no mesh file.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MODEL_SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{folder} holds no {', '.join(MODEL_SUFFIXES)} file; give a folder of 3D models.")
    assets: dict[str, Asset] = {}
    for path in paths:
        sha256, relative = hash_file(path), path.relative_to(folder)
        name = path.stem.rstrip("0123456789").rstrip("-_ .") or path.stem
        category = relative.parent.as_posix() if relative.parent != Path(".") else ""
        asset = Asset(source_id=relative.as_posix(), sha256=sha256, path=path, name=name, category=category)
        assets.setdefault(sha256, asset)
    return list(assets.values())


def list_assets(source: Path, *, cache: Path) -> list[Asset]:
    """Assets of a bundle, of a Debian package, of a folder of Sweet Home 3D libraries, or of a folder of mesh files.

    Data sets by name: :func:`mdtdist.data.sources.find_source`.

    Args:
        source: a ``.bundle`` or a folder of them (for the layout small), a ``.deb``, a ``.sh3f``, or a folder.
        cache: folder for extracted libraries.

    Raises:
        InputError: if ``source`` does not exist or holds no 3D model.
    """
    from mdtdist.data.bundle import find_bundles, list_bundle
    from mdtdist.data.sweethome import list_libraries, unpack_package

    if not source.exists():
        raise InputError(f"{source} does not exist; give a folder of 3D models, a .sh3f library or a .deb package.")
    if bundles := find_bundles(source):
        return [asset for path in bundles for asset in list_bundle(path)]
    if source.suffix == ".deb":
        return list_libraries(unpack_package(source, cache=cache), cache=cache)
    libraries = [source] if source.suffix == ".sh3f" else sorted(source.glob("*.sh3f"))
    if libraries:
        return list_libraries(libraries, cache=cache)
    if not source.is_dir():
        raise InputError(f"{source} is a single file; expected a folder of 3D models, a .sh3f library or a .deb.")
    return list_folder(source)
