"""Curves of a run, drawn from its log."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from mdtdist.errors import InputError
from mdtdist.files import appear_whole


def read_log(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every logged series as (samples, value) pairs; where a run logged a step twice, the later one counts.

    Values that are not finite, which a skipped step logs, are left out, and so is a line that a kill cut short.

    Raises:
        InputError: if the folder has no log.
    """
    path = folder / "log.jsonl"
    if not path.is_file():
        raise InputError(f"{path} is missing; give the folder of a training run")
    series: dict[str, dict[int, float]] = {}
    for record in read_records(path):
        for name, value in record.items():
            if name not in ("step", "samples") and math.isfinite(value):
                series.setdefault(name, {})[record["samples"]] = value
    return {name: sorted(points.items()) for name, points in series.items()}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of ``log.jsonl`` without those that a kill cut short."""
    records = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def plot_run(folder: Path) -> Path:
    """Draw all series of a run into ``curves.png``; training points are averaged over 25 neighbours."""
    try:
        import matplotlib.figure
    except ImportError as err:
        raise InputError("drawing curves needs matplotlib; install mdtdist[train]") from err
    series = {name: points for name, points in read_log(folder).items() if name not in ("lr", "cpu_seconds")}
    names = sorted(series, key=lambda name: (name.startswith("val/"), name))
    columns = 4
    rows = -(-len(names) // columns)
    figure = matplotlib.figure.Figure(figsize=(3.2 * columns, 2.2 * rows), layout="constrained")
    for i, name in enumerate(names):
        samples, values = [list(axis) for axis in zip(*series[name], strict=True)]
        axis = figure.add_subplot(rows, columns, i + 1)
        if not name.startswith("val/"):
            values = [sum(part) / len(part) for j in range(len(values)) if (part := values[max(0, j - 12) : j + 13])]
        axis.plot(samples, values, marker="o" if name.startswith("val/") else None, markersize=3, linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    with appear_whole(folder / "curves.png") as partial:
        figure.savefig(partial, dpi=80)
    return folder / "curves.png"
