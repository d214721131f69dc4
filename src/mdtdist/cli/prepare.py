"""``mdtdist prepare``: from 3D files to training data."""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdtdist.data import Asset, PrepareConfig
    from mdtdist.data.engine import Shard
    from mdtdist.data.layouts import Layout

EPILOG = """\
stages of the layout mini, each resumable (what is there is not made again):
  voxels    upright in the unit cube, surface voxels on a 32^3 grid
  renders   12 views of 128 px with alpha, depth and camera; 8 of them serve as input images
  features  image features per voxel, occlusion tested, and the tokens of the input images
  latents   what the flows are trained on; runs when trained encoders are given, and alone needs no source

the folder DIR afterwards: metadata.csv (one row per asset: name, licence, split, status, reason), voxels/, renders/,
features/, cond/, and with encoders ss_latents/, latents/; prepare_report.html. Splits are made by name within
category; the Sweet Home 3D assets keep their frozen split.

the layout small takes a bundle of objects (recipes/small/make_bundle.py) with their splits and turns each to several
sides; it has voxels on 64^3, 4 input images from the front, 10 other views, and attributes of the surface on voxels.

the layout trellis is that of TRELLIS's own tools, file by file; its latents need --structure-encoder, --latent-encoder.

examples:
  mdtdist prepare --source sweethome --out runs/data
  mdtdist prepare sweethome3d-furniture_1.8-1_all.deb --out runs/data
  mdtdist prepare my_models/ --out runs/mine --stages voxels,renders --limit 20
  mdtdist prepare --out runs/data --stages latents --structure-encoder runs/mini/ss_vae/ss_enc \\
      --latent-encoder runs/mini/slat_vae/slat_enc
  mdtdist prepare runs/small/bundles --out runs/small/data --layout small --turns 6
  mdtdist prepare my_models/ --out /shared/mine --layout trellis --shard 1/4      (on the first of four machines)
  mdtdist prepare --out /shared/mine --layout trellis --merge                     (when all four are done)
  mdtdist prepare my_models/ --out /shared/mine --layout trellis --engine ray --address auto
"""
LAYOUTS = ("mini", "small", "trellis")
TURNS = 6
TIME_LIMIT = 1800.0  # seconds; features of 150 views take minutes on a CPU, no stage of an ordinary asset takes longer
_GIB = 2**30
_MAX_LISTED = 20  # failures that are printed one by one
# Option -> field of TrellisSettings.
_SETTINGS = (
    "num_cond_views",
    "cond_size",
    "num_feature_views",
    "feature_size",
    "resolution",
    "renderer",
    "blender_python",
    "cycles_samples",
    "image_encoder",
    "structure_encoder",
    "latent_encoder",
    "device",
)
_TRELLIS_ONLY = tuple(name for name in _SETTINGS if not name.endswith(("structure_encoder", "latent_encoder")))


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "prepare",
        help="turn a folder of 3D files into training data",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="3D files, .sh3f, .deb or .bundle, or the --source's files",
    )
    parser.add_argument(
        "--source", metavar="NAME", help=f"data set: {', '.join(_source_names())}; fetched without FOLDER"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="prepared folder")
    parser.add_argument(
        "--metadata",
        type=Path,
        metavar="CSV",
        help="table with sha256 or file_identifier, and aesthetic_score, captions or other columns to carry along",
    )
    parser.add_argument("--layout", default="mini", choices=LAYOUTS, help="what the folder holds (default: mini)")
    parser.add_argument("--stages", help="comma-separated (default: all that the given encoders allow)")
    parser.add_argument("--structure-encoder", type=Path, metavar="PATH", help="trained encoder, without suffix")
    parser.add_argument("--latent-encoder", type=Path, metavar="PATH", help="trained encoder, without suffix")
    parser.add_argument("--turns", type=int, metavar="N", help=f"of a training object, layout small (default: {TURNS})")
    parser.add_argument("--limit", type=int, help="only the first so many assets")
    parser.add_argument("--no-retry", action="store_true", help="leave assets alone that failed in an earlier run")
    parser.add_argument("--merge", action="store_true", help="only make metadata.csv of the tables of all shards")
    _add_trellis_arguments(parser)
    _add_engine_arguments(parser)


