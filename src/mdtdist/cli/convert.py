"""``mdtdist convert``: student checkpoints, those of the TRELLIS trainer too, to a model folder."""

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.errors import InputError

if TYPE_CHECKING:
    from mdtdist.pipelines.config import PipelineConfig, Stage

EPILOG = """
SOURCE is a .pt file of the TRELLIS trainer, its run folder, a safetensors file, a folder with such files, or a hub id;
one for both flows or one for each. DIR becomes a model folder: mdtdist generate IMAGE --model DIR. Networks of a base
on the hub stay references to its commit; those of another base are copied. Trainer checkpoints get the stored types
of the teacher (a float16 torso in the published models).
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("convert", help="make a model folder of student checkpoints", epilog=EPILOG)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="student checkpoints")
    parser.add_argument(
        "--base", required=True, metavar="MODEL", help="model of the teacher: shipped, folder or hub id"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--plain", action="store_true", help="of a run folder, the plain weights (default: the EMA)")
    parser.add_argument("--offline", action="store_true", help="use what is in the local hub cache only")


def run(args: argparse.Namespace) -> int:
    """Find the students, write the model folder aside, and name it when it is complete."""
    from mdtdist.pipelines.config import PipelineConfig
    from mdtdist.pipelines.locate import resolve_model, resolve_student
    from mdtdist.pipelines.students import PICKLES

    out = Path(args.out).expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {args.out!r} exists already; expected a new or empty folder")
    folder = resolve_model(args.base, offline=args.offline)
    suffixes = (".json", ".safetensors", *PICKLES)
    sources = [resolve_student(source, offline=args.offline, suffixes=suffixes) for source in args.sources]
    base = PipelineConfig.read(folder)
    with _new_folder(out) as staging:
        students = _collect(base, sources, staging, is_plain=args.plain)
        _pinned(students.config, args.base).save_pretrained(staging)
    result = {"folder": str(out), "students": students.origins}
    print(json.dumps(result, indent=2) if args.json else _as_text(result))
    return 0


@dataclass(frozen=True, kw_only=True)
class _Students:
    config: "PipelineConfig"
    origins: "dict[Stage, str]"  # the file that each stage was made of


def _collect(base: "PipelineConfig", sources: Sequence[Path], staging: Path, *, is_plain: bool) -> _Students:
    """The base with its students; those of the trainer are written into ``staging`` as safetensors."""
    from mdtdist.pipelines.config import FLOW_ROLES, flow_role
    from mdtdist.pipelines.students import with_students

    origins: dict[str, Path] = {}
    files = []
    for source in sources:
        pickles = _pickles(source, is_plain=is_plain)
        for pickle in pickles:
            file = _convert(base, pickle, staging)
            if str(file) in origins:
                raise InputError(f"{origins[str(file)]} and {pickle} are students of the same flow; give one")
            origins[str(file)] = pickle
            files.append(file)
        files += [] if pickles else [source]
    config = with_students(base, files)
    names = {stage: config.models[flow_role(stage, "student")] for stage in FLOW_ROLES}
    return _Students(config=config, origins={stage: str(origins.get(name, name)) for stage, name in names.items()})


def _pickles(source: Path, *, is_plain: bool) -> list[Path]:
    """The trainer's checkpoints that a source means; none if it has safetensors."""
    from mdtdist.models.trainer_checkpoint import latest_files
    from mdtdist.pipelines.students import PICKLES

    if source.is_file():
        return [source] if source.suffix in PICKLES else []
    return [] if any(source.rglob("*.safetensors")) else latest_files(source, ema=not is_plain)


def _convert(base: "PipelineConfig", path: Path, staging: Path) -> Path:
    """Write a trainer's checkpoint as safetensors, in the stored types of the teacher."""
    from safetensors.torch import save_file

    from mdtdist.files import appear_whole
    from mdtdist.models.trainer_checkpoint import cast_like, describe, read_state_dict
    from mdtdist.models.weights import read_header
    from mdtdist.pipelines.config import flow_role
    from mdtdist.pipelines.students import stage_of_tensors

    tensors = read_state_dict(path)
    stage = stage_of_tensors(base, describe(tensors), path)
    stored = read_header(base.files(flow_role(stage, "teacher")).weights)
    target = staging.absolute() / "ckpts" / f"{flow_role(stage, 'student')}.safetensors"
    target.parent.mkdir(exist_ok=True)
    with appear_whole(target) as partial:
        save_file(cast_like(tensors, stored, path=path), partial)
    return target


def _pinned(config: "PipelineConfig", name: str) -> "PipelineConfig":
    """The same networks where the base is on the hub: references to its commit instead of files of the cache."""
    from mdtdist.pipelines.hub import HubId, commit_of
    from mdtdist.pipelines.locate import find_source

    source, folder = find_source(name), config.folder
    if not isinstance(source, HubId) or folder is None:
        return config
    source = replace(source, revision=commit_of(folder) or source.revision)
    models = dict(config.models)
    for role in models:
        weights = config.files(role).weights
        if weights.is_relative_to(folder):
            models[role] = str(replace(source, path=weights.relative_to(folder).with_suffix("").as_posix()))
    return replace(config, models=models)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that gets its name when the block succeeds, and is removed when it does not."""
    staging = out.absolute().with_name(f".{out.absolute().name}-{os.getpid()}")
    try:
        staging.mkdir(parents=True)
    except OSError as err:
        raise InputError(f"cannot write into {out.parent} ({err.strerror}); choose another --out") from err
    try:
        yield staging
        if out.exists():
            out.rmdir()  # it is empty
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{stage:<10} {origin}" for stage, origin in result["students"].items()]
    return "\n".join(
        [*lines, f"{result['folder']} is a model folder: mdtdist generate IMAGE --model {result['folder']}"]
    )
