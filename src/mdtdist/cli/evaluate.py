"""``mdtdist evaluate``: measure a model on held-out objects, or the files that any system exported."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.cli.evaluate_assets import add_assets_arguments, run_assets
from mdtdist.cli.generate import check_writable
from mdtdist.errors import InputError

if TYPE_CHECKING:
    from mdtdist.data import PreparedFolder
    from mdtdist.evaluation.model_benchmark.baselines import Baseline
    from mdtdist.evaluation.model_benchmark.results import Results
    from mdtdist.pipelines import ImageTo3D


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure models on held-out objects",
        description="Compare teacher and students of a model on the test objects of a prepared folder, and write a "
        "page of tables (.md), all raw numbers (.json) and pictures (.png). With --assets: measure the files that any "
        "system exported under a protocol, and write one record (.json) and a picture (.png).",
    )
    parser.add_argument("--model", help="shipped model or model folder (default: mini)")
    parser.add_argument("--data", default="runs/data", help="prepared folder (default: runs/data)")
    parser.add_argument("--out", help="where to write (default: docs/results; with --assets it has to be given)")
    parser.add_argument("--name", help="name of the files (default: the model's)")
    parser.add_argument("--split", default="test", choices=("val", "test"), help="held-out objects (default: test)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N objects by order of id")
    parser.add_argument("--seeds", default="0", help="seeds of the noise, separated by commas (default: 0)")
    parser.add_argument("--students", metavar="SUFFIX,...", help="role suffixes of the students (default: all)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="LABEL=FOLDER",
        help="also measure the students of another model folder with the same teacher; may be repeated",
    )
    parser.add_argument("--timed", type=int, default=10, metavar="N", help="objects that are timed (default: 10)")
    parser.add_argument("--no-baselines", action="store_true", help="skip mean shape, nearest neighbour and ridge")
    parser.add_argument(
        "--baseline-views", type=int, metavar="N", help="training views per object of the baselines (default: all)"
    )
    parser.add_argument("--baselines-only", action="store_true", help="print the structure baselines and stop")
    parser.add_argument("--device", default="cpu", help="for example cpu or cuda (default: cpu)")
    add_assets_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything, measure, write."""
    for name in ("limit", "timed", "baseline_views"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
    if args.assets is not None or args.calibration:
        return run_assets(args)
    args.model, args.out = args.model or "mini", args.out or "docs/results"
    seeds, others = _parse_seeds(args.seeds), _parse_also(args.also)

    from mdtdist.data import PreparedFolder

    say = _Progress()
    if args.baselines_only:
        _print_baselines(_baselines(PreparedFolder(args.data), args, say), as_json=args.json)
        return 0
    from mdtdist.evaluation.model_benchmark.methods import add_students, grid_resolution
    from mdtdist.pipelines import ImageTo3D, resolve_model

    resolve_model(args.model)
    PreparedFolder(args.data)
    out = check_writable(args.out)
    pipe = ImageTo3D.from_pretrained(args.model, device=args.device)
    for label, folder in others.items():
        add_students(pipe, label, resolve_model(folder))
    data = PreparedFolder(args.data, resolution=grid_resolution(pipe))
    baselines = [] if args.no_baselines or args.split != "test" else _baselines(data, args, say)
    results, figures = _measure(pipe, data, args, seeds, baselines, say)
    out.mkdir(parents=True, exist_ok=True)
    record = _write(results, figures, out, args, say)
    print(json.dumps(record, indent=1) if args.json else _summary(record, out / f"{_file_name(args)}.md"))
    return 0


def _parse_seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"seeds is {text!r}; expected whole numbers from 0 up, separated by commas")
    return [int(part) for part in parts]


def _parse_also(entries: Sequence[str]) -> dict[str, Path]:
    pairs = [entry.partition("=") for entry in entries]
    if bad := [entry for entry, (label, _, folder) in zip(entries, pairs, strict=True) if not (label and folder)]:
        raise InputError(f"also is {bad[0]!r}; expected LABEL=FOLDER, for example paper=runs/mini_paper")
    return {label: Path(folder) for label, _, folder in pairs}


def _file_name(args: argparse.Namespace) -> str:
    return args.name or Path(args.model).name


def _baselines(data: "PreparedFolder", args: argparse.Namespace, say: "_Progress") -> list["Baseline"]:
    from mdtdist.evaluation.model_benchmark.baselines import measure_baselines

    return measure_baselines(data, limit=args.limit, views_per_object=args.baseline_views, progress=say)