def _add_trellis_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("layout trellis")
    group.add_argument("--image-encoder", type=Path, metavar="PATH", help="DINOv2 (default: the small one shipped)")
    group.add_argument("--renderer", help="raster, rays or cycles (default: raster)")
    group.add_argument(
        "--blender-python", type=Path, metavar="PATH", help="interpreter with bpy, for cycles (default: this one)"
    )
    group.add_argument("--cycles-samples", type=int, metavar="N", help="rays per pixel of cycles (default: 128)")
    group.add_argument("--num-cond-views", type=int, metavar="N", help="views as input images (default: 24)")
    group.add_argument("--cond-size", type=int, metavar="N", help="their side, pixels (default: 1024)")
    group.add_argument("--num-feature-views", type=int, metavar="N", help="views for features (default: 150)")
    group.add_argument("--feature-size", type=int, metavar="N", help="their side, pixels (default: 512)")
    group.add_argument("--resolution", type=int, metavar="N", help="voxels a side (default: 64)")
    group.add_argument("--device", help="of the networks (default: cpu)")
    group.add_argument("--score", type=float, help="aesthetic score of assets without one (see docs/data.md)")


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the work is done")
    group.add_argument("--engine", default="processes", choices=("processes", "ray"), help="default: processes")
    group.add_argument("--workers", type=int, help="processes, or workers of the cluster (default: one per core)")
    group.add_argument("--address", help="of a Ray cluster; auto for the one this machine belongs to")
    group.add_argument("--gpus-per-worker", type=float, default=0.0, metavar="N", help="on Ray; may be a fraction")
    group.add_argument("--shard", metavar="I/N", help="only this part of the assets, for example 1/4")
    group.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="of one stage of one asset (%(default)g)",
    )
    group.add_argument(
        "--memory-limit", type=float, metavar="GIB", help="of one worker; 0 for none (default: its share, at least 4)"
    )


def run(args: argparse.Namespace) -> int:
    """Prepare and print a summary; failed assets are listed with their reasons and do not change the exit code.

    Returns:
        0, or 1 if every asset failed.
    """
    from mdtdist.data.prepare import merge, prepare

    config = _config(args)
    if args.merge:
        if args.folder is not None or args.source is not None or args.shard is not None:
            raise InputError("--merge goes with --out alone; leave FOLDER, --source and --shard out.")
        rows = merge(config)
    elif config.stages == ("latents",) and config.makes_latents:
        rows = prepare(None, config, progress=_Bars())
    else:
        rows = prepare(_assets(args, config.shard), config, progress=_Bars())
    _report(rows, args)
    return 1 if rows and all(row["status"] == "failed" for row in rows) else 0


def _config(args: argparse.Namespace) -> "PrepareConfig":
    from mdtdist.data import PrepareConfig
    from mdtdist.data.engine import EngineConfig, Shard

    layout = _layout(args)
    takes_encoders = layout.has_separate_latents and not args.merge
    engine = EngineConfig(
        kind=args.engine,
        workers=args.workers,
        address=args.address,
        time_limit=args.time_limit or None,
        memory_limit=_memory_limit(args),
        gpus=args.gpus_per_worker,
    )
    return PrepareConfig(
        out=args.out,
        layout=layout,
        stages=_stages(args, layout),
        engine=engine,
        shard=None if args.shard is None else Shard.parse(args.shard),
        retry=not args.no_retry,
        limit=args.limit,
        score=args.score,
        structure_encoder=args.structure_encoder if takes_encoders else None,
        latent_encoder=args.latent_encoder if takes_encoders else None,
    )


def _layout(args: argparse.Namespace) -> "Layout":
    from mdtdist.data.layouts import mini_layout

    if args.turns is not None and args.layout != "small":
        raise InputError(f"--turns goes with --layout small; the layout is {args.layout}.")
    given = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.layout == "trellis":
        from mdtdist.data.layouts import trellis_layout
        from mdtdist.data.trellis import TrellisSettings, trellis_finish, trellis_stages

        given |= {name: value.absolute() for name, value in given.items() if isinstance(value, Path)}
        settings = TrellisSettings(**given)  # workers may start elsewhere, hence absolute paths
        return trellis_layout(trellis_stages(settings), finish=trellis_finish(settings))
    wrong = [name for name in (*_TRELLIS_ONLY, "score") if getattr(args, name) is not None]
    if wrong:
        raise InputError(f"--{wrong[0].replace('_', '-')} goes with --layout trellis; the layout is {args.layout}.")
    if args.layout == "small":
        from mdtdist.data.small import small_layout

        return small_layout()
    return mini_layout()


