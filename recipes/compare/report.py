"""The page of the comparison: tables, curves and pictures from the kept results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import Row, result_path, rows
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from plan import STAGES, Method, Plan

from mdtdist.evaluation.metrics.bootstrap import bootstrap_statistic
from mdtdist.evaluation.metrics.frechet import FeatureGrams
from mdtdist.evaluation.metrics.kernel import KernelPairs
from mdtdist.evaluation.model_benchmark.test_objects import EVALUATION_VIEWS
from mdtdist.files import appear_whole
from mdtdist.training.curves import read_log

VIEWS = len(EVALUATION_VIEWS)
# FD_dinov2 of MDT-dist, Tables 2 and 3 (arXiv 2509.04406): TRELLIS on Toys4k, one step for each flow.
PUBLISHED = {
    "teacher_25": 65.2,
    "none_guided_1": 195.6,
    "cm_1": 194.5,
    "pcm_1": 189.5,
    "scm_1": 186.0,
    "vm_1": 172.0,
    "mdt_paper_1": 164.2,
    "mdt_paper_2": 110.9,
}
VALIDATION_FIGURES = ("frechet_1", "frechet_2", "paired_1", "paired_2")
BASELINE, TEACHER_ROW = "none_guided_1", "teacher_25"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one row of the tables says: one value per seed for each figure."""

    row: Row
    nfe: tuple[int, int]
    values: dict[str, list[float]]

    def mean(self, name: str) -> float:
        return float(np.mean(self.values[name]))

    def show(self, name: str, digits: int = 3) -> str:
        """Mean and, over several seeds, standard deviation."""
        return _spread(self.values[name], digits)


def _spread(values: Sequence[float], digits: int = 3) -> str:
    spread = f" +- {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def truth_features(plan: Plan) -> np.ndarray:
    """Features of the true renders, the views of one object contiguous."""
    with np.load(plan.out / "test" / "truth.npz") as file:
        return file["features"]


def collect(plan: Plan) -> dict[str, Line]:
    """The kept results of all rows that were measured for at least one seed."""
    truth = truth_features(plan)
    lines: dict[str, Line] = {}
    for seed in plan.seeds:
        for row in rows(plan, seed):
            path = result_path(plan, row.name, seed)
            if path.exists():
                with np.load(path) as file:
                    figures = _figures(file, truth)
                    nfe = (int(file["nfe"][0]), int(file["nfe"][1]))
                line = lines.setdefault(row.name, Line(row=row, nfe=nfe, values={}))
                for name, value in figures.items():
                    line.values.setdefault(name, []).append(value)
    for line in lines.values():
        gaps = zip(
            lines[BASELINE].values["frechet"],
            line.values["frechet"],
            lines[TEACHER_ROW].values["frechet"],
            strict=False,
        )
        line.values["closed"] = [100 * (none - own) / (none - teacher) for none, own, teacher in gaps]
    return lines


def _figures(file: Any, truth: np.ndarray) -> dict[str, float]:
    features = file["features"].astype(np.float64)
    figures = {
        "frechet": FeatureGrams.of(features, truth, views=VIEWS).distance(),
        "kernel": KernelPairs.of(features, truth, views=VIEWS).distance(),
        "empty": float(file["num_empty"]),
    }
    return figures | {key.removeprefix("score."): float(file[key].mean()) for key in file if key.startswith("score.")}


def main_table(lines: dict[str, Line]) -> list[str]:
    """Tables 2 and 3 of the paper in one: every method, one and two steps, the paper's figures in their own column."""
    header = (
        "| method | steps | evaluations | Frechet | gap closed, % | kernel x 100 | structure distance "
        "| latent distance | F1 | *published FD_dinov2* |"
    )
    text = [header, "| --- |" + " ---: |" * 9]
    for name, line in lines.items():
        steps = line.row.method.steps
        cells = [
            line.row.label,
            f"{steps[0]}+{steps[1]}",
            f"{line.nfe[0]}+{line.nfe[1]}",
            line.show("frechet", 1),
            line.show("closed", 0),
            _scaled(line, "kernel", 100, 2),
            line.show("structure_distance"),
            line.show("latent_distance"),
            line.show("f1"),
            f"*{PUBLISHED[name]}*" if name in PUBLISHED else "",
        ]
        text.append("| " + " | ".join(cells) + " |")
    return text


def _scaled(line: Line, name: str, factor: float, digits: int) -> str:
    scaled = Line(row=line.row, nfe=line.nfe, values={name: [factor * value for value in line.values[name]]})
    return scaled.show(name, digits)


