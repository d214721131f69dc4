"""The record and the picture of a measured system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from mdtdist.evaluation.measuring.measure import Job, Measured
from mdtdist.evaluation.measuring.object_measures import EMPTY, MEASURES_VERSION, THUMBNAIL, THUMBNAIL_SIZE
from mdtdist.evaluation.measuring.records import (
    ProtocolReference,
    Record,
    System,
    objects_digest,
    package_versions,
    time_stamp,
    write_record,
)
from mdtdist.evaluation.measuring.references import Reference
from mdtdist.evaluation.measuring.store import slug
from mdtdist.evaluation.measuring.summary import Summary, summarize
from mdtdist.evaluation.model_benchmark.timing import describe_machine
from mdtdist.files import appear_whole

NUM_SHOWN = 8  # objects in the picture beside a record
_SEPARATION = 4  # pixels


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is known of a system beside its files.

    Attributes:
        system: name, kind, steps, evaluations.
        command: that measures it.
        alignment: what was asked for, ``up`` and ``scale``.
        seconds: stage -> median seconds of generation.
        memory_bytes: peak memory of generation.
        notes: what a reader has to know beside the numbers.
    """

    system: System
    command: str
    alignment: Mapping[str, Any]
    seconds: Mapping[str, float] | None = None
    memory_bytes: int | None = None
    notes: tuple[str, ...] = ()


def save_measured(job: Job, measured: Measured, story: Story, out: Path) -> Record:
    """Compute the numbers, write ``<name>.png`` and, last, ``<name>.json`` into ``out``."""
    summary = summarize(measured.measures, job.protocol, job.judges, progress=job.progress)
    return save_summary(job, measured, story, summary, out)


def save_summary(job: Job, measured: Measured, story: Story, summary: Summary, out: Path) -> Record:
    """Write the picture and the record of numbers that are there already."""
    out.mkdir(parents=True, exist_ok=True)
    name = slug(story.system.name)
    pictures = _save_picture(out / f"{name}.png", job.reference, measured)
    record = _record(job, measured, story, summary, pictures)
    write_record(out / f"{name}.json", record)
    return record


def _record(job: Job, measured: Measured, story: Story, summary: Summary, pictures: tuple[str, ...]) -> Record:
    ids = tuple(measured.measures.ids)
    return Record(
        system=story.system,
        protocol=ProtocolReference(id=job.protocol.id, digest=job.protocol.digest),
        num_objects=len(ids),
        objects_digest=objects_digest(ids),
        objects=ids,
        seeds=tuple(measured.measures.outputs),
        alignment={**story.alignment, "found": measured.alignments},
        metrics=dict(summary.metrics),
        not_measured=summary.not_measured,
        notes=(*story.notes, *_notes(job, measured)),
        seconds=None if story.seconds is None else dict(story.seconds),
        memory_bytes=story.memory_bytes,
        machine=describe_machine(torch.device("cpu")),
        command=story.command,
        made=time_stamp(),
        versions={**package_versions(), "measures": MEASURES_VERSION},
        pictures=pictures,
        per_object=dict(summary.per_object),
    )


def _notes(job: Job, measured: Measured) -> list[str]:
    """What makes this record differ from what its protocol promises."""
    notes, ids = [], measured.measures.ids
    if job.protocol.num_objects not in (None, len(ids)):
        notes.append(f"{len(ids)} objects; the protocol has {job.protocol.num_objects}, so no number compares with it")
    if measured.lacking:
        first, reason = next(iter(measured.lacking.items()))
        notes.append(f"{len(measured.lacking)} objects are left out on both sides, the first is {first}: {reason}")
    if num_empty := measured.alignments.get(EMPTY, 0):
        notes.append(f"{num_empty} outputs are empty and count as such")
    return notes


def _save_picture(path: Path, reference: Reference, measured: Measured) -> tuple[str, ...]:
    """Rows of condition picture, true object and output (first seed) of the first objects by order of id."""
    outputs = next(iter(measured.measures.outputs.values()))
    rows = [
        (reference.objects[name].picture(), truth[THUMBNAIL], made[THUMBNAIL])
        for name, truth, made in zip(measured.measures.ids, measured.measures.truths, outputs, strict=True)
        if THUMBNAIL in truth and THUMBNAIL in made
    ][:NUM_SHOWN]
    if not rows:
        return ()
    with appear_whole(path) as partial:
        _draw_rows(rows).save(partial, "PNG", optimize=True)
    return (path.name,)


def _draw_rows(rows: Sequence[tuple[Image.Image | None, np.ndarray, np.ndarray]]) -> Image.Image:
    """Three columns with a heading."""
    step, top = THUMBNAIL_SIZE + _SEPARATION, 16
    sheet = Image.new("RGB", (3 * step - _SEPARATION, top + len(rows) * step - _SEPARATION), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(("condition", "true", "output")):
        draw.text((column * step + 2, 2), label, fill="black")
    for number, (image, *thumbnails) in enumerate(rows):
        if image is not None:
            rgba = image.convert("RGBA")
            rgba.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
            sheet.paste(rgba, (0, top + number * step), rgba)
        for column, pixels in enumerate(thumbnails, 1):
            sheet.paste(Image.fromarray(pixels.transpose(1, 2, 0)), (column * step, top + number * step))
    return sheet
