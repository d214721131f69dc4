"""``mdtdist evaluate --assets``: the arguments and the run of a measurement of exported files."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.cli.generate import check_writable
from mdtdist.errors import InputError

if TYPE_CHECKING:
    from mdtdist.evaluation.measuring.measure import Job
    from mdtdist.evaluation.measuring.outputs import OutputFile
    from mdtdist.evaluation.measuring.records import Record, System

KINDS = ("teacher", "student", "baseline", "other", "calibration")


def add_assets_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a measurement of files."""
    group = parser.add_argument_group(
        "exported files of any system",
        "Files are called <id>.glb (.ply, .obj ...), <id>_seed0.glb, seed0/<id>.glb or <id>/<any name>.glb, after the "
        "objects of --reference. What is measured is kept in OUT/cache: an interrupted run goes on.",
    )
    group.add_argument("--assets", metavar="DIR", help="folder with the files that the system exported")
    group.add_argument(
        "--protocol",
        default="shipped-test",
        metavar="ID|FILE",
        help="shipped protocol (shipped-test, trellis-toys4k, mdt-toys4k-3218) or a .toml file (default: shipped-test)",
    )
    group.add_argument(
        "--reference",
        metavar="DIR",
        help="true objects: a prepared folder (ids are sha256; see --split) or a folder of model files (ids are stems)",
    )
    group.add_argument("--images", metavar="DIR", help="condition pictures <id>.png (default: the prepared folder's)")
    group.add_argument("--models", metavar="DIR", help="source models of a prepared folder (default: its own)")
    group.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="public weights of a judge: inception, dinov2, dinov2_reg, clip, lpips, lpips_trunk, ulip1, ulip2, uni3d, "
        "ulip1_tower, ulip2_tower, uni3d_tower; may be repeated. A metric without weights is listed as not measured",
    )
    group.add_argument("--format", metavar="SUFFIX", help="only files that end so, where there are several per object")
    group.add_argument(
        "--up",
        default="auto",
        help="axis of the files that points up: x, y, z, or --up=-y and so on, with the axis of the front y:+x; an "
        "exporter: trellis, lgm, gltf; auto: by the format; detect: as fits the true objects best, one turn for all "
        "files (default: auto)",
    )
    group.add_argument(
        "--scale",
        default="auto",
        help="factor to object units, 1 for systems that fill the unit cube; auto: longest side 1 (default: auto)",
    )
    group.add_argument("--allow-missing", action="store_true", help="leave objects without output out on both sides")
    group.add_argument(
        "--calibration",
        action="store_true",
        help="measure the true objects against themselves, and with --model its VAE reconstruction",
    )
    _add_system_arguments(parser)


def _add_system_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the record says of the system")
    group.add_argument("--system", metavar="NAME", help="its name (default: that of the folder)")
    group.add_argument("--kind", default="other", choices=KINDS, help="what it is to the tables (default: other)")
    group.add_argument("--steps", metavar="A+B", help="sampler steps of both stages (default: as the files say)")
    group.add_argument("--nfe", metavar="A+B", help="network evaluations of both stages (default: as the files say)")
    group.add_argument("--guided", action=argparse.BooleanOptionalAction, default=None, help="guidance was on or off")


def run_assets(args: argparse.Namespace) -> int:
    """Check everything, measure, write the record, print the table."""
    if args.reference is None or args.out is None:
        raise InputError("--assets and --calibration need --reference DIR (the true objects) and --out DIR")
    weights = parse_weights(args.weights)
    system = {"steps": parse_pair(args.steps, "steps"), "nfe": parse_pair(args.nfe, "nfe"), "guided": args.guided}
    if args.scale != "auto":
        args.scale = _parse_scale(args.scale)
    out = check_writable(args.out)

    from mdtdist.evaluation.measuring.judges import check_weights, load_judges
    from mdtdist.evaluation.measuring.measure import Job
    from mdtdist.evaluation.measuring.protocols import load_protocol
    from mdtdist.evaluation.measuring.references import open_reference

    protocol = load_protocol(args.protocol)
    check_weights(weights)
    images, models = (None if name is None else Path(name) for name in (args.images, args.models))
    reference = open_reference(Path(args.reference), images=images, models=models, split=args.split, limit=args.limit)
    if protocol.num_objects not in (None, len(reference.ids)):
        print(
            f"mdtdist: note: the reference has {len(reference.ids)} objects; {protocol.id} has {protocol.num_objects}",
            file=sys.stderr,
        )
    outputs = _find_outputs(args, reference.ids)
    judges = load_judges(protocol, weights, has_images=reference.has_images, device=args.device)
    job = Job(reference=reference, protocol=protocol, judges=judges, cache=out / "cache", progress=StepProgress())
    records = [] if args.assets is None else [_measure_assets(job, outputs, system, args, out)]
    if args.calibration:
        from mdtdist.evaluation.measuring.calibration import save_rows

        records += save_rows(job, out, command=command_line(), model=args.model, device=args.device)
    _print(records, out, as_json=args.json)
    return 0


