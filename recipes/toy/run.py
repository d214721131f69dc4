"""All methods side by side on a two-dimensional toy problem, in minutes on two cores.

    python recipes/toy/run.py --out docs/results [--budget 12000] [--seeds 3] [--methods mdt,dmd] [--quick]

Writes ``toy.md`` and ``toy.png``. The numbers depend on the options alone, not on the number of processes.
"""

import argparse
import os
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from board import Network, field_of, sample_board, train_teacher
from distil import Outcome, Plan, Row, distil, make_rows
from measure import GUIDANCE_SHOWN, SAMPLERS, TEACHER_STEPS, Exam, Score, draw_samples, make_exam, score
from page import Reference, Result, write_page

from mdtdist.flow import EulerSampler, Guidance

SHOWN = 2048


def main() -> None:
    """Train the teacher, distil, write."""
    args = parse()
    plan = Plan(budget=args.budget, seeds=args.seeds)
    num, teacher_steps = 4096, 6000
    if args.quick:
        plan, num, teacher_steps = replace(plan, budget=60, batch_size=16, learning_rates=(1e-3,)), 128, 20
    torch.set_num_threads(1)
    rows = [row for row in make_rows() if not args.methods or row.method in args.methods.split(",")]
    teacher = train_teacher(teacher_steps)
    jobs = [(row, teacher, plan, num) for row in rows]
    if args.processes == 1:
        results = [run_row(*job) for job in jobs]
    else:
        with get_context("spawn").Pool(args.processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            results = pool.starmap(run_row, jobs, chunksize=1)
            pool.close()
            pool.join()  # the time of a process is known when it has ended
    write_page(args.out, results, make_reference(teacher, num), plan, seconds=sum(os.times()[:4]))


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of toy.md and toy.png")
    parser.add_argument("--budget", type=int, default=Plan.budget, help="forwards of a batch for each run")
    parser.add_argument("--seeds", type=int, default=Plan.seeds)
    parser.add_argument("--methods", help="names, separated by commas; all of them by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    return parser.parse_args()


def run_row(row: Row, teacher: Network, plan: Plan, num: int) -> Result:
    """Distil one method, choose on the validation noise, measure on the test noise."""
    outcome = distil(row, teacher, plan, seed=1)
    validation, test = (make_exam(teacher, num, seed) for seed in (10, 11))
    two_steps = {name: mean_energies(outcome, row, validation, 2, name, plan) for name in SAMPLERS}
    judged = two_steps["Euler"] if row.steps == 2 else mean_energies(outcome, row, validation, 1, "Euler", plan)
    best = min(range(len(judged)), key=judged.__getitem__)
    sampler = "Euler" if row.steps == 2 else min(SAMPLERS, key=lambda name: two_steps[name][best])
    chosen = slice(best * plan.seeds, (best + 1) * plan.seeds)
    one, two = (sample(outcome, row, test, steps, sampler)[chosen] for steps in (1, 2))
    return Result(
        row=row,
        lr=plan.learning_rates[best],
        sampler=sampler,
        one=[score(samples, test) for samples in one],
        two=[score(samples, test) for samples in two],
        many=guided_scores(outcome, teacher, test)[chosen] if row.is_guided else [],
        samples=(two if row.steps == 2 else one)[0][:: max(1, num // SHOWN)],
        steps=outcome.steps,
        forwards=outcome.forwards,
        seconds=outcome.seconds,
    )


def sample(outcome: Outcome, row: Row, exam: Exam, steps: int, sampler: str) -> torch.Tensor:
    """Few-step samples of all runs, without guidance."""
    takes = row.config.needs & {"interval", "guidance"}
    return draw_samples(outcome.student, exam, SAMPLERS[sampler](steps=steps, takes=takes))


def mean_energies(outcome: Outcome, row: Row, exam: Exam, steps: int, sampler: str, plan: Plan) -> list[float]:
    """For each learning rate, the mean over its seeds; infinite where a run has diverged."""
    samples = sample(outcome, row, exam, steps, sampler)
    energies = torch.tensor([score(run, exam).energy for run in samples])
    return energies.nan_to_num(torch.inf).view(-1, plan.seeds).mean(1).tolist()


def guided_scores(outcome: Outcome, teacher: Network, exam: Exam) -> list[Score]:
    """Many steps of students that take ``w``, compared with the guided teacher."""
    guidance = Guidance(w=GUIDANCE_SHOWN)
    sampler = EulerSampler(steps=TEACHER_STEPS, guidance=guidance)
    field, negative = (field_of(teacher, cond) for cond in (exam.cond, torch.zeros_like(exam.cond)))
    with torch.no_grad():
        wanted = sampler.sample(field, exam.noise, num_samples=len(exam.noise), negative=negative).x
    samples = draw_samples(outcome.student, exam, replace(sampler, takes=frozenset({"guidance"})))
    return [score(run, replace(exam, teacher=wanted)) for run in samples]


def make_reference(teacher: Network, num: int) -> Reference:
    """The data beside themselves and the teacher in one, two and many steps, on the test noise."""
    exam = make_exam(teacher, num, 11)
    x_0, classes = sample_board(2 * num, torch.Generator().manual_seed(12))
    samples = {"data": torch.cat([x_0[classes == c][: len(exam.data) // 2] for c in (0, 1)])}
    for steps in (1, 2):
        name = f"teacher, {steps} step" + "s" * (steps > 1)
        samples[name] = draw_samples(teacher, exam, EulerSampler(steps=steps))[0]
    samples[f"teacher, {TEACHER_STEPS} steps"] = exam.teacher
    scores = {name: score(points, exam) for name, points in samples.items()}
    return Reference(scores=scores, samples={k: x[:: max(1, num // SHOWN)] for k, x in samples.items()})


if __name__ == "__main__":
    main()