def _measure(
    pipe: "ImageTo3D",
    data: "PreparedFolder",
    args: argparse.Namespace,
    seeds: Sequence[int],
    baselines: Sequence["Baseline"],
    say: "_Progress",
) -> tuple["Results", dict[str, Any]]:
    """All methods; returns the results and the figures by name."""
    from mdtdist.evaluation.model_benchmark.benchmark import QualityBenchmark
    from mdtdist.evaluation.model_benchmark.methods import list_methods
    from mdtdist.evaluation.model_benchmark.results import PROTOCOLS, Results
    from mdtdist.evaluation.model_benchmark.test_objects import EVALUATION_VIEWS, load_test_objects
    from mdtdist.evaluation.model_benchmark.timing import describe_machine, measure_seconds

    students = None if args.students is None else [part for part in args.students.split(",") if part]
    methods = list_methods(pipe.config, students=students)
    objects = load_test_objects(data, split=args.split, limit=args.limit)
    seconds = measure_seconds(pipe, objects[: args.timed], methods, progress=say)
    say.expect(len(seeds) * len(methods))
    qualities: dict[str, list[Any]] = {method.name: [] for method in methods}
    for seed in seeds:
        benchmark = QualityBenchmark(pipe, objects, seed=seed)
        for method in methods:
            qualities[method.name].append(benchmark.measure(method, progress=say))
    results = Results(
        protocol=PROTOCOLS[data.layout],
        model=args.model,
        object_ids=[item.sha256 for item in objects],
        seeds=seeds,
        machine=describe_machine(pipe.device),
        methods=methods,
        qualities=qualities,
        true_features=benchmark.true_features(),
        views=len(EVALUATION_VIEWS),
        seconds=seconds,
        baselines=baselines,
        guidance=(
            pipe.config.samplers["teacher", "structure"].cfg_strength,
            pipe.config.samplers["teacher", "latent"].cfg_strength,
        ),
    )
    return results, _figures(results, objects)


def _figures(results: "Results", objects: Sequence[Any]) -> dict[str, Any]:
    from mdtdist.evaluation.model_benchmark.figures import (
        comparison_figure,
        figure_methods,
        first_objects,
        worst_objects,
    )

    student = next((method.suffix for method in results.methods if not method.is_teacher), "_student")
    shown = figure_methods(results.methods, student=student)
    columns = {method.name: results.qualities[method.name][0] for method in shown}
    judge = next((method for method in shown if not method.is_teacher), shown[0])
    worst = worst_objects(results.score(judge, "f1"))
    return {
        "first": (
            comparison_figure(objects, first_objects(len(objects)), columns),
            "The first held-out objects by order of id, not chosen; from another side than the input.",
        ),
        "worst": (
            comparison_figure(objects, worst, columns),
            f"The held-out objects with the lowest F1 of {judge.name}: how it fails.",
        ),
    }


def _write(
    results: "Results", figures: dict[str, Any], out: Path, args: argparse.Namespace, say: "_Progress"
) -> dict[str, Any]:
    """Pictures, raw numbers, and the page last."""
    from mdtdist.evaluation.model_benchmark.page import results_page
    from mdtdist.evaluation.model_benchmark.results import check_promises, to_json, write_json, write_text
    from mdtdist.files import appear_whole

    say("intervals", 0, 1)
    name = _file_name(args)
    for label, (picture, _) in figures.items():
        with appear_whole(out / f"{name}_{label}.png") as path:
            picture.save(path, "PNG", optimize=True)
    checks = check_promises(results)
    record = to_json(results, checks)
    write_json(out / f"{name}.json", record)
    page = results_page(
        results,
        checks,
        title=f"{name} on held-out objects",
        command=_command_line(args),
        figures=[(f"{name}_{label}.png", caption) for label, (_, caption) in figures.items()],
    )
    write_text(out / f"{name}.md", page)
    say("intervals", 1, 1)
    return record


def _command_line(args: argparse.Namespace) -> str:
    parts = [f"mdtdist evaluate --model {args.model} --data {args.data} --out {args.out}"]
    parts += [f"--also {entry}" for entry in args.also]
    for name in ("name", "limit", "students", "baseline_views"):
        parts += [f"--{name.replace('_', '-')} {getattr(args, name)}"] if getattr(args, name) is not None else []
    for name, default in (("seeds", "0"), ("split", "test"), ("timed", 10), ("device", "cpu")):
        parts += [f"--{name} {getattr(args, name)}"] if getattr(args, name) != default else []
    return " ".join([*parts, *(["--no-baselines"] if args.no_baselines else [])])


def _print_baselines(baselines: Sequence["Baseline"], *, as_json: bool) -> None:
    means = {
        baseline.name: {"choice": baseline.choice}
        | {name: round(float(values.mean()), 4) for name, values in baseline.scores.items()}
        for baseline in baselines
    }
    if as_json:
        print(json.dumps(means, indent=1))
        return
    for name, row in means.items():
        scores = "  ".join(f"{key} {row[key]:.4f}" for key in ("iou", "f1", "iou16", "chamfer"))
        print(f"{name:<32} {scores}  {row['choice']}")


def _summary(record: dict[str, Any], page: Path) -> str:
    marks = {True: "yes", False: "NO "}
    lines = [f"{marks[check['holds']]}  {check['promise']}: {check['found']}" for check in record["checks"]]
    return "\n".join([*lines, f"written: {page}"])


class _Progress:
    """Progress with the time left, on standard error: one line on a terminal, a line per stage elsewhere."""

    def __init__(self) -> None:
        self._num_stages, self._finished, self._start = 0, 0, time.monotonic()

    def expect(self, num_stages: int) -> None:
        """From here on, so many stages of about one length follow."""
        self._num_stages, self._finished, self._start = num_stages, 0, time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        left = ""
        if self._num_stages:
            share = (self._finished + done / total) / self._num_stages
            self._finished += done == total
            if 0 < share <= 1:
                seconds = (time.monotonic() - self._start) * (1 - share) / share
                left = f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
        if sys.stderr.isatty():
            print(
                f"\r\033[K{stage} {done}/{total}{left}", end="\n" if done == total else "", file=sys.stderr, flush=True
            )
        elif done == total:
            print(f"{stage}{left}", file=sys.stderr, flush=True)
