"""Evaluation records as the report reads them, made up but with the fields of real ones."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mdtdist.evaluation.measuring.records import Metric, ProtocolReference, Record, System, objects_digest, write_record

DIGEST, OTHER_DIGEST = "a1" * 32, "b2" * 32
OBJECTS = tuple(f"object{number:02d}" for number in range(12))
NETWORKS = {"fd_dinov2": "dinov2 5f1e0c2a, 224 px", "kd_dinov2": "dinov2 5f1e0c2a, 224 px", "ulip2": "ulip2 77aa01be"}
SIDE = 48  # pixels of a tile of the sheet beside a record


def metric(
    value: float, *, name: str = "fd_dinov2", half: float | None = 2.0, n: int = 12, network: str | None = None
) -> Metric:
    """A number with an interval of ``half`` on both sides."""
    is_distance = name.startswith(("fd_", "kd_", "chamfer"))
    return Metric(
        value=value,
        low=None if half is None else value - half,
        high=None if half is None else value + half,
        better="lower" if is_distance else "higher",
        unit="x 100" if name.startswith(("kd_", "ulip")) else "",
        n=n,
        network=NETWORKS.get(name, "") if network is None else network,
    )


def save_record(
    folder: Path,
    name: str,
    kind: str,
    steps: tuple[int, int] | None,
    *,
    metrics: dict[str, Metric],
    file: str | None = None,
    seconds: float | None = None,
    digest: str = DIGEST,
    with_picture: bool = False,
    **changes: Any,
) -> Path:
    """Write one record, and the sheet of pictures beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = file or "".join(letter if letter.isalnum() else "_" for letter in name)
    is_guided = kind == "teacher" and "unguided" not in name
    nfe = None if steps is None else (steps[0] * (1 + is_guided), steps[1] * (1 + is_guided))
    if with_picture:
        save_sheet(folder / f"{file}.png", seed=len(name))
    values: dict[str, Any] = {
        "system": System(name=name, kind=kind, steps=steps, nfe=nfe, guided=is_guided),
        "protocol": ProtocolReference(id="shipped-test", digest=digest),
        "num_objects": len(OBJECTS),
        "objects_digest": objects_digest(OBJECTS),
        "objects": OBJECTS,
        "seeds": (0, 1),
        "alignment": {"up": "auto", "scale": "auto"},
        "metrics": metrics,
        "seconds": None if seconds is None else {"structure": seconds / 4, "latent": 3 * seconds / 4},
        "memory_bytes": 2 * 2**30,
        "machine": "made-up processor, 2 cores",
        "command": f"mdtdist evaluate --assets out/{file} --protocol shipped-test",
        "made": "2026-01-02T03:04:05+00:00",
        "versions": {"mdtdist": "0.1.0", "torch": "2.9.0"},
        "pictures": (f"{file}.png",) if with_picture else (),
    }
    write_record(folder / f"{file}.json", Record(**{**values, **changes}))
    return folder / f"{file}.json"


def save_sheet(path: Path, *, seed: int, rows: int = 3) -> None:
    """Condition image, true object and output, each of one colour, under a heading; as the evaluation writes it."""
    step = SIDE + 4
    sheet = np.full((16 + rows * step - 4, 3 * step - 4, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(3):
            top, left = 16 + row * step, column * step
            shade = (40 + 60 * row, 80 * column, (seed * 37 + 50 * row) % 256 if column == 2 else 10)
            sheet[top : top + SIDE, left : left + SIDE] = shade
    Image.fromarray(sheet).save(path)
