"""Make the model small, one stage after the other: ``python recipes/small/run.py``.

Every stage is one command, which is printed, and which can be run by hand as well; a stage whose result is there is
left out, and an interrupted one goes on where it stopped. With ``--dry-run`` all stages run on a few objects and for
a few steps, on a CPU in minutes: nothing can be seen in the result but that everything fits together.

    python recipes/small/run.py --device cuda                        all of it
    python recipes/small/run.py --device cuda --minutes 9 --only ss_flow
                                                                     stop after 9 minutes; the same command goes on
    python recipes/small/run.py --dry-run --root runs/small_dry
"""

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = Path("runs/small")  # as the configs have it
NUM_GENERATED = 2400  # beside 642 real training objects in 6 turns each
# A dry run: real and generated objects of the bundle, turns of each; samples and batch of every training.
DRY_OBJECTS, DRY_GENERATED, DRY_TURNS = 20, 4, 2
DRY_SAMPLES, DRY_BATCH = 4, 2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command.

    Attributes:
        name: on the command line; of a training also its config file and its folder below the root.
        kind: "train" and "distill" have a config; "script" is any other command.
        product: what is there when it is done, below the root.
        words: the command of a script; ``{root}`` and ``{device}`` are filled in.
        dry_words: what a dry run adds.
    """

    name: str
    kind: str
    product: str
    words: str = ""
    dry_words: str = ""


def _training(name: str, product: str, *, kind: str = "train", dry_words: str = "") -> Stage:
    return Stage(name=name, kind=kind, product=f"{name}/{product}.safetensors", dry_words=dry_words)


def _student(name: str, *, stores: bool = False) -> Stage:
    dry_words = "--distil.teacher_steps 2" + (" --distil.trajectories.num_batches 2" if stores else "")
    return _training(name, "student", kind="distill", dry_words=dry_words)


def _pack(variant: str, folder: str) -> Stage:
    words = f"python {HERE.parent}/pack.py {HERE} --variant {variant} --runs {{root}} --out {{root}}/{folder}"
    return Stage(name=f"pack_{variant}", kind="script", product=f"{folder}/pipeline.json", words=words)


STAGES = (
    Stage(
        name="objects",
        kind="script",
        product="bundles/objects.bundle",
        words=f"python {HERE}/make_bundle.py --out {{root}}/bundles/objects.bundle",
        dry_words=f"--limit {DRY_OBJECTS}",
    ),
    Stage(
        name="generated",
        kind="script",
        product="bundles/generated.bundle",
        words=f"python {HERE}/make_bundle.py --generated {NUM_GENERATED} --out {{root}}/bundles/generated.bundle",
        dry_words=f"--limit {DRY_GENERATED}",
    ),
    Stage(
        name="data",
        kind="script",
        product="data/prepare_report.html",
        words="mdtdist prepare {root}/bundles --out {root}/data --layout small",
        dry_words=f"--turns {DRY_TURNS}",
    ),
    _training("ss_vae", "ss_dec"),
    _training("slat_vae", "slat_dec_gs"),
    _training("ss_flow", "flow"),
    _training("slat_flow", "flow"),
    _student("ss_student_ours"),
    _student("ss_student_endpoint", stores=True),
    _student("slat_student_ours"),
    _student("slat_student_endpoint", stores=True),
    _training("slat_dec_mesh", "slat_dec_mesh"),
    _student("ss_student_paper"),
    _student("slat_student_paper"),
    _student("ss_student_pcm"),
    _student("slat_student_pcm"),
    _pack("teacher", "model"),
    _pack("paper", "model_paper"),
    _pack("pcm", "model_pcm"),
    Stage(
        name="evaluate",
        kind="script",
        product="results/small.md",
        words="mdtdist evaluate --model {root}/model --data {root}/data --out {root}/results --name small "
        "--no-baselines --device {device} --also 'VM+VD (paper)={root}/model_paper' --also PCM={root}/model_pcm",
        dry_words="--limit 2 --timed 1",
    ),
)


def command_of(stage: Stage, *, root: Path, device: str, dry: bool) -> list[str]:
    """The words of a stage's command."""
    if stage.kind == "script":
        words = shlex.split(stage.words.format(root=root, device=device))
    else:
        words = ["mdtdist", stage.kind, str(config_of(stage.name, root))]
        words += [] if device == "cpu" else ["--trainer.device", device]
        if dry:
            words += ["--trainer.num_samples", str(DRY_SAMPLES), "--trainer.batch_size", str(DRY_BATCH)]
    return words + (shlex.split(stage.dry_words) if dry else [])


def config_of(name: str, root: Path) -> Path:
    """The config of a training; with another root, a copy in which the paths are below that."""
    path = HERE / f"{name}.toml"
    if root == ROOT:
        return path
    copy = root / "configs" / path.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(path.read_text().replace(f"{ROOT}/", f"{root}/"))
    return copy


def chosen(only: Sequence[str], root: Path) -> Iterator[Stage]:
    """The stages that are still to be run, in order."""
    if unknown := set(only) - {stage.name for stage in STAGES}:
        raise SystemExit(f"unknown stage {min(unknown)!r}; choose among {', '.join(stage.name for stage in STAGES)}")
    for stage in STAGES:
        if (not only or stage.name in only) and not (root / stage.product).exists():
            yield stage


def run_until(words: Sequence[str], deadline: float) -> int | None:
    """Run a command of this Python's environment; None if it was asked to stop at the deadline."""
    program = [sys.executable, *words[1:]] if words[0] == "python" else _mdtdist(words[1:])
    process = subprocess.Popen(program)
    try:
        return process.wait(None if deadline == float("inf") else max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # a training saves what it has and ends
        process.wait()
        return None


def _mdtdist(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "mdtdist.cli.main", *words]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="of all results (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=(), metavar="STAGE", help="these stages, in their order")
    parser.add_argument("--device", default="cpu", help="of the trainings (default: cpu)")
    parser.add_argument("--minutes", type=float, help="stop then; a training saves what it has")
    parser.add_argument("--dry-run", action="store_true", help="a few objects and steps; give another --root")
    args = parser.parse_args()
    if args.dry_run and args.root == ROOT:
        parser.error(f"--dry-run would leave its results in {ROOT}; give another --root")
    deadline = float("inf") if args.minutes is None else time.monotonic() + 60 * args.minutes
    for stage in chosen(args.only, args.root):
        words = command_of(stage, root=args.root, device=args.device, dry=args.dry_run)
        print(f"\n[{stage.name}] {shlex.join(words)}", flush=True)
        start = time.monotonic()
        code = run_until(words, deadline)
        if code is None:
            print(f"[{stage.name}] stopped after {args.minutes:g} minutes; the same command goes on", flush=True)
            return 0
        if code or not (args.root / stage.product).exists():
            print(f"[{stage.name}] failed with exit code {code}; what follows needs it", file=sys.stderr)
            return 1
        print(f"[{stage.name}] {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
