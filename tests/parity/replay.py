"""Replay recorded cases and compare: ``python -m tests.parity DIR [--only PREFIX ...]``."""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.families import FAMILIES, Case


@dataclass(frozen=True)
class Verdict:
    """What came of one case.

    Attributes:
        status: "ok", "differs", "missing" (no code for the family yet) or "error".
        difference: largest |difference| / max(1, max|value|) over the recorded tensors.
        detail: where the largest difference is, or what went wrong.
    """

    status: str
    difference: float = float("inf")
    detail: str = ""


def tolerance(name: str, tensor: str = "") -> float:
    """1e-5; distillation cases divide differences by a small step and get 5e-5, evaluation networks get 5e-6
    and their distances 1e-7.

    The resampled position tables of DINOv2 keep 1e-5: their reference computed source coordinates in float32.
    """
    if name == "eval_frechet":  # float64 throughout
        return 1e-7
    if name.startswith("eval_") and not tensor.startswith("pos."):
        return 5e-6
    return 5e-5 if name.startswith("mdt_") else 1e-5


def read_case(folder: Path, name: str) -> Case:
    """The json and the tensors of a case."""
    parts: dict[str, dict[str, Tensor]] = {"weight": {}, "input": {}, "output": {}}
    for file in (f"{name}.safetensors", f"{name}.out.safetensors"):  # some cases keep their outputs apart
        for key, value in load_file(folder / file).items() if (folder / file).exists() else ():
            kind, _, rest = key.partition(".")
            parts[kind][rest] = value
    config = json.loads((folder / f"{name}.json").read_text())
    return Case(config, parts["weight"], parts["input"], parts["output"])


def differences(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """|difference| / max(1, max|value|) of every recorded tensor; infinite if absent, misshapen or no number."""
    found = {}
    for name, reference in expected.items():
        if name not in actual or actual[name].shape != reference.shape:
            found[f"{name} (absent or of another shape)"] = float("inf")
            continue
        gap = (actual[name].double() - reference.double()).abs().max() / reference.double().abs().max().clamp_min(1)
        found[name] = float(gap.nan_to_num(torch.inf))
    return found


def largest_difference(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, str]:
    """The largest of the :func:`differences` and the tensor it is in."""
    return max(((gap, name) for name, gap in differences(actual, expected).items()), default=(0.0, ""))


@torch.no_grad()
def replay(folder: Path, name: str) -> Verdict:
    """Run one case."""
    if name not in FAMILIES:
        return Verdict("missing")
    try:
        case = read_case(folder, name)
        gaps = differences(FAMILIES[name](case), case.outputs)
    except Exception as err:  # one broken case must not hide the others
        traceback.print_exc(file=sys.stderr)
        return Verdict("error", detail=f"{type(err).__name__}: {err}")
    where = max(gaps, key=lambda tensor: gaps[tensor] / tolerance(name, tensor))
    return Verdict("ok" if gaps[where] <= tolerance(name, where) else "differs", gaps[where], where)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per case; 0 if all are inside tolerance, 1 if one is not, 2 if there is nothing to replay."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of <case>.json and <case>.safetensors")
    parser.add_argument("--only", nargs="+", metavar="PREFIX", help="replay only cases whose name starts so")
    args = parser.parse_args(argv)
    names = sorted(path.stem for path in args.folder.glob("*.json"))
    chosen = [name for name in names if args.only is None or name.startswith(tuple(args.only))]
    unused = [prefix for prefix in args.only or () if not any(name.startswith(prefix) for name in names)]
    if not chosen or unused:
        print(f"{args.folder} has no case {'named ' + ', '.join(unused) if unused else 'at all'}", file=sys.stderr)
        return 2
    failed = 0
    for name in chosen:
        verdict = replay(args.folder, name)
        failed += verdict.status != "ok"
        number = f"{verdict.difference:.1e}" if verdict.status in ("ok", "differs") else "-"
        print(f"{name:28s} {verdict.status:8s} {number:8s} {verdict.detail}".rstrip())
    print(f"{len(chosen) - failed} of {len(chosen)} cases inside tolerance")
    return int(failed > 0)
