"""``mdtdist prepare``: from a folder of 3D files to training data."""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mdtdist.errors import InputError

EPILOG = """\
stages, each resumable (what is there is not made again):
  voxels    upright in the unit cube, surface voxels on a 32^3 grid
  renders   12 views of 128 px with alpha, depth and camera; 8 of them serve as input images
  features  image features per voxel, occlusion tested, and the tokens of the input images
  latents   what the flows are trained on; runs when trained encoders are given, and alone needs no source

the folder DIR afterwards: metadata.csv (one row per asset: name, licence, split, status, reason), voxels/, renders/,
features/, cond/, and with encoders ss_latents/, latents/. Splits are made by name within category; the Sweet Home 3D
assets keep their frozen split.

examples:
  mdtdist prepare --source sweethome --out runs/data
  mdtdist prepare sweethome3d-furniture_1.8-1_all.deb --out runs/data
  mdtdist prepare my_models/ --out runs/mine --stages voxels,renders --limit 20
  mdtdist prepare --out runs/data --stages latents --structure-encoder runs/mini/ss_vae/ss_enc \\
      --latent-encoder runs/mini/slat_vae/slat_enc
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "prepare",
        help="turn a folder of 3D files into training data",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="folder of GLB, glTF, OBJ, PLY, STL or .sh3f, or a .deb"
    )
    parser.add_argument("--source", choices=["sweethome"], help="fetch a known data set with apt instead")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="prepared folder")
    parser.add_argument("--stages", help="default: voxels,renders,features, and latents if an encoder is given")
    parser.add_argument("--structure-encoder", type=Path, metavar="PATH", help="trained encoder, without suffix")
    parser.add_argument("--latent-encoder", type=Path, metavar="PATH", help="trained encoder, without suffix")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="only the first so many assets")


def run(args: argparse.Namespace) -> int:
    """Prepare and print a summary; failed assets are listed with their reasons and do not change the exit code.

    Returns:
        0, or 1 if every asset failed.
    """
    from mdtdist.data import PrepareConfig, list_assets, prepare

    config = PrepareConfig(
        out=args.out,
        stages=_stages(args),
        workers=args.workers,
        limit=args.limit,
        structure_encoder=args.structure_encoder,
        latent_encoder=args.latent_encoder,
    )
    if config.stages == ("latents",):
        assets = None
    else:
        try:
            config.out.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise InputError(f"cannot write to {config.out} ({err.strerror}); give another --out.") from err
        assets = list_assets(_source(args), cache=config.out / "source")
    rows = prepare(assets, config, progress=_Bars())
    _report(rows, args)
    return 1 if all(row["status"] == "failed" for row in rows) else 0


def _stages(args: argparse.Namespace) -> tuple[str, ...]:
    if args.stages is not None:
        return tuple(stage.strip() for stage in args.stages.split(",") if stage.strip())
    has_encoder = args.structure_encoder is not None or args.latent_encoder is not None
    return ("voxels", "renders", "features", *(("latents",) if has_encoder else ()))


def _source(args: argparse.Namespace) -> Path:
    if (args.folder is None) == (args.source is None):
        given = "neither" if args.folder is None else "both"
        raise InputError(f"give either FOLDER or --source sweethome; {given} was given.")
    if args.folder is not None:
        return Path(args.folder)
    from mdtdist.data.sweethome import fetch_package

    return fetch_package(args.out / "source")


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
    statuses, splits = Counter(row["status"] for row in rows), Counter(row["split"] for row in rows if row["split"])
    failed = [row for row in rows if row["status"] == "failed"]
    if args.json:
        failures = [{key: row[key] for key in ("source_id", "sha256", "reason")} for row in failed]
        summary = {"out": str(args.out), "status": dict(statuses), "split": dict(splits), "failed": failures}
        print(json.dumps(summary, indent=2))
        return
    for row in failed:
        print(f"failed: {row['source_id']}: {row['reason']}")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    parts = ", ".join(f"{name} {splits[name]}" for name in ("train", "val", "test") if splits[name])
    print(f"{len(rows)} assets: {counts}; {parts}")
    print(f"see {args.out / 'metadata.csv'}")
