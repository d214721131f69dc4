"""From what was measured object by object to the numbers of a record, with intervals over objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from mdtdist.evaluation.measuring.judges import Judges
from mdtdist.evaluation.measuring.object_measures import ALIGNMENT, EMPTY, IS_GREY, Arrays
from mdtdist.evaluation.measuring.protocols import BootstrapSpec, Protocol, split_metric
from mdtdist.evaluation.measuring.records import Metric
from mdtdist.evaluation.metrics.bootstrap import Interval, bootstrap_mean, bootstrap_statistic
from mdtdist.evaluation.metrics.diversity import coverage, diversity
from mdtdist.evaluation.metrics.frechet import frechet_statistic
from mdtdist.evaluation.metrics.kernel import KernelPairs

# A number of how often each object counts.
Statistic = Callable[[np.ndarray], float]

NEEDS_COLOR = ("fd", "kd", "clip", "psnr", "ssim", "lpips", "coverage", "diversity")
_LOWER_IS_BETTER = ("fd", "kd", "chamfer", "lpips", "lpips_normal")
_TIMES_100 = ("kd", "clip", "ulip1", "ulip2", "uni3d")  # as the tables of the field print them
_UNITS = {"chamfer": "object units", "psnr": "dB", "psnr_normal": "dB"}


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Arrays of one system.

    Attributes:
        ids: of the objects, in the order of everything below.
        outputs: seed -> arrays of each object.
        truths: arrays of each true object.
    """

    ids: Sequence[str]
    outputs: Mapping[int, Sequence[Arrays]]
    truths: Sequence[Arrays]

    @property
    def has_color(self) -> bool:
        """Whether any output, and any true object, is more than grey: some true objects are grey themselves."""
        outputs = [arrays for part in self.outputs.values() for arrays in part if str(arrays[ALIGNMENT]) != EMPTY]
        return all(not rows or any(not arrays[IS_GREY] for arrays in rows) for rows in (outputs, self.truths))

    def scores(self, name: str) -> Float[np.ndarray, "N"]:
        """One score per object, the mean over the seeds."""
        parts = [[float(arrays[name]) for arrays in part] for part in self.outputs.values()]
        return np.mean(parts, axis=0)

    def features(self, key: str) -> list[Float[np.ndarray, "N V C"]]:
        """Features of the outputs, one array per seed."""
        return [np.stack([arrays[key] for arrays in part]).astype(np.float64) for part in self.outputs.values()]

    def true_features(self, key: str) -> Float[np.ndarray, "N V C"]:
        """Features of the true objects."""
        return np.stack([arrays[key] for arrays in self.truths]).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Numbers, those that are missing with the reason, and values per object."""

    metrics: dict[str, Metric]
    not_measured: dict[str, str]
    per_object: dict[str, list[float]]


def summarize(
    measures: Measures,
    protocol: Protocol,
    judges: Judges,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Summary:
    """All metrics of a protocol, in its order."""
    summary = Summary(metrics={}, not_measured={}, per_object={})
    for number, name in enumerate(protocol.metrics, 1):
        if reason := _why_not(name, measures, judges):
            summary.not_measured[name] = reason
        else:
            interval, values = _measure(name, measures, protocol, judges)
            summary.metrics[name] = make_metric(name, interval, len(measures.ids), judges)
            if values is not None:
                summary.per_object[name] = [float(value) * _scale(name) for value in values]
        if progress is not None:
            progress("intervals", number, len(protocol.metrics))
    return summary


def _why_not(name: str, measures: Measures, judges: Judges) -> str:
    kind = split_metric(name)[0]
    if name in judges.missing:
        return judges.missing[name]
    if kind in NEEDS_COLOR and not measures.has_color:
        return "no file has a colour: geometry only"
    if kind == "diversity" and len(measures.outputs) < 2:
        return "one output of each object: give several seeds"
    return ""


def _measure(
    name: str, measures: Measures, protocol: Protocol, judges: Judges
) -> tuple[Interval, Float[np.ndarray, "N"] | None]:
    """A metric with its interval, and its values per object where it has such."""
    kind, spec = split_metric(name)[0], protocol.bootstrap
    if kind in ("fd", "kd"):
        key = judges.key(name)
        return set_distance(kind, measures.features(key), measures.true_features(key), spec), None
    if kind == "coverage":
        return _coverage(measures, judges.key(name)), None
    if kind == "diversity":
        values = diversity(np.stack([part.reshape(len(part), -1) for part in measures.features(judges.key(name))]))
    else:
        values = measures.scores(judges.key(name))
    return bootstrap_mean(values, num_resamples=spec.resamples, level=spec.level, seed=spec.seed), values


def set_distance(
    kind: str,
    made: Sequence[Float[np.ndarray, "N V C"]],
    true: Float[np.ndarray, "N V C"],
    spec: BootstrapSpec,
) -> Interval:
    """Frechet ("fd") or kernel ("kd") distance, the mean over the seeds; objects of both sides are drawn together."""
    num, views = true.shape[:2]
    rows = [(part.reshape(num * views, -1), true.reshape(num * views, -1)) for part in made]
    statistics: list[Statistic]
    if kind == "kd":
        statistics = [partial(_kernel_distance, KernelPairs.of(a, b, views=views)) for a, b in rows]
    else:
        statistics = [frechet_statistic(a, b, views=views) for a, b in rows]
    return bootstrap_statistic(
        lambda weights: float(np.mean([statistic(weights) for statistic in statistics])),
        num,
        num_resamples=spec.frechet_resamples if kind == "fd" else spec.resamples,
        level=spec.level,
        seed=spec.seed,
    )


def _kernel_distance(pairs: KernelPairs, weights: Float[np.ndarray, "N"]) -> float:
    """Of a few objects a resample may be one object again and again, which makes no pair; all of them stand in."""
    return pairs.distance(weights if np.count_nonzero(weights) > 1 else None)


def _coverage(measures: Measures, key: str) -> Interval:
    """Mean over the seeds; all views of an object side by side are one feature of it."""
    true = measures.true_features(key)
    flat = true.reshape(len(true), -1)
    values = [coverage(part.reshape(len(part), -1), flat) for part in measures.features(key)]
    mean = float(np.mean(values))
    return Interval(value=mean, low=float("nan"), high=float("nan"))


def make_metric(name: str, interval: Interval, n: int, judges: Judges) -> Metric:
    """A number in the unit that tables print, with what it needs beside it."""
    kind, scale = split_metric(name)[0], _scale(name)
    low, high = (None if np.isnan(end) else end * scale for end in (interval.low, interval.high))
    return Metric(
        value=interval.value * scale,
        low=low,
        high=high,
        better="lower" if kind in _LOWER_IS_BETTER else "higher",
        unit="x 100" if scale != 1 else _UNITS.get(kind, ""),
        n=n,
        network=judges.name_of(name),
    )


def _scale(name: str) -> float:
    return 100.0 if split_metric(name)[0] in _TIMES_100 else 1.0


def format_table(metrics: Mapping[str, Metric], not_measured: Mapping[str, str]) -> str:
    """The numbers as text for a terminal, what is missing last."""
    lines = [f"{'metric':<20} {'value':>10}  {'95 % interval':<22} {'n':>5}  network"]
    for name, metric in metrics.items():
        ends = "" if metric.low is None or metric.high is None else f"[{metric.low:.4g}, {metric.high:.4g}]"
        sign = "-" if metric.better == "lower" else "+"
        unit = f" ({metric.unit})" if metric.unit else ""
        lines.append(f"{name + ' ' + sign:<20} {metric.value:>10.4g}  {ends:<22} {metric.n:>5}  {metric.network}{unit}")
    lines += [f"{name:<20} {'-':>10}  not measured: {reason}" for name, reason in not_measured.items()]
    return "\n".join([*lines, "(+: higher is better, -: lower is better)"])
