"""What was measured, as plain data, and as a page of tables for people."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdtdist.evaluation.metrics.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_statistic,
)
from mdtdist.evaluation.metrics.frechet import FeatureGrams
from mdtdist.evaluation.metrics.kernel import KernelPairs
from mdtdist.evaluation.model_benchmark.baselines import Baseline
from mdtdist.evaluation.model_benchmark.benchmark import Quality
from mdtdist.evaluation.model_benchmark.methods import REFERENCE, TEACHER, Method
from mdtdist.evaluation.model_benchmark.timing import FLOW_STAGES, STAGES
from mdtdist.files import appear_whole

# Layout of the prepared folder -> name of what is done with it, and where the input pictures are taken from.
PROTOCOLS = {"mini": "mini-sweethome-test-v1", "small": "small-sweethome-test-v1"}
INPUT_VIEWS = {"mini-sweethome-test-v1": "three-quarters from the front", "small-sweethome-test-v1": "from the front"}
FRECHET_RESAMPLES = 200
TRUTH_SCORES = ("iou", "f1", "iou16", "chamfer")
REFERENCE_SCORES = ("structure_distance", "structure_iou", "latent_distance", "reference_l1")
PICTURE_SCORES = ("image_l1", "image_dssim")


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything one run measured.

    Attributes:
        protocol: name of the protocol; a changed protocol gets a new name.
        model: name or path of the model.
        object_ids: sha256 of the test objects, the order of all per-object values.
        seeds: of the noises.
        machine: hardware and versions.
        methods: in the order of the tables.
        qualities: method name -> one entry per seed.
        true_features: of the true renders.
        views: pictures per object.
        seconds: method name -> stage -> seconds per timed object.
        baselines: structure baselines, measured on the same objects.
        guidance: weights of the teacher: structure, latent.
    """

    protocol: str = PROTOCOLS["mini"]
    model: str
    object_ids: Sequence[str]
    seeds: Sequence[int]
    machine: str
    methods: Sequence[Method]
    qualities: Mapping[str, Sequence[Quality]]
    true_features: Float[np.ndarray, "M D"]
    views: int
    seconds: Mapping[str, Mapping[str, Sequence[float]]]
    baselines: Sequence[Baseline] = ()
    guidance: tuple[float, float] = (0.0, 0.0)
    _grams: dict[tuple[str, int], FeatureGrams] = field(default_factory=dict, init=False, repr=False)
    _pairs: dict[tuple[str, int], KernelPairs] = field(default_factory=dict, init=False, repr=False)

    def score(self, method: Method, name: str) -> Float[np.ndarray, "N"]:
        """One score per object, the mean over the seeds."""
        return np.mean([quality.scores[name] for quality in self.qualities[method.name]], axis=0)

    def frechet(self, method: Method, weights: Float[np.ndarray, "N"] | None = None) -> float:
        """Frechet distance to the true renders, the mean over the seeds, with weighted objects."""
        return self._mean_distance(self._grams, FeatureGrams.of, method, weights)

    def kernel(self, method: Method, weights: Float[np.ndarray, "N"] | None = None) -> float:
        """Kernel distance to the true renders, the mean over the seeds, with weighted objects."""
        return self._mean_distance(self._pairs, KernelPairs.of, method, weights)

    def _mean_distance(
        self,
        kept: dict[tuple[str, int], Any],
        prepare: Callable[..., Any],
        method: Method,
        weights: Float[np.ndarray, "N"] | None,
    ) -> float:
        """What the resamples of a bootstrap share is prepared once per method and seed."""
        values = []
        for index, quality in enumerate(self.qualities[method.name]):
            key = (method.name, index)
            if key not in kept:
                kept[key] = prepare(quality.features, self.true_features, views=self.views)
            values.append(kept[key].distance(weights))
        return float(np.mean(values))

    def total(self, method: Method, stages: Sequence[str]) -> Float[np.ndarray, "T"]:
        """Seconds of some stages together, per timed object."""
        return np.sum([self.seconds[method.name][stage] for stage in stages], axis=0)

    def find(self, suffix: str, steps: tuple[int, int], *, guided: bool) -> Method | None:
        """The method, if it was run."""
        wanted = Method(suffix=suffix, steps=steps, guided=guided)
        return wanted if wanted in self.methods else None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One promise, with the number that keeps or breaks it."""

    promise: str
    found: str
    holds: bool


# -------------------------------------------------------------------------------------------------------------- checks


def check_promises(results: Results) -> list[Check]:
    """What a student has to show, for every student: quality at one step per flow, and speed."""
    checks = []
    suffixes = dict.fromkeys(method.suffix for method in results.methods if not method.is_teacher)
    for suffix in suffixes:
        student = results.find(suffix, (1, 1), guided=False)
        if student is None:
            continue
        for guided in (True, False):
            rival = results.find(TEACHER, (1, 1), guided=guided)
            if rival is not None:
                checks += _quality_checks(results, student, rival)
        if results.seconds and REFERENCE in results.methods:
            checks.append(_speed_check(results, student, FLOW_STAGES, "flow stages", 25.0))
            checks.append(_speed_check(results, student, STAGES, "image to Gaussians", 9.0))
    return checks + _baseline_checks(results)


def _quality_checks(results: Results, student: Method, rival: Method) -> list[Check]:
    """Paired bootstrap of differences: the upper end has to lie below 0."""
    frechet = bootstrap_statistic(
        lambda weights: results.frechet(student, weights) - results.frechet(rival, weights),
        len(results.object_ids),
        num_resamples=FRECHET_RESAMPLES,
    )
    kernel = bootstrap_statistic(
        lambda weights: results.kernel(student, weights) - results.kernel(rival, weights),
        len(results.object_ids),
        num_resamples=NUM_RESAMPLES,
    )
    checks = [
        _difference_check(f"{student.name} beats {rival.name} in Frechet distance", frechet),
        _difference_check(f"{student.name} beats {rival.name} in kernel distance", kernel),
    ]
    for name, label in (
        ("structure_distance", "structure distance to the teacher's 25+25"),
        ("latent_distance", "latent distance to the teacher's 25+25"),
    ):
        interval = bootstrap_mean(results.score(student, name) - results.score(rival, name))
        checks.append(_difference_check(f"{student.name} beats {rival.name} in {label}", interval))
    return checks


def _difference_check(promise: str, interval: Interval) -> Check:
    return Check(promise=promise, found=f"difference {format_interval(interval)}", holds=interval.high < 0)


def speed_up(results: Results, method: Method, stages: Sequence[str]) -> Interval:
    """Median over objects of the reference's seconds over the method's."""
    return bootstrap_median(results.total(REFERENCE, stages) / results.total(method, stages))


def _speed_check(results: Results, student: Method, stages: Sequence[str], label: str, wanted: float) -> Check:
    interval = speed_up(results, student, stages)
    promise = f"{student.name}, {label}: at least {wanted:g} times faster than {REFERENCE.name}"
    return Check(promise=promise, found=f"{format_interval(interval, digits=1)} times", holds=interval.value >= wanted)


def _baseline_checks(results: Results) -> list[Check]:
    if not results.baselines or REFERENCE not in results.methods:
        return []
    checks = []
    for name, label in (("iou", "IoU"), ("f1", "F1 at one voxel")):
        best = max(results.baselines, key=lambda baseline: float(baseline.scores[name].mean()))
        interval = bootstrap_mean(results.score(REFERENCE, name) - best.scores[name])
        checks.append(
            Check(
                promise=f"{REFERENCE.name} beats the best baseline ({best.name}) in {label}",
                found=f"difference {format_interval(interval)}",
                holds=interval.low > 0,
            )
        )
    return checks


# --------------------------------------------------------------------------------------------------------------- files


def to_json(results: Results, checks: Sequence[Check]) -> dict[str, Any]:
    """All raw numbers, five significant digits, and the checks."""
    return {
        "protocol": results.protocol,
        "model": results.model,
        "machine": results.machine,
        "seeds": list(results.seeds),
        "guidance": {"structure": results.guidance[0], "latent": results.guidance[1]},
        "objects": list(results.object_ids),
        "num_pictures": len(results.true_features),
        "methods": {method.name: _method_json(results, method) for method in results.methods},
        "baselines": {
            baseline.name: {
                "choice": baseline.choice,
                "scores": {name: _rounded(values) for name, values in baseline.scores.items()},
            }
            for baseline in results.baselines
        },
        "checks": [vars(check) for check in checks],
    }


def _method_json(results: Results, method: Method) -> dict[str, Any]:
    qualities = results.qualities[method.name]
    return {
        "steps": list(method.steps),
        "guided": method.guided,
        "nfe": {"structure": qualities[0].nfe[0], "latent": qualities[0].nfe[1]},
        "num_empty": [quality.num_empty for quality in qualities],
        "frechet": _rounded([results.frechet(method)])[0],
        "kernel": _rounded([results.kernel(method)])[0],
        "scores": {name: [_rounded(quality.scores[name]) for quality in qualities] for name in qualities[0].scores},
        "seconds": {stage: _rounded(values) for stage, values in results.seconds.get(method.name, {}).items()},
    }


def _rounded(values: Sequence[float] | Float[np.ndarray, "N"]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Indented JSON, lists of numbers on one line; the file appears whole."""
    _write_whole(path, _compact(value) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text file that appears whole."""
    _write_whole(path, text)


def _write_whole(path: Path, text: str) -> None:
    with appear_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _compact(value: Any, indent: int = 0) -> str:
    """JSON with one line per entry of an object and flat lists."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value)
    pad = " " * (indent + 1)
    lines = [f"{pad}{json.dumps(key)}: {_compact(item, indent + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def format_interval(interval: Interval, *, digits: int = 3) -> str:
    """``value [low, high]``."""
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
