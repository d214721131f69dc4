"""The results page: markdown tables and what stands between them."""

from collections.abc import Sequence

import numpy as np

from mdtdist.evaluation.metrics.bootstrap import NUM_RESAMPLES, bootstrap_mean, bootstrap_statistic
from mdtdist.evaluation.model_benchmark.methods import REFERENCE, Method
from mdtdist.evaluation.model_benchmark.results import (
    FRECHET_RESAMPLES,
    INPUT_VIEWS,
    PICTURE_SCORES,
    REFERENCE_SCORES,
    TRUTH_SCORES,
    Check,
    Results,
    format_interval,
    speed_up,
)
from mdtdist.evaluation.model_benchmark.timing import FLOW_STAGES, STAGES

_LABELS = {
    "iou": "IoU",
    "f1": "F1 at 1 voxel",
    "iou16": "IoU at 16^3",
    "chamfer": "Chamfer x 100",
    "structure_distance": "structure latent, RMS",
    "structure_iou": "structure, IoU",
    "latent_distance": "latent on the same structure, RMS",
    "reference_l1": "pictures, L1 x 100",
    "image_l1": "L1 x 100",
    "image_dssim": "1 - SSIM",
}
_SCALES = {"chamfer": 100, "image_l1": 100, "reference_l1": 100}

# Quoted as published, measured by their authors on their hardware with another model: not comparable with ours.
_PUBLISHED = (
    ("MDT-dist on TRELLIS, 1 step x 2 flows (arXiv:2509.04406, abstract)", "A800", "0.68 s", "9.0"),
    ("MDT-dist on TRELLIS, 2 steps x 2 flows (arXiv:2509.04406, abstract)", "A800", "0.94 s", "6.5"),
)


