"""The page of the toy comparison: a table in Markdown and a picture."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from board import CLASSES, SIDE, is_on_board
from distil import STORED_STEPS, Plan, Row
from jaxtyping import Float
from measure import GUIDANCE_SHOWN, TEACHER_STEPS, Score
from torch import Tensor

from mdtdist.files import appear_whole

DOT = 1000  # energy distances are read in thousandths
COLORS = ("#1f6fb4", "#d9622b")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A method at its best learning rate.

    Attributes:
        row, lr: what was trained, and how fast.
        sampler: of two steps, the better one on the validation noise.
        one, two: figures of each seed after one step and two.
        many: figures of each seed in many guided steps, beside the guided teacher; of methods that take ``w``.
        samples: of the first seed, in ``row.steps``.
        steps, forwards: training steps, and forwards in each.
        seconds: of one core, for all learning rates and seeds together.
    """

    row: Row
    lr: float
    sampler: str
    one: Sequence[Score]
    two: Sequence[Score]
    many: Sequence[Score]
    samples: Float[Tensor, "N 2"]
    steps: int
    forwards: int
    seconds: float

    @property
    def judged(self) -> Sequence[Score]:
        """The figures of ``row.steps``."""
        return self.one if self.row.steps == 1 else self.two


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the students are measured against: figures by name, and samples to look at."""

    scores: dict[str, Score]
    samples: dict[str, Float[Tensor, "N 2"]]

    @property
    def one_step(self) -> float:
        """Energy distance of the teacher's single step, and below that of its many steps."""
        return self.scores["teacher, 1 step"].energy

    @property
    def many_steps(self) -> float:
        return self.scores[f"teacher, {TEACHER_STEPS} steps"].energy

    def closed(self, energy: float) -> float:
        """Share of the gap between the teacher's single step and its many steps that an energy distance closes."""
        return 1 - (energy - self.many_steps) / (self.one_step - self.many_steps)


def write_page(folder: Path, results: list[Result], reference: Reference, plan: Plan, *, seconds: float) -> None:
    """Write ``toy.md`` and ``toy.png``; ``seconds`` of one core were spent."""
    ranked = sorted(results, key=lambda result: mean_energy(result.judged))
    with appear_whole(folder / "toy.png") as path:
        draw(path, ranked, reference)
    with appear_whole(folder / "toy.md") as path:
        path.write_text(_page(ranked, reference, plan, seconds))


def mean_energy(scores: Sequence[Score]) -> float:
    """Over the seeds."""
    return statistics.mean(score.energy for score in scores)


def _page(results: list[Result], reference: Reference, plan: Plan, seconds: float) -> str:
    rates = ", ".join(f"{lr:g}" for lr in plan.learning_rates)
    text = [
        "# Every method on a toy problem",
        "",
        "A checkerboard in two dimensions, of two classes; a teacher of three hidden layers, trained by flow matching; "
        "every method of `OBJECTIVES` and its variants, through the code that distils 3D models. Made by `make toy` "
        f"in {max(1, round(seconds / 60))} minutes of one core, so half as many on two.",
        "",
        f"Equal compute: {plan.budget} forwards of a batch of {plan.batch_size} for each run. A pass with its backward "
        "counts three; all networks count, and so do the trajectories that are stored of the teacher. "
        f"Learning rates {rates}, the best of them by the validation noise; {plan.seeds} seeds, mean and standard "
        "deviation over them on the test noise.",
        "",
        "- **energy**: energy distance to the data, in thousandths, mean of the classes; that of the data to more data "
        "is the floor.",
        "- **gap closed**: share of the way from one step of the teacher to many, in energy.",
        "- **off**: share of samples off the squares.",
        "- **paired**: RMS distance to the teacher's many-step samples from the same noise. Methods that match "
        "distributions need not have a small one.",
        "- **2 steps** are Euler's, or those of consistency models (new noise after the first), whichever did better "
        "on the validation noise.",
        "",
        *_table(results, reference),
        "",
        "![samples of every method](toy.png)",
        "",
        "## Reading",
        "",
        *_reading(results, reference, plan),
    ]
    return "\n".join(text) + "\n"


def _table(results: list[Result], reference: Reference) -> list[str]:
    head = (
        "| method | energy, 1 step | gap closed | off % | paired | energy, 2 steps | off % | sampler of 2 | "
        "learning rate | training steps x forwards | CPU s | options changed |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|---|"]
    for name, score in reference.scores.items():
        closed = "" if name == "data" else f"{reference.closed(score.energy):.0%}"
        paired = "" if name == "data" else f"{score.paired:.3f}"
        cells = [f"{DOT * score.energy:.1f}", closed, f"{100 * score.off_board:.1f}", paired]
        lines.append(f"| *{name}* | {' | '.join(cells)} | | | | | | | |")
    return lines + [_line(result, reference) for result in results]


