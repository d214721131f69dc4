"""``mdtdist generate`` over many images: on the engine of ``prepare``, where a bad image does not stop the others."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mdtdist
from mdtdist.errors import InputError

if TYPE_CHECKING:
    from mdtdist.data.engine import EngineConfig, Shard
    from mdtdist.pipelines import ImageTo3D

# What decides the files of an image, beside the image.
_SETTINGS = ("model", "student", "teacher", "steps", "seed", "guidance", "max_voxels", "dtype", "background")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that make a run a batch."""
    group = parser.add_argument_group("many images (any of these: a failure is recorded and the others go on)")
    group.add_argument("--engine", choices=("processes", "ray"), help="where workers run; each loads the model once")
    group.add_argument("--workers", type=int, metavar="N", help="processes, or workers of the cluster (default: 1)")
    group.add_argument("--address", help="of a Ray cluster; auto for the one this machine belongs to")
    group.add_argument("--shard", metavar="I/N", help="only this part of the images, for example 1/4")
    group.add_argument("--time-limit", type=float, metavar="SECONDS", help="of one image (default: none)")
    group.add_argument("--resume", action="store_true", help="leave out images whose files of these settings are there")


def is_batch(args: argparse.Namespace) -> bool:
    """Whether one of the options was given."""
    return args.resume or any(
        value is not None for value in (args.engine, args.workers, args.address, args.shard, args.time_limit)
    )


@dataclass(frozen=True, kw_only=True)
class MakeAsset:
    """Makes the files of one image; this is what workers are given.

    Attributes:
        load: arguments of ``ImageTo3D.from_pretrained``, the model's name under ``name_or_path``.
        options: of the pipeline's call.
        mesh_options: of ``Asset.finish_mesh``.
        settings: digest of all that decides the files, written into each json.
    """

    load: Mapping[str, Any]
    options: Mapping[str, Any]
    mesh_options: Mapping[str, Any]
    formats: tuple[str, ...]
    background: str
    out: Path
    settings: str

    def set_up(self) -> None:
        """Load the model; once per worker."""
        self._pipeline().load_flows(self.options["flows"], self.options["decoders"])

    def __call__(self, path: Path) -> dict[str, Any]:
        from mdtdist.cli.generate import save_asset

        pipe = self._pipeline()
        asset = pipe(pipe.prepare(path, background=self.background), **self.options)
        source = {"image": str(path), "image_sha256": _digest_file(path), "settings": self.settings}
        kwargs: dict[str, Any] = {"source": source, "label": path.stem, "mesh_options": self.mesh_options}
        return save_asset(asset, self.out, path.stem, self.formats, **kwargs)

    def is_done(self, path: Path) -> bool:
        """Whether the files of an image are there, made of the same picture by the same settings."""
        try:
            record = json.loads((self.out / f"{path.stem}.json").read_text())
            is_same = record["settings"] == self.settings and record["image_sha256"] == _digest_file(path)
            return is_same and all((self.out / Path(name).name).exists() for name in record["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _pipeline(self) -> "ImageTo3D":
        return _load(json.dumps(dict(self.load), default=str))


@lru_cache(maxsize=1)
def _load(arguments: str) -> "ImageTo3D":
    import torch

    from mdtdist.pipelines import ImageTo3D

    load = json.loads(arguments)
    return ImageTo3D.from_pretrained(load.pop("name_or_path"), dtype=getattr(torch, load.pop("dtype")), **load)


def settings_digest(args: argparse.Namespace, **chosen: Any) -> str:
    """Sixteen hexadecimal digits of all that decides the files, this package's version included."""
    structure = None if args.structure is None else _digest_file(Path(args.structure))
    settings = {name: getattr(args, name) for name in _SETTINGS}
    text = json.dumps([mdtdist.__version__, settings, structure, chosen], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_batch(
    args: argparse.Namespace,
    paths: Sequence[Path],
    *,
    out: Path,
    options: Mapping[str, Any],
    mesh_options: Mapping[str, Any],
    formats: Sequence[str],
) -> int:
    """Make the assets of all images; print one line each and the failures, which go to ``failures.json`` as well.

    Args:
        options: of the pipeline's call, with ``flows`` and ``decoders``.

    Returns:
        0, or 1 if every image failed.
    """
    engine, shard = _engine(args)
    chosen = {"flows": options["flows"], "decoders": options["decoders"], "formats": formats, "mesh": mesh_options}
    make = MakeAsset(
        load=_load_arguments(args),
        options=options,
        mesh_options=mesh_options,
        formats=tuple(formats),
        background=args.background,
        out=out.absolute(),
        settings=settings_digest(args, **chosen),
    )
    mine = [path.absolute() for path in paths if shard is None or shard.owns(path.stem)]
    jobs = [path for path in mine if not (args.resume and make.is_done(path))]
    out.mkdir(parents=True, exist_ok=True)
    results, failures = _run(make, jobs, engine, is_quiet=args.json)
    _record(out / f"failures{'' if shard is None else shard.suffix}.json", failures)
    if args.json:
        print(json.dumps({"made": results, "num_skipped": len(mine) - len(jobs), "failed": failures}, indent=2))
    else:
        print(f"{len(results)} made, {len(mine) - len(jobs)} there already, {len(failures)} failed")
    return 1 if failures and not results and len(jobs) == len(mine) else 0


def _engine(args: argparse.Namespace) -> "tuple[EngineConfig, Shard | None]":
    from mdtdist.data.engine import EngineConfig, Shard

    if args.prompt is not None or args.views:
        raise InputError(
            f"{'--prompt' if args.views is None else '--views'} makes one asset; leave the batch options out"
        )
    default = None if args.engine == "ray" else 1  # a model per worker: how many fit is for the user to say
    config = EngineConfig(
        kind=args.engine or "processes",
        workers=default if args.workers is None else args.workers,
        address=args.address,
        time_limit=args.time_limit,
        gpus=1.0 if args.engine == "ray" and args.device.startswith("cuda") else 0.0,
    )
    return config, None if args.shard is None else Shard.parse(args.shard)


def _load_arguments(args: argparse.Namespace) -> dict[str, Any]:
    def absolute(name: str) -> str:  # workers may start elsewhere; what is no plain path stays a name
        return str(Path(name).absolute()) if name.startswith(".") else name

    return {
        "name_or_path": absolute(args.model),
        "student": [absolute(name) for name in args.student],
        "device": args.device,
        "dtype": args.dtype,
        "low_memory": args.low_memory,
        "offline": args.offline,
    }


def _run(
    make: MakeAsset, jobs: Sequence[Path], engine: "EngineConfig", *, is_quiet: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    from mdtdist.cli.generate import _print_result
    from mdtdist.data.engine import run_tasks

    results, failures = [], {}
    with closing(run_tasks(make, jobs, engine)) as outcomes:
        for number, outcome in enumerate(outcomes, start=1):
            label = f"[{number}/{len(jobs)}] {outcome.task.stem}"
            if outcome.reason is not None:
                failures[str(outcome.task)] = outcome.reason
                print(f"{label}: failed: {outcome.reason}", file=sys.stderr)
                continue
            results.append(outcome.value)
            if not is_quiet:
                _print_result(outcome.value, label)
    return results, failures


def _record(path: Path, failures: Mapping[str, str]) -> None:
    """The failures of this run; a record of an earlier one goes when there are none."""
    from mdtdist.data.files import write_json

    if failures:
        write_json(path, dict(failures))
    else:
        path.unlink(missing_ok=True)


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