def results_page(
    results: Results,
    checks: Sequence[Check],
    *,
    title: str,
    command: str,
    figures: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as markdown.

    Args:
        results: what was measured.
        checks: of the promises.
        title: first line.
        command: the command line that made the page.
        figures: file name and caption of each picture beside the page.
    """
    parts = [
        f"# {title}",
        _head(results, command),
        _checks_table(checks),
        "## Agreement with the true object",
        _truth_table(results),
        "## Pictures: distance to the true renders",
        _pictures_table(results),
        "## Distance to the teacher's own 25+25 output from the same noise",
        _reference_table(results),
        _cost_table(results),
        "## Published figures, as published",
        _table(["source", "hardware", "seconds", "times faster than 25 steps x 2 flows"], _PUBLISHED),
        *[f"![{caption}]({name})\n\n{caption}" for name, caption in figures],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results, command: str) -> str:
    num_timed = max((len(stages[STAGES[0]]) for stages in results.seconds.values()), default=0)
    w_structure, w_latent = results.guidance
    return f"""Protocol `{results.protocol}`; model `{results.model}`; seeds {", ".join(map(str, results.seeds))}; \
{len(results.object_ids)} held-out objects, {len(results.true_features)} pictures. Made by

    {command}

on {results.machine}. Wall times: {num_timed} objects one by one, all methods in turn in one process, median.

`a+b` is a steps of the structure flow and b steps of the latent flow, so the paper's "1 x 2" (one step for each of
two flows) is `1+1` here, its "2 x 2" is `2+2`, and its teacher is `25+25`. Guided means w = {w_structure:g} for the
structure and {w_latent:g} for the latent flow, added on top of one; a guided step costs two evaluations. Students
need no guidance at run time. All methods get the same picture of each object ({INPUT_VIEWS[results.protocol]}) and the
same initial noise, latent noise voxel by voxel. An output without any voxel counts with its single most likely voxel.
Brackets are 95 % bootstrap intervals over the objects; those of the Frechet and the kernel distance are centred
on their value."""


def _checks_table(checks: Sequence[Check]) -> str:
    rows = [(check.promise, check.found, "yes" if check.holds else "**no**") for check in checks]
    note = (
        "Differences are paired over the objects; a quality check holds when its whole interval lies on the right side "
        "of 0, a speed check when the median does."
    )
    return "## Checks\n\n" + note + "\n\n" + _table(["promise", "found", "holds"], rows) if rows else ""


def _truth_table(results: Results) -> str:
    rows = [
        [method.name, *_cells(results, method, TRUTH_SCORES), _empty(results, method)] for method in results.methods
    ]
    for baseline in results.baselines:
        cells = [_cell(baseline.scores[name], name) for name in TRUTH_SCORES]
        rows.append([f"*{baseline.name}*", *cells, "0"])
    notes = "; ".join(f"{baseline.name}: {baseline.choice}" for baseline in results.baselines if baseline.choice)
    note = (
        f"\n\nBaselines in italics see the same image tokens. Chosen on the validation split: {notes}." if notes else ""
    )
    table = _table(["method", *[_LABELS[name] for name in TRUTH_SCORES], "empty"], rows)
    return "A blurry mean can score well here: read this table together with the next two.\n\n" + table + note


def _pictures_table(results: Results) -> str:
    rows = []
    for method in results.methods:
        frechet = bootstrap_statistic(
            lambda weights, method=method: results.frechet(method, weights),
            len(results.object_ids),
            num_resamples=FRECHET_RESAMPLES,
        )
        kernel = bootstrap_statistic(
            lambda weights, method=method: results.kernel(method, weights),
            len(results.object_ids),
            num_resamples=NUM_RESAMPLES,
        )
        distances = [format_interval(frechet, digits=1), format_interval(kernel, digits=3)]
        rows.append([method.name, *distances, *_cells(results, method, PICTURE_SCORES)])
    note = (
        f"Gaussians against the ray-cast truth from the same {results.views} cameras per object, none of them the "
        "input's, on white. The Frechet distance takes pooled EfficientNet-lite0 features at 224 px of "
        f"{len(results.true_features)} pictures on each side; with so few it is biased upwards, the more so "
        "the more varied the pictures are, and compares only within this table. The kernel distance (that of KID, on "
        "the same features, pairs of different objects only) has no such bias."
    )
    return (
        note
        + "\n\n"
        + _table(["method", "Frechet distance", "kernel distance", *[_LABELS[name] for name in PICTURE_SCORES]], rows)
    )


def _reference_table(results: Results) -> str:
    names = REFERENCE_SCORES
    rows = [[method.name, *_cells(results, method, names)] for method in results.methods if method != REFERENCE]
    note = (
        "The third column runs every latent flow on the reference's structure, so that it judges the second flow alone."
    )
    return note + "\n\n" + _table(["method", *[_LABELS[name] for name in names]], rows)


def _cost_table(results: Results) -> str:
    if not results.seconds:
        return ""
    rows = []
    for method in results.methods:
        nfe = results.qualities[method.name][0].nfe
        stages = [f"{np.median(results.seconds[method.name][stage]):.3f}" for stage in STAGES]
        total = f"{np.median(results.total(method, STAGES)):.3f}"
        ratios = [format_interval(speed_up(results, method, part), digits=1) for part in (FLOW_STAGES, STAGES)]
        rows.append([method.name, f"{nfe[0]} + {nfe[1]} = {sum(nfe)}", *stages, total, *ratios])
    header = ["method", "evaluations", *[stage.replace("_", " ") for stage in STAGES], "total"]
    return "## Cost\n\nSeconds per stage.\n\n" + _table([*header, "flows, times faster", "total, times faster"], rows)


def _cells(results: Results, method: Method, names: Sequence[str]) -> list[str]:
    return [_cell(results.score(method, name), name) for name in names]


def _cell(values: np.ndarray, name: str) -> str:
    return format_interval(bootstrap_mean(values * _SCALES.get(name, 1)), digits=3)


def _empty(results: Results, method: Method) -> str:
    return str(sum(quality.num_empty for quality in results.qualities[method.name]))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
