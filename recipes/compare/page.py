"""Writes ``docs/results/compare.md`` with its pictures and raw numbers."""

import json
from pathlib import Path

import torch
from plan import Plan
from report import (
    VIEWS,
    collect,
    curves,
    differences,
    main_table,
    method_notes,
    picture_grid,
    training_table,
    truth_features,
    validation_table,
)

from mdtdist.evaluation.model_benchmark.timing import describe_machine
from mdtdist.files import appear_whole

PAIRS = [("ours_1", name) for name in ("none_guided_1", "none_unguided_1", "vm_1", "mdt_paper_1", "scm_1", "dmd_1")] + [
    ("mdt_paper_1", "vm_1"),
    ("vm_1", "cm_1"),
    ("vm_1", "scm_1"),
    ("ours_1", "teacher_25"),
    ("ours_2", "teacher_25"),
]


def write_page(plan: Plan, folder: Path = Path("docs/results")) -> Path:
    """The page in ``folder``; what is to be read out of its tables is in ``reading.md`` beside this file."""
    lines, num_objects = collect(plan), len(truth_features(plan)) // VIEWS
    curves(plan, folder / "compare_curves.png")
    picture_grid(plan, lines, folder / "compare.png")
    record = {name: {"nfe": line.nfe, **line.values} for name, line in lines.items()}
    with appear_whole(folder / "compare.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")
    machine = describe_machine(torch.device("cpu"))
    reading = Path(__file__).with_name("reading.md")
    text = [
        "# All methods on the teacher of mini, at equal compute",
        "",
        f"Made by `python recipes/compare/run.py`; protocol `mini-sweethome-test-v1`, {num_objects} held-out objects, "
        f"{len(plan.seeds)} seeds of training and noise, mean +- standard deviation; {machine}.",
        "",
        *_setting(plan),
        "",
        "## Methods",
        "",
        *method_notes(plan.methods),
        "",
        "## One and two steps for each flow",
        "",
        "Frechet and kernel distance of EfficientNet-lite0 features of renders to those of the true objects. "
        "*Gap closed* is the share of the way, in Frechet distance, from the guided teacher in one step to the teacher "
        "in 25. The two distances are RMS distances to the teacher's own 25-step latents from the same noise. The last "
        "column quotes the paper (FD_dinov2 of TRELLIS on Toys4k) and compares within itself only.",
        "",
        *main_table(lines),
        "",
        "## Each flow by itself",
        "",
        "On the validation split, the latent flow on true voxels: Frechet distance of moments of the latents (per "
        "channel mean, spread and coarse layout) to those of the teacher's 25 guided steps, and RMS distance to its "
        "sample from the same noise.",
        "",
        *validation_table(plan),
        "",
        "## What is clear",
        "",
        "95 % intervals of paired differences, bootstrap over the objects, all seeds together; training seeds are not "
        "resampled.",
        "",
        *differences(plan, lines, PAIRS),
        "",
        *([reading.read_text().strip(), ""] if reading.exists() else []),
        "## Trainings",
        "",
        *training_table(plan),
        "",
        "![Losses of all runs](compare_curves.png)",
        "",
        "![One step for each flow; the first held-out objects by order of id](compare.png)",
    ]
    with appear_whole(folder / "compare.md") as partial:
        partial.write_text("\n".join(text) + "\n")
    return folder / "compare.md"


def _setting(plan: Plan) -> list[str]:
    budgets = ", ".join(
        f"{name} {stage.budget} a run at batch {stage.batch_size}" for name, stage in plan.stages.items()
    )
    return [
        "Every method distils both flows from the same teacher with the same compute, counted in forwards of one "
        "sample: a pass with gradients counts three, a guided velocity of the teacher two; updates of fake networks "
        f"and stored trajectories count too. Budgets: {budgets}. The learning rate of each method is the best of those "
        "tried with the first seed (last table), by the Frechet distance of latent moments to the teacher's 25-step "
        "samples on the validation split. These are short trainings: an ordering at equal compute, not what each "
        "method reaches in the end."
    ]