def validation_table(plan: Plan) -> list[str]:
    """Each flow by itself on the validation split: mean and deviation over the seeds, the teacher first."""
    text = [
        "| flow | method | Frechet, 1 step | Frechet, 2 steps | distance, 1 step | distance, 2 steps |",
        "| --- | --- |" + " ---: |" * 4,
    ]
    for stage in STAGES:
        groups = {"none, unguided": [plan.teacher_validation(stage)]}
        for run in plan.final(stage, plan.chosen(stage)):
            groups.setdefault(run.method.label, []).append(run.folder / "validation.json")
        for label, paths in groups.items():
            found = [json.loads(path.read_text()) for path in paths if path.exists()]
            if found:
                cells = [_spread([figures[name] for figures in found]) for name in VALIDATION_FIGURES]
                text.append(f"| {stage} | {label} | " + " | ".join(cells) + " |")
    return text


def training_table(plan: Plan) -> list[str]:
    """What each method was given: steps, cost of a step, chosen learning rate, measured CPU seconds."""
    text = [
        "| flow | method | forwards a step | steps | learning rate | tried | CPU seconds |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for stage in STAGES:
        for run in plan.final(stage, plan.chosen(stage)):
            if run.seed != plan.seeds[0] or not (run.folder / "validation.json").exists():
                continue
            seconds = [json.loads(line)["cpu_seconds"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
            tried = ", ".join(f"{factor * run.stage.lr:.0e}" for factor in run.stage.lrs)
            forwards = run.method.config.cost.forwards(is_guided=True)
            text.append(
                f"| {stage} | {run.method.label} | {forwards} | {run.num_steps} | {run.lr:.0e} | {tried} "
                f"| {max(seconds):.0f} |"
            )
    return text


def curves(plan: Plan, path: Path) -> None:
    """The loss of every final run, one panel per method and stage."""
    figure = Figure(figsize=(3.0 * len(plan.methods), 4.4), layout="constrained")
    for i, stage in enumerate(STAGES):
        for j, method in enumerate(plan.methods):
            axis = figure.add_subplot(len(STAGES), len(plan.methods), i * len(plan.methods) + j + 1)
            for run in plan.final(stage, plan.chosen(stage)):
                if run.method is method and (run.folder / "log.jsonl").exists():
                    samples, values = zip(*read_log(run.folder)["loss"], strict=True)
                    axis.plot(samples, values, linewidth=0.8)
            axis.set_title(f"{method.label}\n{stage}", fontsize=8)
            axis.tick_params(labelsize=6)
            axis.set_yscale("symlog", linthresh=1e-3)
    with appear_whole(path) as partial:
        figure.savefig(partial, dpi=60)


def picture_grid(plan: Plan, lines: dict[str, Line], path: Path, *, num_objects: int = 8) -> None:
    """One row of pictures per method with one step, the teacher first; the first objects by order of id."""
    seed, shown = plan.seeds[0], [line for line in lines.values() if line.row.method.steps in ((25, 25), (1, 1))]
    strips = []
    for line in shown:
        with np.load(result_path(plan, line.row.name, seed)) as file:
            strip = np.concatenate(list(file["pictures"][:num_objects]), axis=1)
        strips.append(_labelled(strip, line.row.label))
    with appear_whole(path) as partial:
        Image.fromarray(np.concatenate(strips)).save(partial, "PNG", optimize=True)


def _labelled(strip: np.ndarray, label: str) -> np.ndarray:
    side = Image.new("RGB", (150, strip.shape[0]), "white")
    ImageDraw.Draw(side).text((6, strip.shape[0] // 2 - 6), label, fill="black")
    return np.concatenate([np.asarray(side), strip], axis=1)


def differences(plan: Plan, lines: dict[str, Line], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Paired bootstrap intervals over the objects of Frechet differences, all seeds together."""
    truth = truth_features(plan)
    text = ["| difference in Frechet distance | found | clear |", "| --- | ---: | --- |"]
    for a, b in pairs:
        if a in lines and b in lines:
            grams = {name: _grams(plan, name, truth) for name in (a, b)}

            def difference(
                weights: np.ndarray, grams: dict[str, list[FeatureGrams]] = grams, a: str = a, b: str = b
            ) -> float:
                means = [np.mean([gram.distance(weights) for gram in grams[name]]) for name in (a, b)]
                return float(means[0] - means[1])

            interval = bootstrap_statistic(difference, len(truth) // VIEWS, num_resamples=200)
            is_clear = interval.low > 0 or interval.high < 0
            titles = [f"{lines[name].row.label}, {lines[name].row.method.steps[0]} step(s)" for name in (a, b)]
            text.append(
                f"| {titles[0]} minus {titles[1]} | {interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}] "
                f"| {'yes' if is_clear else 'no'} |"
            )
    return text


def _grams(plan: Plan, name: str, truth: np.ndarray) -> list[FeatureGrams]:
    paths = [result_path(plan, name, seed) for seed in plan.seeds]
    found = []
    for path in paths:
        if path.exists():
            with np.load(path) as file:
                found.append(FeatureGrams.of(file["features"].astype(np.float64), truth, views=VIEWS))
    return found


def method_notes(methods: Sequence[Method]) -> list[str]:
    """One line per method: what was run, in the words of the plan."""
    return [f"- **{method.label}**: {method.note}" for method in methods if method.note]
