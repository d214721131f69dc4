"""Compare all distillation methods on the teacher of mini: ``python recipes/compare/run.py``.

Sweeps the learning rate of every method on the validation split, trains every method from every seed at equal compute,
measures all students on the test split and writes ``docs/results/compare.{md,json,png}``. Run it from the root of the
repository; an interrupted comparison goes on where it stopped. ``--only sweep|train|evaluate`` does one part.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plan import HERE, STAGES, Plan, Run, read_plan, write_toml

from mdtdist.files import appear_whole

CRITERION = "frechet_1"  # what the learning rate is chosen by, on the validation split


def train(run: Run) -> dict[str, float]:
    """Train and validate one student unless that is done; returns its validation figures."""
    done = run.folder / "validation.json"
    if not done.exists():
        config = run.folder.with_suffix(run.folder.suffix + ".toml")
        write_toml(config, run.config())
        _call([sys.executable, "-m", "mdtdist.cli.main", "distill", str(config), "--json"], run)
        student = str(run.folder / "student")
        figures = _call([sys.executable, str(HERE / "validate.py"), str(run.plan), run.stage.name, student], run)
        with appear_whole(done) as partial:
            partial.write_text(figures.strip().splitlines()[-1] + "\n")
    return json.loads(done.read_text())


def _call(command: list[str], run: Run) -> str:
    result = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{run.folder}: {result.stderr.strip()[-2000:]}")
    return result.stdout


def train_all(runs: Iterable[Run], workers: int) -> dict[Path, dict[str, float] | None]:
    """Train many students side by side; returns their figures by folder, None for a failed one, which is reported."""
    runs, start = list(runs), time.monotonic()
    results: dict[Path, dict[str, float] | None] = {}

    def one(run: Run) -> None:
        try:
            figures = train(run)
            results[run.folder] = figures
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        except RuntimeError as err:
            results[run.folder], shown = None, f"FAILED: {err}"
        left = (time.monotonic() - start) / len(results) * (len(runs) - len(results)) / 60
        print(f"[{len(results)}/{len(runs)}, about {left:.0f} min left] {run.folder}: {shown}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, runs))
    return results


def choose(plan: Plan, stage: str, workers: int) -> dict[str, float]:
    """The learning-rate factor of every method with the lowest ``CRITERION`` in the sweep."""
    figures = train_all(plan.sweep(stage), workers)
    chosen = plan.chosen(stage)  # those of methods that are not of this call stay
    for method in plan.methods:
        tried = {run.lr: figures[run.folder] for run in plan.sweep(stage) if run.method is method}
        scores = {lr: values[CRITERION] for lr, values in tried.items() if values}
        if scores:
            best = min(scores, key=scores.__getitem__)
            chosen[method.name] = round(best / plan.stages[stage].lr, 6)
    with appear_whole(plan.out / stage / "chosen.json") as partial:
        partial.write_text(json.dumps(chosen, indent=1) + "\n")
    return chosen


def validate_teacher(plan: Plan) -> None:
    """Validate the unguided teacher in few steps, which is where the students start from, unless that is done."""
    for name, stage in plan.stages.items():
        done = plan.teacher_validation(name)
        if not done.exists():
            command = [sys.executable, str(HERE / "validate.py"), str(plan.path), name, stage.distil["teacher"]]
            result = subprocess.run(
                command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.PIPE, text=True
            )
            with appear_whole(done) as partial:
                partial.write_text(result.stdout.strip().splitlines()[-1] + "\n")


def evaluate(plan: Plan, workers: int) -> None:
    """Measure all students of all seeds on the test split, the seeds side by side."""

    def one(seed: int) -> None:
        command = [sys.executable, str(HERE / "evaluate.py"), str(plan.path), str(seed)]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, plan.seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=HERE / "methods.toml")
    parser.add_argument("--only", choices=("sweep", "train", "evaluate"))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--methods", nargs="+", help="only these methods")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="where the page is written")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, one thread each")
    args = parser.parse_args()
    plan = read_plan(args.plan, only=args.methods)
    for stage in args.stages:
        if args.only in (None, "sweep", "train"):
            chosen = choose(plan, stage, args.workers)
            print(f"{stage}: learning rates over that of the stage: {chosen}")
            if args.only != "sweep":
                train_all(plan.final(stage, chosen), args.workers)
    if args.only in (None, "evaluate"):
        validate_teacher(plan)
        evaluate(plan, args.workers)
        from page import write_page  # here, because it needs matplotlib

        print(f"written: {write_page(plan, args.results)}")


if __name__ == "__main__":
    main()
