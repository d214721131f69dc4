"""``mdtdist plot RUN [RUN ...]``: draw the curves of training runs."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "plot", help="draw the curves of training runs", description="draw the curves of training runs, finished or not"
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder; several share the panels")
    parser.add_argument(
        "--out", type=Path, help="picture to write, .png, .svg or .pdf; default: curves.png, of one run in its folder"
    )


def run(args: argparse.Namespace) -> int:
    """Draw, and say where."""
    from mdtdist.training.curves import plot_runs

    default = args.runs[0] / "curves.png" if len(args.runs) == 1 else Path("curves.png")
    path = plot_runs(args.runs, args.out or default)
    print(json.dumps({"out": str(path)}) if args.json else f"curves: {path}")
    return 0