def _stages(args: argparse.Namespace, layout: "Layout") -> tuple[str, ...] | None:
    if args.merge:
        return None
    if args.stages is not None:
        return tuple(stage.strip() for stage in args.stages.split(",") if stage.strip())
    has_encoder = args.structure_encoder is not None or args.latent_encoder is not None
    return (*layout.names, "latents") if layout.has_separate_latents and has_encoder else None


def _memory_limit(args: argparse.Namespace) -> int | None:
    """Bytes; by default what a worker may use if all use the same, on machines of about this size.

    None with networks on a GPU, whose driver asks for more than it uses.
    """
    if args.memory_limit is not None:
        return int(args.memory_limit * _GIB) or None
    if args.device not in (None, "cpu") or not hasattr(os, "sysconf"):
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(4 * _GIB, total // (args.workers or os.cpu_count() or 1))


def _source_names() -> tuple[str, ...]:
    from mdtdist.data.sources import SOURCES

    return tuple(SOURCES)


def _assets(args: argparse.Namespace, shard: "Shard | None") -> "Sequence[Asset]":
    """What the source lists; one process at a time, since some sources unpack archives first."""
    from mdtdist.data import list_assets
    from mdtdist.data.bundle import SUFFIX, find_bundles
    from mdtdist.data.files import wait_for
    from mdtdist.data.tables import with_metadata

    if args.folder is None and args.source is None:
        raise InputError(f"give FOLDER or --source NAME ({', '.join(_source_names())}); neither was given.")
    is_bundle = args.source is None and bool(find_bundles(args.folder))
    if is_bundle != (args.layout == "small"):
        raise InputError(f"a {SUFFIX} and --layout small go together; got {args.folder or args.source}, {args.layout}.")
    cache = args.out / "source"
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(f"cannot write to {args.out} ({err.strerror}); give another --out.") from err
    with wait_for(cache):
        assets = list_assets(args.folder, cache=cache) if args.source is None else _known_set(args, shard)
    assets = assets if args.metadata is None else with_metadata(assets, args.metadata)
    return _turned(assets, args.turns) if is_bundle else assets


def _turned(assets: "Sequence[Asset]", turns: int | None) -> "Sequence[Asset]":
    from mdtdist.data.small import turned

    return turned(assets, train_turns=TURNS if turns is None else turns)


def _known_set(args: argparse.Namespace, shard: "Shard | None") -> "Sequence[Asset]":
    """A data set by name, in a folder that holds it or fetched first; a shard fetches its own part only."""
    from mdtdist.data.sources import find_source, read_table
    from mdtdist.data.sources.published import fetch_table

    source = find_source(args.source)
    if args.folder is not None:
        return source.list(args.folder)
    root, ids, limit = args.out / "source", None, args.limit
    if shard is not None and source.table:
        rows = read_table(fetch_table(root, source.table))[:limit]
        ids, limit = [row.sha256 for row in rows if shard.owns(row.sha256)], None
    fetched = source.fetch(root, ids, limit=limit, progress=_Bars())
    if fetched.failed:
        print(f"{len(fetched.failed)} objects of {source.title} were not fetched; run again to retry", file=sys.stderr)
    return source.list(root)


class _Bars:
    """One progress bar with the time left per stage, on standard error."""

    def __init__(self) -> None:
        self._stage, self._bar = "", None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self._stage, self._bar = stage, tqdm(total=total, desc=stage, unit="asset", file=sys.stderr)
        assert self._bar is not None
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def _report(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    from mdtdist.data.report import failure_causes, stage_times

    statuses, splits = Counter(row["status"] for row in rows), Counter(row["split"] for row in rows if row["split"])
    failed = [row for row in rows if row["status"] == "failed"]
    if args.json:
        failures = [{key: row[key] for key in ("source_id", "sha256", "reason")} for row in failed]
        summary = {"out": str(args.out), "status": dict(statuses), "split": dict(splits), "failed": failures}
        print(json.dumps(summary, indent=2))
        return
    for row in failed[:_MAX_LISTED]:
        print(f"failed: {row['source_id']}: {row['reason']}")
    if len(failed) > _MAX_LISTED:
        print(f"... and {len(failed) - _MAX_LISTED} more; by cause:")
        for cause in failure_causes(rows):
            print(f"  {cause.count} {cause.stage}: {cause.reason}")
    for time in stage_times(args.out):
        print(f"{time.stage}: {time.count} assets, median {time.median:.2f} s")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    parts = ", ".join(f"{name} {splits[name]}" for name in ("train", "val", "test") if splits[name])
    print(f"{len(rows)} assets: {counts}; {parts}")
    print(f"see {args.out / 'metadata.csv'} and prepare_report.html")
