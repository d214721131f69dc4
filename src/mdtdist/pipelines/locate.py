"""What a model name means: a shipped model, a local folder or a hub id, told apart explicitly."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path

from mdtdist.errors import InputError
from mdtdist.pipelines.config import CONFIG_NAME, PipelineConfig
from mdtdist.pipelines.hub import HubId, commit_of, snapshot

_FILE_SUFFIXES = (".safetensors", ".pt", ".json")  # no repository is called so


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models inside the package."""
    assets = Path(str(resources.files("mdtdist") / "assets"))
    return {path.parent.name: path.parent for path in sorted(assets.glob(f"*/{CONFIG_NAME}"))}


def resolve_model(name_or_path: str | os.PathLike[str], *, revision: str | None = None, offline: bool = False) -> Path:
    """The folder of a model, with every checkpoint that its ``pipeline.json`` names on this disk.

    A bare name is a shipped model. What starts with ``.``, ``~`` or ``/``, has several separators, ends like a file, or
    exists, is a path. The rest, ``owner/name`` or ``owner/name@revision``, is a hub id.

    Args:
        name_or_path: the name.
        revision: commit, tag or branch on the hub; the same as ``@revision`` in the name.
        offline: take what is on the hub from the local cache only.

    Raises:
        InputError: for an unknown shipped name, a path that is no model folder, or what the hub does not have.
    """
    place = find_source(name_or_path, revision=revision)
    if isinstance(place, HubId):
        with _no_such_path(name_or_path):
            folder = _download_model(place, offline=offline)
    elif not place.exists():
        raise InputError(f"the model folder {os.fspath(name_or_path)!r} does not exist; check the path")
    elif not (place / CONFIG_NAME).is_file():
        kind = "a folder" if place.is_dir() else "a file"
        raise InputError(
            f"{os.fspath(name_or_path)!r} is {kind} but no model folder; expected a folder with the file {CONFIG_NAME}"
        )
    else:
        folder = place
    config = PipelineConfig.parse(folder)
    for role in config.models:  # those in other repositories on the hub; the rest is there
        config.files(role, offline=offline)
    return folder


def resolve_student(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool = False,
    suffixes: tuple[str, ...] = (".json", ".safetensors"),
) -> Path:
    """The file or folder that holds a student: a path, a shipped model, or a hub id.

    Args:
        name_or_path: as for :func:`resolve_model`.
        revision: commit, tag or branch on the hub.
        offline: take what is on the hub from the local cache only.
        suffixes: of the files to have from the hub.

    Raises:
        InputError: if there is no such thing.
    """
    place = find_source(name_or_path, revision=revision)
    if isinstance(place, HubId):
        # One file of a repository, a folder in it, or all of it.
        patterns = [f"{place.path}*"] if place.path else [f"*{suffix}" for suffix in suffixes]
        with _no_such_path(name_or_path):
            place = snapshot(place, patterns, offline=offline) / place.path
    if not place.exists():
        raise InputError(f"the student {os.fspath(name_or_path)!r} does not exist; expected a file, folder or hub id")
    return place


def find_source(name_or_path: str | os.PathLike[str], *, revision: str | None = None) -> Path | HubId:
    """What a name means, by the rules of :func:`resolve_model`, without asking whether a path or hub id exists.

    Raises:
        InputError: if the name is neither shipped, nor a path, nor a hub id; or a revision goes with a path.
    """
    name = os.fspath(name_or_path)
    shipped, path = shipped_models(), Path(name).expanduser()
    source = None if name in shipped or isinstance(name_or_path, os.PathLike) else HubId.parse(name)
    if source is not None and not _looks_like_path(name, path, source):
        if revision and source.revision not in (None, revision):
            raise InputError(f"{name!r} and the revision {revision!r} disagree; give one of them")
        return replace(source, revision=revision or source.revision)
    if revision:
        raise InputError(f"a revision ({revision!r}) only goes with a hub id; {name!r} is none")
    if name in shipped:
        return shipped[name]
    if isinstance(name_or_path, os.PathLike) or _looks_like_path(name, path, source):
        return path
    known = ", ".join(repr(known) for known in shipped) or "none"
    raise InputError(
        f"the model {name!r} is unknown; expected a shipped model ({known}), a hub id (owner/name), or the path of a "
        f"model folder, written as ./{name} if it is one"
    )


def _looks_like_path(name: str, path: Path, source: HubId | None) -> bool:
    starts_here = len(path.parts) > 1 and Path(path.parts[0]).is_dir()
    is_pinned = source is not None and source.revision is not None  # "owner/name@main/file" can only be on the hub
    has_more_parts = len(path.parts) > 2 and not is_pinned
    return (
        name.startswith((".", "~", os.sep))
        or "\\" in name
        or starts_here
        or has_more_parts
        or (path.suffix in _FILE_SUFFIXES and not is_pinned)
        or (bool(name) and path.exists())
    )


@contextmanager
def _no_such_path(name: str | os.PathLike[str]) -> Iterator[None]:
    """A mistyped path can read like a hub id: what goes wrong with the hub says that the path is not there either."""
    try:
        yield
    except InputError as err:
        raise InputError(f"there is no {os.fspath(name)!r} on this disk, and as a hub id: {err}") from err


def _download_model(source: HubId, *, offline: bool) -> Path:
    """First the description, then the files that it names, both of one commit."""
    if source.path:
        raise InputError(f"{source} is a file on the hub; expected the id of a repository, {source.repo}")
    folder = snapshot(source, [CONFIG_NAME], offline=offline)
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{source} on the hub has no {CONFIG_NAME}: it is no model; is it one of students?")
    config = PipelineConfig.parse(folder)
    references = [*config.models.values(), *([config.image_cond_model] if "/" in config.image_cond_model else [])]
    patterns = [CONFIG_NAME, *(f"{name}{suffix}" for name in references for suffix in (".json", ".safetensors"))]
    return snapshot(replace(source, revision=commit_of(folder) or source.revision), patterns, offline=offline)
