"""Measure every trained student, and the teacher, on the test split: ``python evaluate.py PLAN SEED``.

Each result is kept in ``<out>/test/`` as it is made, so that an interrupted evaluation goes on.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from plan import STAGES, Plan, read_plan
from plan import Method as Distillation

from mdtdist.data import PreparedFolder
from mdtdist.evaluation.model_benchmark.benchmark import Quality, QualityBenchmark
from mdtdist.evaluation.model_benchmark.methods import REFERENCE, TEACHER, Method, grid_resolution
from mdtdist.evaluation.model_benchmark.test_objects import load_test_objects
from mdtdist.files import appear_whole
from mdtdist.pipelines import ImageTo3D
from mdtdist.training.tensor_files import file_digest

ROLES = {"structure": "sparse_structure_flow_model", "latent": "slat_flow_model"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the tables: a way to generate, and the name its result is kept under."""

    name: str
    label: str
    method: Method


def rows(plan: Plan, seed: int) -> list[Row]:
    """What is measured for a seed, the reference first: teacher, teacher in few steps, students that are trained."""
    teachers = [Row(name="teacher_25", label="teacher, 25 steps", method=REFERENCE)]
    for steps in (1, 2):
        for guided in (True, False):
            how = "guided" if guided else "unguided"
            method = Method(suffix=TEACHER, steps=(steps, steps), guided=guided)
            teachers.append(Row(name=f"none_{how}_{steps}", label=f"none, {how}", method=method))
    trained = [method for method in plan.methods if all(_is_trained(plan, s, method, seed) for s in STAGES)]
    return teachers + [
        Row(
            name=f"{method.name}_{steps}",
            label=method.label,
            method=Method(suffix=f"_student_{method.name}", steps=(steps, steps), guided=False),
        )
        for method in trained
        for steps in (1, 2)
    ]


def _student(plan: Plan, stage: str, method: Distillation, seed: int) -> Path:
    """The student of the chosen learning rate, without suffix."""
    return plan.run(stage, method, plan.chosen(stage)[method.name], seed).folder / "student"


def _is_trained(plan: Plan, stage: str, method: Distillation, seed: int) -> bool:
    return (
        method.name in plan.chosen(stage) and (_student(plan, stage, method, seed).parent / "validation.json").exists()
    )


def result_path(plan: Plan, name: str, seed: int) -> Path:
    """Where the result of a row is kept."""
    return plan.out / "test" / f"{name}_seed{seed}.npz"


def measure(plan: Plan, seed: int) -> None:
    """Measure all rows of a seed that have no result yet; the seed is that of the noise too."""
    pipe = ImageTo3D.from_pretrained("mini")
    students = {
        f"{ROLES[stage]}_student_{method.name}": str(_student(plan, stage, method, seed).resolve())
        for stage in STAGES
        for method in plan.methods
        if _is_trained(plan, stage, method, seed)
    }
    pipe.config = replace(pipe.config, models={**pipe.config.models, **students})
    data = PreparedFolder("runs/data", resolution=grid_resolution(pipe))
    benchmark = QualityBenchmark(pipe, load_test_objects(data, split="test", limit=plan.num_objects), seed=seed)
    todo = [row for row in rows(plan, seed) if not _is_measured(plan, row, seed)]
    _save(plan.out / "test" / "truth.npz", {"features": benchmark.true_features()})
    for number, row in enumerate(todo, 1):
        quality = benchmark.measure(row.method)
        _save(result_path(plan, row.name, seed), _arrays(quality) | {"weights": np.array(_weights(plan, row, seed))})
        print(f"[seed {seed}: {number}/{len(todo)}] {row.name}", flush=True)


def _is_measured(plan: Plan, row: Row, seed: int) -> bool:
    """Whether the kept result is of the students as they are now."""
    path = result_path(plan, row.name, seed)
    if not path.exists():
        return False
    with np.load(path) as file:
        return str(file["weights"]) == _weights(plan, row, seed)


def _weights(plan: Plan, row: Row, seed: int) -> str:
    """A digest of both students of a row; nothing for the teacher, which does not change."""
    found = [method for method in plan.methods if row.method.suffix == f"_student_{method.name}"]
    paths = [_student(plan, stage, method, seed) for method in found for stage in STAGES]
    return " ".join(file_digest(path.with_name(path.name + ".safetensors"))[:16] for path in paths)


def _arrays(quality: Quality) -> dict[str, np.ndarray]:
    return {
        "features": quality.features.astype(np.float32),
        "pictures": quality.pictures[:12],
        "nfe": np.array(quality.nfe),
        "num_empty": np.array(quality.num_empty),
        **{f"score.{name}": values for name, values in quality.scores.items()},
    }


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with appear_whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure(read_plan(Path(sys.argv[1])), int(sys.argv[2]))