def parse_weights(entries: Sequence[str]) -> dict[str, Path]:
    """``NAME=FILE`` entries as a mapping.

    Raises:
        InputError: if an entry has another form.
    """
    pairs = [entry.partition("=") for entry in entries]
    for entry, (name, _, file) in zip(entries, pairs, strict=True):
        if not (name and file):
            raise InputError(f"weights is {entry!r}; expected NAME=FILE, for example dinov2=dinov2_vitl14_pretrain.pth")
    return {name: Path(file).expanduser() for name, _, file in pairs}


def parse_pair(text: str | None, name: str) -> tuple[int, int] | None:
    """``A+B``, or one number for both stages.

    Raises:
        InputError: if it is anything else, or a number is below 1.
    """
    if text is None:
        return None
    parts = text.replace(",", "+").split("+")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"{name} is {text!r}; expected two whole numbers from 1 up as A+B, for example 25+25")
    return int(parts[0]), int(parts[-1])


def _parse_scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise InputError(f"scale is {text!r}; expected 'auto' or a factor above 0")
    return scale


def _find_outputs(args: argparse.Namespace, ids: Sequence[str]) -> "list[OutputFile]":
    from mdtdist.evaluation.measuring.outputs import check_complete, find_outputs

    if args.assets is None:
        return []
    outputs = find_outputs(Path(args.assets), set(ids), suffix=args.format)
    check_complete(outputs, ids, allow_missing=args.allow_missing)
    return outputs


def _measure_assets(
    job: "Job", outputs: "Sequence[OutputFile]", given: dict[str, Any], args: argparse.Namespace, out: Path
) -> "Record":
    from mdtdist.evaluation.measuring.measure import Reading, measure_outputs
    from mdtdist.evaluation.measuring.measured_record import Story, save_measured
    from mdtdist.evaluation.measuring.outputs import generation_facts

    facts = generation_facts(outputs)
    system = _system(args, given, facts)
    reading = Reading(up=args.up, scale=args.scale)
    measured = measure_outputs(job, system.name, outputs, reading=reading, allow_missing=args.allow_missing)
    story = Story(
        system=system,
        command=command_line(),
        alignment={"up": args.up, "scale": args.scale},
        seconds=facts.get("seconds"),
    )
    return save_measured(job, measured, story, out)


def _system(args: argparse.Namespace, given: dict[str, Any], facts: dict[str, Any]) -> "System":
    """What was said on the command line, else what the files say of themselves."""
    from mdtdist.evaluation.measuring.records import System

    steps, nfe = (given[key] or facts.get(key) for key in ("steps", "nfe"))
    name = args.system or Path(args.assets).resolve().name
    return System(name=name, kind=args.kind, steps=steps, nfe=nfe, guided=given["guided"])


class StepProgress:
    """Time left in a step, on standard error: one line on a terminal, elsewhere a line per tenth of a long step."""

    def __init__(self) -> None:
        self._label, self._start, self._first = "", 0.0, 0

    def __call__(self, label: str, done: int, total: int) -> None:
        if label != self._label:
            self._label, self._start, self._first = label, time.monotonic(), done
        left = ""
        if self._first < done < total:
            seconds = (time.monotonic() - self._start) / (done - self._first) * (total - done)
            left = f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
        if sys.stderr.isatty():
            print(
                f"\r\033[K{label} {done}/{total}{left}", end="\n" if done == total else "", file=sys.stderr, flush=True
            )
        elif done == total or (total >= 20 and done % (total // 10) == 0):
            print(f"{label} {done}/{total}{left}", file=sys.stderr, flush=True)


def command_line() -> str:
    """What was typed, so that a reader of the record can type it again."""
    return shlex.join(["mdtdist", *sys.argv[1:]])


def _print(records: "Sequence[Record]", out: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from mdtdist.evaluation.measuring.store import slug
    from mdtdist.evaluation.measuring.summary import format_table

    if as_json:
        print(json.dumps([asdict(record) for record in records], indent=1))
        return
    for record in records:
        print(f"{record.system.name}: {record.num_objects} objects, protocol {record.protocol.id}")
        print(format_table(record.metrics, record.not_measured))
        for line in (*record.notes, *(f"{count} files: {how}" for how, count in record.alignment["found"].items())):
            print(f"note: {line}")
        print(f"written: {out / slug(record.system.name)}.json\n")
