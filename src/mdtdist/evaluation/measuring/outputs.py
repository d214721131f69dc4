"""The files a system exported, matched with the objects they belong to."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdtdist.errors import InputError

SUFFIXES = (".glb", ".gltf", ".ply", ".obj", ".stl")
EMPTY_SUFFIX = ".empty"  # a system that made nothing for an object: it counts, with an empty picture
_SEED_ENDING = re.compile(r"[_-]?seed[_-]?(\d+)$")
_SEED_FOLDER = re.compile(r"seed[_-]?(\d+)")


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """What a system made of one object from one seed.

    Attributes:
        id: of the object.
        seed: of the output.
        path: the file.
        is_alone: whether the folder of the file holds this output only, so that all else in there belongs to it.
    """

    id: str
    seed: int
    path: Path
    is_alone: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it only says that nothing was made."""
        return self.path.suffix.lower() == EMPTY_SUFFIX

    def digest(self) -> str:
        """SHA-256 of the file and of what an OBJ or glTF has beside it."""
        names = [self.path]
        if self.path.suffix.lower() in (".obj", ".gltf"):
            beside = self.path.parent.iterdir() if self.is_alone else self.path.parent.glob(f"{self.path.stem}*")
            names += sorted(path for path in beside if path.is_file() and path != self.path)
        return digest_files(names)


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the digests of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def find_outputs(folder: Path, ids: Collection[str], *, suffix: str | None = None) -> list[OutputFile]:
    """The outputs of known objects, by id and seed.

    A file belongs to the object whose id it is named after: ``<id>.glb``, ``<id>_seed0.glb``, ``seed0/<id>.glb``,
    ``<id>/<any name>.glb`` or ``<id>/seed0/<any name>.glb``. A name without a seed means seed 0.

    Args:
        folder: what the system exported.
        ids: of the objects; files of others are passed over.
        suffix: only files that end so, for a folder with several formats of each object.

    Raises:
        InputError: if the folder has no file of any of the objects, or two of one object and seed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected the folder with the files that the system exported")
    allowed = (*SUFFIXES, EMPTY_SUFFIX) if suffix is None else ("." + suffix.lower().lstrip("."), EMPTY_SUFFIX)
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in allowed and path.is_file()]
    found: dict[tuple[str, int], list[OutputFile]] = defaultdict(list)
    for path in files:
        if output := _match(path, path.relative_to(folder), ids):
            found[output.id, output.seed].append(output)
    if not found:
        names = ", ".join(path.name for path in files[:3]) or "no such file"
        raise InputError(
            f"{folder} has no {', '.join(allowed[:-1])} file named after an object of the reference: it has {names}; "
            f"the ids are {', '.join(sorted(ids)[:3])} ..."
        )
    for (name, seed), several in found.items():
        if len(several) > 1:
            raise InputError(
                f"{several[0].path} and {several[1].path} are both outputs of {name} with seed {seed}; "
                "choose one format with --format, or tell the seeds apart (<id>_seed0, <id>_seed1)"
            )
    return [found[key][0] for key in sorted(found)]


def _match(path: Path, relative: Path, ids: Collection[str]) -> OutputFile | None:
    seeds = [int(match[1]) for part in relative.parts[:-1] if (match := _SEED_FOLDER.fullmatch(part))]
    ending = _SEED_ENDING.search(path.stem)
    if path.stem in ids:
        return OutputFile(id=path.stem, seed=seeds[0] if seeds else 0, path=path)
    if ending and path.stem[: ending.start()] in ids:
        return OutputFile(id=path.stem[: ending.start()], seed=int(ending[1]), path=path)
    for part in reversed(relative.parts[:-1]):
        if part in ids:
            seed = int(ending[1]) if ending else (seeds[0] if seeds else 0)
            return OutputFile(id=part, seed=seed, path=path, is_alone=ending is None)
    return None


def common_seeds(outputs: Sequence[OutputFile]) -> tuple[int, ...]:
    """The seeds that occur, in order."""
    return tuple(sorted({output.seed for output in outputs}))


def check_complete(
    outputs: Sequence[OutputFile], ids: Sequence[str], *, allow_missing: bool = False
) -> tuple[list[str], list[str]]:
    """The objects that have an output of every seed, and those that lack one.

    Raises:
        InputError: if any lacks one and that is not allowed, or fewer than two are left.
    """
    seeds = common_seeds(outputs)
    there = {(output.id, output.seed) for output in outputs}
    lacking = [name for name in ids if any((name, seed) not in there for seed in seeds)]
    if lacking and not allow_missing:
        raise InputError(
            f"{len(lacking)} of {len(ids)} objects have no output for each seed of {list(seeds)}, the first is "
            f"{lacking[0]}; make them, or measure the others alone with --allow-missing (the record says so)"
        )
    complete = [name for name in ids if name not in set(lacking)]
    if len(complete) < 2:
        raise InputError(f"{len(complete)} objects have an output; expected at least 2 to compare sets")
    return complete, lacking


def generation_facts(outputs: Sequence[OutputFile]) -> dict[str, Any]:
    """What the JSON files of `mdtdist generate` beside the outputs say: ``steps``, ``nfe``, ``seconds`` (medians).

    Empty where the files are not there. Steps and evaluations are left out when they differ between outputs.
    """
    stories = [story for output in outputs if (story := _story(output.path)) is not None]
    facts: dict[str, Any] = {}
    if not stories:
        return facts
    for key in ("steps", "nfe"):
        pairs = {tuple(story[key].values()) for story in stories if isinstance(story.get(key), dict)}
        if len(pairs) == 1:
            facts[key] = pairs.pop()
    seconds: dict[str, list[float]] = defaultdict(list)
    for story in stories:
        for stage, value in story.get("seconds", {}).items():
            seconds[stage].append(float(value))
    if seconds:
        facts["seconds"] = {stage: float(np.median(values)) for stage, values in seconds.items()}
    return facts


def _story(path: Path) -> dict[str, Any] | None:
    beside = path.with_suffix(".json")
    try:
        story = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    except (OSError, ValueError):
        return None  # some other system's file of the same name
    return story if isinstance(story, dict) and "model" in story else None
