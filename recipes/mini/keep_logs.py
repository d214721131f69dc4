"""Keep the small files of the training runs: log, settings, curves and the last sample grid.

python recipes/mini/keep_logs.py [--runs runs/mini] [--out recipes/mini/logs]
"""

import argparse
import shutil
from pathlib import Path

from mdtdist.training import plot_run


def keep(run: Path, out: Path) -> None:
    """Copy the small files of one run folder."""
    out.mkdir(parents=True, exist_ok=True)
    plot_run(run)
    pictures = sorted(run.glob("samples_*.png"))[-1:]
    for path in [run / "log.jsonl", run / "settings.json", run / "curves.png"]:
        if path.is_file():
            shutil.copyfile(path, out / path.name)
    for picture in pictures:
        shutil.copyfile(picture, out / "samples.png")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/mini"))
    parser.add_argument("--out", type=Path, default=Path("recipes/mini/logs"))
    args = parser.parse_args()
    for log in sorted(args.runs.glob("*/log.jsonl")):
        keep(log.parent, args.out / log.parent.name)


if __name__ == "__main__":
    main()
