"""``mdtdist report``: measured beside published, as one self-contained HTML page and as Markdown."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "report",
        help="write the tables, plots and pictures of evaluation records as one page",
        description="Write report.html (self-contained) and report.md with its pictures: systems, methods and ablation "
        "measured beside the published figures, speed against quality, learning curves, picture grids, commands.",
    )
    parser.add_argument(
        "--records", nargs="+", required=True, type=Path, metavar="DIR", help="folders (or files) of evaluation records"
    )
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare.json of the method comparison")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], metavar="RUN", help="run folders to draw curves of")
    parser.add_argument(
        "--published", type=Path, metavar="FILE", help="TOML of published figures; default: the shipped"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to write")
    parser.add_argument("--title", help="of the page")


def run(args: argparse.Namespace) -> int:
    """Write, and say what and where."""
    from mdtdist.evaluation.report_page import write_report
    from mdtdist.evaluation.report_page.write import TITLE

    report = write_report(
        args.records,
        args.out,
        compare=args.compare,
        runs=args.runs,
        published=args.published,
        title=args.title or TITLE,
        progress=None if args.json else lambda text: print(text, file=sys.stderr, flush=True),
    )
    left_out = [str(path) for path in report.left_out]
    if args.json:
        protocols = [{"id": name, "digest": digest} for name, digest in report.protocols]
        record = {"html": str(report.html), "markdown": str(report.markdown), "num_systems": report.num_systems}
        print(json.dumps({**record, "protocols": protocols, "left_out": left_out}))
        return 0
    if left_out:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        print(f"no records, left out: {', '.join(left_out[:3])}{more}", file=sys.stderr)
    ways = "one protocol" if len(report.protocols) == 1 else f"{len(report.protocols)} protocols or sets of objects"
    print(f"{report.num_systems} systems under {ways}: {report.html} and {report.markdown}")
    return 0
