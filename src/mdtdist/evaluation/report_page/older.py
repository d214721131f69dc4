"""Read the results that come without a record: a model folder's ``mini.json`` and the method comparison."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdtdist.errors import InputError
from mdtdist.evaluation.metrics.bootstrap import bootstrap_mean
from mdtdist.evaluation.report_page.entries import Entry, Group, Measured, Metric

_NETWORK = "efficientnet_lite0, 224 px"
COMPARISON = "mini-sweethome-test-v1"  # what recipes/compare measures under
# Key in the file -> the metric of a report; what is not named here is left to the file's own page.
_METRICS = {
    "frechet": Metric(name="fd_efficientnet", network=_NETWORK, better="lower"),
    "kernel": Metric(name="kd_efficientnet", network=_NETWORK, better="lower"),
    "closed": Metric(name="gap_closed", unit="%", better="higher"),
    "iou": Metric(name="iou", unit="voxels", better="higher"),
    "f1": Metric(name="f1_voxels", better="higher"),
    "chamfer": Metric(name="chamfer", unit="voxels", better="lower"),
    "structure_distance": Metric(name="structure_distance", unit="RMS", better="lower"),
    "latent_distance": Metric(name="latent_distance", unit="RMS", better="lower"),
}


def is_benchmark_file(values: Any) -> bool:
    """Whether this is what ``mdtdist evaluate`` writes for a model folder."""
    return isinstance(values, dict) and isinstance(values.get("protocol"), str) and "methods" in values


def read_benchmark(path: Path, values: Mapping[str, Any]) -> Group:
    """All methods of a model folder's results as one group; intervals are bootstrapped again over the objects.

    Raises:
        InputError: if the file lacks something.
    """
    try:
        entries = [_benchmark_entry(path, values, name, method) for name, method in values["methods"].items()]
        entries += [
            Entry(
                name=name,
                kind="baseline",
                figures=_score_figures({key: [scores] for key, scores in baseline["scores"].items()}),
                machine=values["machine"],
                source=path,
            )
            for name, baseline in values.get("baselines", {}).items()
        ]
        num_objects = len(values["objects"])
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise InputError(f"{path} is not complete ({err}); write it again with 'mdtdist evaluate'") from err
    return Group(
        protocol=values["protocol"],
        digest="",
        num_objects=num_objects,
        objects_digest="",
        entries=tuple(entries),
        note=f"Read from `{path.name}`, which names its protocol but carries no digest and no intervals of set "
        "distances; those of per-object scores are bootstrapped here. See the page beside it for all of its figures.",
    )


def _benchmark_entry(path: Path, values: Mapping[str, Any], name: str, method: Mapping[str, Any]) -> Entry:
    pictures = values["num_pictures"]
    figures = {
        _counted(_METRICS[key], pictures): Measured(value=float(method[key]), count=pictures)
        for key in ("frechet", "kernel")
    }
    seconds = {stage: float(np.median(times)) for stage, times in method["seconds"].items() if times}
    return Entry(
        name=name,
        kind="teacher" if name.startswith("teacher") else "student",
        steps=(int(method["steps"][0]), int(method["steps"][1])),
        nfe=(int(method["nfe"]["structure"]), int(method["nfe"]["latent"])),
        guided=bool(method["guided"]),
        figures=figures | _score_figures(method["scores"]),
        seconds=seconds or None,
        seeds=tuple(values["seeds"]),
        machine=values["machine"],
        source=path,
    )


def _counted(metric: Metric, count: int) -> Metric:
    return Metric(**{**vars(metric), "count": count})


def _score_figures(scores: Mapping[str, Sequence[Sequence[float]]]) -> dict[Metric, Measured]:
    """One value per seed and object -> the mean over both with its interval over the objects."""
    figures = {}
    for key, per_seed in scores.items():
        if key in _METRICS:
            per_object = np.mean(np.asarray(per_seed, dtype=np.float64), axis=0)
            interval = bootstrap_mean(per_object)
            figures[_METRICS[key]] = Measured(**vars(interval), count=len(per_object))
    return figures


def read_comparison(path: Path) -> Group:
    """The method comparison (``compare.json`` of ``recipes/compare``): one list of values over the seeds per figure.

    Raises:
        InputError: if it is missing or of another shape.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(_comparison_entry(path, name, row) for name, row in rows.items())
    except OSError as err:
        raise InputError(f"{path} cannot be read ({err}); make it with 'python recipes/compare/run.py'") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(f"{path} is no method comparison ({err}); make it with recipes/compare/run.py") from err
    return Group(
        protocol=f"comparison of methods ({COMPARISON})",
        digest="",
        num_objects=None,
        objects_digest="",
        entries=entries,
        note=f"Read from `{path.name}`: every method distils the same teacher with the same compute. Numbers are means "
        "over the seeds of training +- their standard deviation, not intervals over the objects.",
        shows_spread=True,
        tables=("methods", "ablation"),
    )


def _comparison_entry(path: Path, name: str, row: Mapping[str, Any]) -> Entry:
    """``vm_wide_1`` is the method ``vm_wide`` at one step for each flow; ``none_guided_1`` is the teacher itself."""
    method, _, steps = name.rpartition("_")
    count = int(steps)
    is_teacher = method == "teacher" or method.startswith("none")
    guided = is_teacher and method != "none_unguided"
    label = f"teacher {count}+{count} {'guided' if guided else 'unguided'}" if is_teacher else ""
    return Entry(
        name=label or f"student {method.replace('_', ' ')} {count}+{count}",
        kind="teacher" if is_teacher else "student",
        steps=(count, count),
        nfe=(int(row["nfe"][0]), int(row["nfe"][1])),
        guided=guided,
        figures={
            _METRICS[key]: _over_seeds([float(value) for value in values])
            for key, values in row.items()
            if key in _METRICS and values
        },
        command="python recipes/compare/run.py",
        source=path,
    )


def _over_seeds(values: Sequence[float]) -> Measured:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Measured(value=float(np.mean(values)), spread=spread, count=len(values))
