"""Curves of a run, drawn from its log."""

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdtdist.errors import InputError
from mdtdist.files import appear_whole

_NOT_DRAWN = ("lr", "cpu_seconds")
_PICTURES = (".png", ".svg", ".pdf")


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
    """Draw all series of a run into its ``curves.png``; training points are averaged over 25 neighbours.

    Raises:
        InputError: if matplotlib or the log is missing.
    """
    return plot_runs([folder], folder / "curves.png")


def plot_runs(folders: Sequence[Path], path: Path) -> Path:
    """Draw the series of several runs over each other, one panel for each name.

    Args:
        folders: of the runs.
        path: picture to write; its suffix decides the format.

    Raises:
        InputError: if matplotlib or a log is missing, nothing was logged, or the suffix is of no picture.
    """
    try:
        import matplotlib.figure
    except ImportError as err:
        raise InputError("drawing curves needs matplotlib; install mdtdist[train]") from err
    if path.suffix not in _PICTURES:
        raise InputError(f"{path} is no picture to write; give a name that ends with {', '.join(_PICTURES)}")
    runs = {label: _drawn(folder) for label, folder in zip(_labels(folders), folders, strict=True)}
    names = sorted({name for series in runs.values() for name in series}, key=lambda name: (name[:4] == "val/", name))
    if not names:
        raise InputError(f"nothing is logged yet in {', '.join(map(str, folders))}; wait for the first log_every steps")
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = matplotlib.figure.Figure(figsize=(3.2 * columns, 2.2 * rows), layout="constrained")
    for i, name in enumerate(names):
        axis = figure.add_subplot(rows, columns, i + 1)
        for number, (label, series) in enumerate(runs.items()):
            if name in series:
                _draw(axis, name, series[name], label=label, color=f"C{number % 10}")
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    if len(runs) > 1:
        handles = [figure.axes[0].plot([], [], color=f"C{i % 10}", label=label)[0] for i, label in enumerate(runs)]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(runs)), fontsize=8)
    with appear_whole(path) as partial:
        figure.savefig(partial, dpi=80)
    return path


def _drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
    return {name: points for name, points in read_log(folder).items() if name not in _NOT_DRAWN}


def _labels(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    raise InputError(f"a run is given twice in {', '.join(map(str, folders))}; give each once")


def _draw(axis: Any, name: str, points: Sequence[tuple[int, float]], *, label: str, color: str) -> None:
    samples, values = [list(column) for column in zip(*points, strict=True)]
    is_validation = name.startswith("val/")
    if not is_validation:
        values = [sum(part) / len(part) for j in range(len(values)) if (part := values[max(0, j - 12) : j + 13])]
    axis.plot(
        samples, values, marker="o" if is_validation else None, markersize=3, linewidth=1, label=label, color=color
    )