def _line(result: Result, reference: Reference) -> str:
    cells = [
        result.row.name,
        _spread([DOT * s.energy for s in result.one], "{:.1f}"),
        f"{reference.closed(mean_energy(result.one)):.0%}",
        _spread([100 * s.off_board for s in result.one], "{:.1f}"),
        _spread([s.paired for s in result.one], "{:.3f}"),
        _spread([DOT * s.energy for s in result.two], "{:.1f}"),
        _spread([100 * s.off_board for s in result.two], "{:.1f}"),
        result.sampler,
        f"{result.lr:g}",
        f"{result.steps} x {result.forwards}",
        f"{result.seconds:.0f}",
        result.row.changed,
    ]
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float], form: str) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{form.format(statistics.mean(values))} +- {form.format(spread)}"


def _reading(results: list[Result], reference: Reference, plan: Plan) -> list[str]:
    """What the table says, in sentences that follow from its numbers, and what no table says."""
    single = [result for result in results if result.row.steps == 1]
    teacher = reference.scores["teacher, 2 steps"].energy
    closest = min(single, key=lambda result: statistics.mean(score.paired for score in result.one))
    cleanest = min(single, key=lambda result: statistics.mean(score.off_board for score in result.one))
    edges = (min(plan.learning_rates), max(plan.learning_rates))
    return [
        "- One step closes at least 90 % of the gap with "
        f"{_list(r for r in single if reference.closed(mean_energy(r.one)) >= 0.9)}.",
        "- Energies within a thousandth or two of the floor say nothing about their order. The other columns go on "
        f"telling: nearest to the teacher's samples is `{closest.row.name}`, with the fewest samples off the squares "
        f"`{cleanest.row.name}`.",
        "- One step is no better than two of the teacher with "
        f"{_list(r for r in single if mean_energy(r.one) > teacher)}.",
        f"- A second step halves the energy of {_list(r for r in results if _is_halved(r))}.",
        f"- A second step does harm with {_list(r for r in single if _is_harmed(r))}. The methods that judge samples "
        "(`dmd`, `ladd`, `sds`) train at t = 1 alone unless `samples.steps` says otherwise, and are asked here where "
        "they never learned.",
        *_guided(results),
        "- `phased_consistency` has two phases here, and is judged and ranked by two Euler steps; its single step "
        "leads to the middle.",
        f"- `trajectory` learns the samples of a teacher of {STORED_STEPS} steps, errors included.",
        "- `sds` looks at its samples one by one and never at their spread: it collapses, by design.",
        "- The best learning rate is the smallest or the largest of the sweep for "
        f"{_list(r for r in results if r.lr in edges)}: a wider sweep might improve them.",
        "- Two dimensions say whether a method works, not which one is best in a latent of thousands: derivatives, "
        "judges and learned scores cost and err differently there.",
    ]


def _is_halved(result: Result) -> bool:
    """Whether two steps take half of the energy of one, where there is some to take."""
    return mean_energy(result.one) > 2 / DOT and mean_energy(result.two) < mean_energy(result.one) / 2


def _is_harmed(result: Result) -> bool:
    """Whether two steps are worse than one beyond two standard deviations, and a thousandth."""
    spread = max(statistics.pstdev(s.energy for s in scores) for scores in (result.one, result.two))
    return mean_energy(result.two) - mean_energy(result.one) > max(2 * spread, 1 / DOT)


def _guided(results: list[Result]) -> list[str]:
    """A sentence on each method that takes ``w``."""
    return [
        f"- `{result.row.name}` saves evaluations, not steps: its student is a velocity. In {TEACHER_STEPS} steps at "
        f"w = {GUIDANCE_SHOWN:g}, an evaluation each, its samples are "
        f"{statistics.mean(score.paired for score in result.many):.3f} (RMS) from those of the guided teacher, which "
        "takes two."
        for result in results
        if result.many
    ]


def _list(results: Iterable[Result]) -> str:
    return ", ".join(f"`{result.row.name}`" for result in results) or "none of them"


def draw(path: Path, results: list[Result], reference: Reference, *, columns: int = 6) -> None:
    """One panel of samples for the data, the teacher and every method; the title carries its energy distance."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    panels = [(name, f"{DOT * s.energy:.1f}", reference.samples[name]) for name, s in reference.scores.items()]
    for result in results:
        steps = "" if result.row.steps == 1 else f" ({result.row.steps} steps)"
        panels.append((result.row.name, f"{DOT * mean_energy(result.judged):.1f}{steps}", result.samples))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), dpi=110, layout="constrained")
    for i, (name, label, samples) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, i)
        _scatter(axes, samples)
        axes.set_title(f"{name}\n{label}", fontsize=8)
    figure.suptitle("One step of every method; energy distance to the data in thousandths", fontsize=10)
    figure.savefig(path, format="png")


def _scatter(axes: Any, samples: Tensor) -> None:
    axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), xticks=[], yticks=[], aspect="equal")
    ticks = (torch.arange(400) + 0.5) / 100 * SIDE - 2 * SIDE
    board = is_on_board(torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1))
    extent = [-2 * SIDE, 2 * SIDE] * 2
    axes.imshow(~board, cmap="gray", vmin=-8, vmax=1, origin="lower", extent=extent)
    for part, color in zip(samples.chunk(CLASSES), COLORS, strict=True):
        axes.scatter(*part.T, s=1.2, linewidths=0, color=color, alpha=0.7)
