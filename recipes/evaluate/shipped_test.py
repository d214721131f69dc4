"""Measure teacher and students of the shipped model as files: ``python recipes/evaluate/shipped_test.py``.

Generates every object of the test split with every system of the table, writes it as a splat PLY, and measures the
files under the protocol `shipped-test`, as `mdtdist evaluate --assets` does with those of any other system. At the end
come the calibration rows. An interrupted run goes on where it stopped. Run it from the root of the repository, after
`mdtdist prepare --source sweethome --out runs/data`.

    python recipes/evaluate/shipped_test.py --limit 3     # a trial
    python recipes/evaluate/shipped_test.py --plan recipes/compare/methods.toml    # the students of the comparison too
    mdtdist evaluate --assets runs/evaluate/assets/student_1+1 --reference runs/data --out runs/evaluate \
        --scale 1 --system "student 1+1"                  # one system again
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdtdist.cli.evaluate_assets import StepProgress, command_line, parse_weights
from mdtdist.evaluation.measuring.calibration import save_rows
from mdtdist.evaluation.measuring.judges import load_judges
from mdtdist.evaluation.measuring.measure import Job, Reading, measure_outputs
from mdtdist.evaluation.measuring.measured_record import Story, save_measured
from mdtdist.evaluation.measuring.outputs import EMPTY_SUFFIX, OutputFile, generation_facts
from mdtdist.evaluation.measuring.protocols import load_protocol
from mdtdist.evaluation.measuring.records import Record, System
from mdtdist.evaluation.measuring.references import Reference, open_reference
from mdtdist.evaluation.measuring.store import slug
from mdtdist.evaluation.measuring.summary import format_table
from mdtdist.files import appear_whole
from mdtdist.pipelines import EmptyStructureError, ImageTo3D


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system of the table.

    Attributes:
        flows: "student" or "teacher".
        method: how the students were made, where they are not those of the model.
        students: their weights.
    """

    flows: str
    steps: tuple[int, int]
    guided: bool
    method: str = ""
    students: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """As `mdtdist evaluate --model` calls it."""
        how = (" guided" if self.guided else " unguided") if self.flows == "teacher" else ""
        who = f"{self.flows} {self.method}".strip()
        return f"{who} {self.steps[0]}+{self.steps[1]}{how}"


ROWS = (
    Row(flows="student", steps=(1, 1), guided=False),
    Row(flows="student", steps=(1, 2), guided=False),
    Row(flows="student", steps=(2, 2), guided=False),
    Row(flows="teacher", steps=(1, 1), guided=True),
    Row(flows="teacher", steps=(1, 1), guided=False),
    Row(flows="teacher", steps=(25, 25), guided=True),
)


def compared_rows(path: Path) -> list[Row]:
    """The students of ``recipes/compare``: those of the first seed of every method that is trained for both flows."""
    sys.path.insert(0, str(path.parent.resolve()))
    from plan import STAGES, read_plan

    plan, rows = read_plan(path), []
    for method in plan.methods:
        factors = [plan.chosen(stage).get(method.name) for stage in STAGES]
        if None in factors:
            continue
        pairs = zip(STAGES, factors, strict=True)
        runs = (plan.run(stage, method, factor, plan.seeds[0]) for stage, factor in pairs)
        students = tuple(run.folder / "student.safetensors" for run in runs)
        for steps in ((1, 1), (2, 2)):
            rows.append(Row(flows="student", steps=steps, guided=False, method=method.name, students=students))
    return rows


def generate(pipe: ImageTo3D, row: Row, reference: Reference, folder: Path, progress: StepProgress) -> list[OutputFile]:
    """The outputs of a system; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = []
    for number, (name, item) in enumerate(reference.objects.items(), 1):
        made = next((p for p in (folder / f"{name}.ply", folder / f"{name}{EMPTY_SUFFIX}") if p.exists()), None)
        outputs.append(
            OutputFile(id=name, seed=0, path=made or _generate_one(pipe, row, item.picture(), folder / name))
        )
        progress(f"{row.name}: generate", number, len(reference.objects))
    return outputs


def _generate_one(pipe: ImageTo3D, row: Row, image: Any, stem: Path) -> Path:
    options: dict[str, Any] = {"cfg_strength": 0.0} if row.flows == "teacher" and not row.guided else {}
    path = stem.with_name(f"{stem.name}.ply")
    try:
        asset = pipe(image, steps=row.steps, flows=row.flows, decoders=("gs",), seed=0, **options)
    except EmptyStructureError:
        path = stem.with_name(f"{stem.name}{EMPTY_SUFFIX}")
        path.touch()
        return path
    with appear_whole(stem.with_name(f"{stem.name}.json")) as partial:  # first: the PLY says that an object is done
        partial.write_text(json.dumps(asset.metadata(), indent=1) + "\n")
    return asset.save(path)


def measure(job: Job, row: Row, outputs: list[OutputFile], out: Path) -> Record:
    """Measure one system and write its record."""
    facts = generation_facts(outputs)
    system = System(name=row.name, kind=row.flows, steps=row.steps, nfe=facts.get("nfe"), guided=row.guided)
    # The model makes objects in the cube of the references; how large it makes them is a part of its result.
    measured = measure_outputs(job, row.name, outputs, reading=Reading(scale=1.0))
    story = Story(
        system=system,
        command=_command(),
        alignment={"up": "auto", "scale": 1.0},
        seconds=facts.get("seconds"),
        notes=("seconds are medians over the objects, each generated alone; the first one loads the networks",),
    )
    return save_measured(job, measured, story, out)


def _command() -> str:
    return command_line().replace("mdtdist", "python recipes/evaluate/shipped_test.py", 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/evaluate"))
    parser.add_argument("--limit", type=int, help="only the first objects by order of id")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--plan", type=Path, metavar="METHODS.toml", help="also the students that this comparison made")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help='only these systems, for example "student 1+1"')
    parser.add_argument("--no-calibration", action="store_true")
    args = parser.parse_args()
    progress, protocol = StepProgress(), load_protocol("shipped-test")
    reference = open_reference(args.data, limit=args.limit)
    judges = load_judges(protocol, parse_weights(args.weights), has_images=reference.has_images)
    job = Job(reference=reference, protocol=protocol, judges=judges, cache=args.out / "cache", progress=progress)
    rows = [*ROWS, *(compared_rows(args.plan) if args.plan else ())]
    for row in (row for row in rows if args.rows is None or row.name in args.rows):
        pipe = ImageTo3D.from_pretrained(args.model, student=row.students)
        outputs = generate(pipe, row, reference, args.out / "assets" / slug(row.name), progress)
        record = measure(job, row, outputs, args.out)
        print(f"{row.name}\n{format_table(record.metrics, record.not_measured)}\n", flush=True)
    if not args.no_calibration:
        for record in save_rows(job, args.out, command=_command(), model=args.model):
            print(f"{record.system.name}\n{format_table(record.metrics, record.not_measured)}\n", flush=True)


if __name__ == "__main__":
    main()
