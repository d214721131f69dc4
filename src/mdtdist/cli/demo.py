"""``mdtdist demo``: generate from example images and compare teacher and student on one page."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from mdtdist.cli.generate import check_writable, collect_images
from mdtdist.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="generate from example images and compare teacher and student on one page",
        description="Write .glb, .ply, a turntable and a preview per image, and index.html with the teacher at 25 "
        "steps per flow beside the student at one and two.",
    )
    parser.add_argument("--images", nargs="+", default=["examples"], metavar="IMAGE", help="image files or folders")
    parser.add_argument("--out", default="out/demo", help="where to write (default: out/demo)")
    parser.add_argument("--model", default="mini", help="shipped model or model folder (default: mini)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--device", default="cpu", help="for example cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Check everything, generate image by image, write the page last."""
    if not 0 <= args.seed < 2**63:
        raise InputError(f"seed is {args.seed}; expected a whole number from 0 to 2^63 - 1")
    start = time.monotonic()
    paths = collect_images(args.images)

    from mdtdist.conditioning.image import prepare_image
    from mdtdist.pipelines import ImageTo3D, resolve_model

    resolve_model(args.model)
    crops = {path.stem: prepare_image(path) for path in paths}
    out = check_writable(args.out)
    _say(f"loading the model {args.model}", start)
    pipe = ImageTo3D.from_pretrained(args.model, device=args.device)
    if len(pipe.config.flows) < 2:
        raise InputError(f"the model {args.model!r} has only {pipe.config.flows[0]} flows; the demo compares both")
    out.mkdir(parents=True, exist_ok=True)
    page, record = _generate(pipe, crops, out, seed=args.seed, start=start)
    if args.json:
        print(json.dumps(record, indent=2))
        return 0
    for row in record["summary"]:
        nfe, faster = row["nfe"], row["times_faster"]
        print(
            f"{row['variant']:<30} {row['total']:6.2f} s  {nfe['structure']}+{nfe['latent']} evaluations  "
            f"flows {faster['flows']:.1f}x, whole {faster['total']:.1f}x"
        )
    print(f"Open {page.resolve().as_uri()} in a browser; the assets (.glb, .ply) are in {out}.")
    return 0


def _generate(pipe: Any, crops: dict[str, Any], out: Path, *, seed: int, start: float) -> tuple[Path, dict[str, Any]]:
    from mdtdist.evaluation.model_benchmark.demo import as_json, make_entry, warm_up, write_page
    from mdtdist.evaluation.model_benchmark.timing import describe_machine

    _say("warming up", start)
    warm_up(pipe, next(iter(crops.values())))
    entries, begin = [], time.monotonic()
    for number, (stem, crop) in enumerate(crops.items(), 1):

        def report(what: str, done: int, total: int, number: int = number, stem: str = stem) -> None:
            share = (number - 1 + done / total) / len(crops)
            left = f", about {(time.monotonic() - begin) * (1 - share) / share:.0f} s left" if share else ""
            _say(f"[{number}/{len(crops)}] {stem}: {what}{left}", start)

        entries.append(make_entry(pipe, stem, crop, out, seed=seed, progress=report))
    _say("writing the page", start, is_last=True)
    return write_page(entries, out, model=pipe.model_id, machine=describe_machine(pipe.device)), dict(as_json(entries))


def _say(text: str, start: float, *, is_last: bool = False) -> None:
    """Progress on standard error: one line on a terminal, one per part elsewhere."""
    line = f"{time.monotonic() - start:5.0f} s  {text}"
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
