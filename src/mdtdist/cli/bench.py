"""``mdtdist bench``: seconds per stage and peak memory of a model at full size, with random weights."""

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

from mdtdist.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="time a model at full size, with random weights",
        description="Build the networks that a config describes, with random weights, and time every stage on a fixed "
        "set of voxels. Seconds and memory do not depend on the weights.",
    )
    parser.add_argument("config", metavar="CONFIG", help="for example recipes/latency/image_large.toml")
    parser.add_argument(
        "--runs",
        default="1+1,2+2",
        metavar="A+B[g],...",
        help="steps of the structure and of the latent flow; g for the guided teacher (default: 1+1,2+2)",
    )
    parser.add_argument("--device", default="cpu", help="for example cpu or cuda (default: cpu)")
    parser.add_argument("--dtype", default="fp32", help="fp32, fp16 or bf16, the type of the torsos (default: fp32)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed repeats after one that is not counted (default: 3)"
    )
    parser.add_argument("--out", metavar="FILE.json", help="also write the numbers here")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Check everything, measure, print."""
    runs = [_parse_run(text) for text in args.runs.split(",")]
    if args.repeats < 1:
        raise InputError(f"repeats is {args.repeats}; expected at least 1")
    from mdtdist.config import from_dict, load_toml
    from mdtdist.evaluation.model_benchmark.latency import LatencyBenchmark, LatencyConfig
    from mdtdist.files import appear_whole

    config = from_dict(LatencyConfig, load_toml(Path(args.config)))
    _note(args, f"building {config.name} with random weights ...")
    benchmark = LatencyBenchmark(config, device=args.device, dtype=args.dtype)
    record: dict[str, Any] = {**benchmark.describe(), "runs": []}
    for steps, guided in runs:
        result = benchmark.measure(
            steps,
            guided=guided,
            repeats=args.repeats,
            progress=lambda name, done, total: _note(args, f"{name}: {done} of {total}"),
        )
        seconds = {stage: [round(value, 5) for value in values] for stage, values in result.seconds.items()}
        record["runs"].append(
            {"name": result.name, "nfe": result.nfe, "total": round(result.total, 5), "seconds": seconds}
        )
    record["peak_memory_bytes"] = benchmark.peak_memory()
    if args.out:
        with appear_whole(args.out) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record) if args.json else _table(record))
    return 0


def _note(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text, file=sys.stderr, flush=True)


def _parse_run(text: str) -> tuple[tuple[int, int], bool]:
    found = re.fullmatch(r"([1-9]\d*)\+([1-9]\d*)(g?)", text.strip())
    if found is None:
        raise InputError(f"runs has {text!r}; expected steps such as 1+1, or 25+25g for the guided teacher")
    return (int(found[1]), int(found[2])), bool(found[3])


def _table(record: dict[str, Any]) -> str:
    stages = list(record["runs"][0]["seconds"])
    rows = [["run", "evaluations", *[stage.replace("_", " ") for stage in stages], "to Gaussians"]]
    for entry in record["runs"]:
        cells = [f"{median(entry['seconds'][stage]):.3f}" for stage in stages]
        rows.append([entry["name"], "+".join(map(str, entry["nfe"])), *cells, f"{entry['total']:.3f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    billions = sum(record["parameters"].values()) / 1e9
    head = (
        f"{record['model']}, random weights, {billions:.2f} billion parameters, {record['num_voxels']} voxels, "
        f"{record['dtype']} torsos; {record['machine']}"
    )
    memory = f"peak memory {record['peak_memory_bytes'] / 2**30:.2f} GiB; seconds are medians"
    return "\n".join([head, *lines, memory])
