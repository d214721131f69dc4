"""What a model name means: a shipped model, a local folder or a hub id, told apart explicitly."""

import os
import re
from importlib import resources
from pathlib import Path

from mdtdist.errors import InputError

CONFIG_NAME = "pipeline.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models inside the package."""
    assets = Path(str(resources.files("mdtdist") / "assets"))
    return {path.parent.name: path.parent for path in sorted(assets.glob(f"*/{CONFIG_NAME}"))}


def locate_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a model.

    A bare name is a shipped model. What starts with ``.``, ``~`` or ``/``, has several separators, or exists, is a
    path. The rest, ``owner/name``, is a hub id.

    Raises:
        InputError: for an unknown shipped name, a path that is no model folder, or a hub id.
    """
    name = os.fspath(name_or_path)
    shipped = shipped_models()
    if name in shipped:
        return shipped[name]
    path = Path(name).expanduser()
    if isinstance(name_or_path, os.PathLike) or _looks_like_path(name, path):
        return _checked_folder(path, name)
    if _HUB_ID.fullmatch(name):
        raise InputError(
            f"the model {name!r} reads as a hub id, which this version cannot download, and no such folder exists; "
            "download it yourself and give the path of its folder"
        )
    known = ", ".join(repr(known) for known in shipped) or "none"
    raise InputError(
        f"the model {name!r} is unknown; expected a shipped model ({known}) or the path of a model folder, "
        f"written as ./{name} if it is one"
    )


def _looks_like_path(name: str, path: Path) -> bool:
    is_nested = len(path.parts) > 1 and (len(path.parts) > 2 or Path(path.parts[0]).is_dir())
    return name.startswith((".", "~", os.sep)) or "\\" in name or is_nested or (bool(name) and path.exists())


def _checked_folder(path: Path, name: str) -> Path:
    if not path.exists():
        raise InputError(f"the model folder {name!r} does not exist; check the path")
    if not (path / CONFIG_NAME).is_file():
        raise InputError(f"{name!r} is no model folder; expected a folder with the file {CONFIG_NAME}")
    return path
