"""Measure the files of any system under a protocol: ``mdtdist evaluate --assets``."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.alignment import RotationChoice, choose_rotation
from mdtdist.evaluation.assets.points import sample_surface
from mdtdist.evaluation.assets.reading import Asset3D, read_asset, turn_asset
from mdtdist.evaluation.measuring.judges import Judges
from mdtdist.evaluation.measuring.object_measures import (
    ALIGNMENT,
    IS_GREY,
    MEASURES_VERSION,
    NORMAL_METRICS,
    THUMBNAIL,
    Arrays,
    Looks,
    Subject,
    Truth,
    color_keys,
    feature_arrays,
    feature_key,
    measure_subject,
    shape_keys,
)
from mdtdist.evaluation.measuring.outputs import OutputFile, check_complete, common_seeds, digest_files
from mdtdist.evaluation.measuring.protocols import Protocol
from mdtdist.evaluation.measuring.references import Reference, ReferenceObject
from mdtdist.evaluation.measuring.store import MeasureStore, slug
from mdtdist.evaluation.measuring.summary import Measures

logger = logging.getLogger(__name__)

# progress(stage, done, total)
Progress = Callable[[str, int, int], None]
_DETECTED, _DETECTION_POINTS = 32, 1500  # objects, points of each
_LARGE = ("pictures", "normals_seen", "points", "normals")  # of a true object; not kept in memory


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the files of a system are read; one choice for all of them.

    Attributes:
        up: axis of the file that points up, "auto", or anything else that ``read_asset`` takes; "detect" reads them
            automatically and then turns all alike, as fits the true objects best.
        scale: factor, or "auto".
        choice: the turn that was detected.
    """

    up: str = "auto"
    scale: str | float = "auto"
    choice: RotationChoice | None = None

    def __call__(self, path: Path) -> Asset3D:
        """The asset of a file in object space."""
        asset = read_asset(path, up="auto" if self.up == "detect" else self.up, scale=self.scale)
        return asset if self.choice is None else turn_asset(asset, self.choice)

    def __str__(self) -> str:
        """Differs where the result would."""
        return f"up={self.up} scale={self.scale} turned={None if self.choice is None else self.choice.rotation}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One system to measure.

    Attributes:
        reference: the true objects.
        protocol: what is measured.
        judges: the networks.
        cache: folder of what was measured so far; shared by all systems.
        progress: called after every object.
    """

    reference: Reference
    protocol: Protocol
    judges: Judges
    cache: Path
    progress: Progress | None = None


@dataclass(kw_only=True)
class Measured:
    """What came of a job.

    Attributes:
        measures: arrays of the objects that were measured.
        lacking: objects left out, with the reason.
    """

    measures: Measures
    lacking: dict[str, str] = field(default_factory=dict)

    @property
    def alignments(self) -> dict[str, int]:
        """How the files were turned and scaled: sentence -> how many were."""
        parts = self.measures.outputs.values()
        return dict(Counter(str(arrays[ALIGNMENT]) for part in parts for arrays in part))


def measure_outputs(
    job: Job,
    name: str,
    outputs: Sequence[OutputFile],
    *,
    reading: Reading | None = None,
    allow_missing: bool = False,
) -> Measured:
    """Measure the files of one system.

    Args:
        job: reference, protocol and networks.
        name: of the system; its cache goes by it.
        outputs: from ``find_outputs``.
        reading: how to read the files; automatically without it.
        allow_missing: leave out objects without output, or with one that cannot be read, on both sides.

    Raises:
        InputError: if an object has no output or an unreadable one, and that is not allowed.
    """
    ids, lacking = check_complete(outputs, job.reference.ids, allow_missing=allow_missing)
    kept = [output for output in outputs if output.id in set(ids)]
    reading = reading or Reading()
    if reading.up == "detect":
        reading = replace(reading, choice=detect_turn(job, kept, reading))
    subjects = [
        Subject(
            id=output.id,
            seed=output.seed,
            digest=f"{output.digest()} {reading}",
            load=partial(_read_output, output, reading),
        )
        for output in kept
    ]
    measured = measure_subjects(job, name, subjects, common_seeds(outputs), allow_missing=allow_missing)
    measured.lacking |= {item: "no output" for item in lacking}
    return measured


def measure_subjects(
    job: Job, name: str, subjects: Sequence[Subject], seeds: Sequence[int], *, allow_missing: bool = False
) -> Measured:
    """Measure subjects of the reference's objects: one per object and seed.

    Raises:
        InputError: if one cannot be read and that is not allowed, or fewer than two are left.
    """
    by_key = {(subject.id, subject.seed): subject for subject in subjects}
    ids = [item for item in job.reference.ids if (item, seeds[0]) in by_key]
    store = MeasureStore(folder=job.cache / slug(name) / job.protocol.digest[:16])
    rows: dict[str, tuple[Arrays, list[Arrays]]] = {}
    lacking: dict[str, str] = {}
    for number, item in enumerate(ids, 1):
        mine = [by_key[item, seed] for seed in seeds]
        try:
            rows[item] = measure_object(job, store, job.reference.objects[item], mine)
        except ValueError as err:  # what a broken file provokes
            if not allow_missing:
                raise InputError(
                    f"{item} cannot be measured: {err}; mend it, or leave it out with --allow-missing"
                ) from err
            lacking[item] = f"cannot be measured: {err}"
            logger.warning("%s %s", item, lacking[item])
        if job.progress is not None:
            job.progress(name, number, len(ids))
    kept = [item for item in ids if item in rows]
    if len(kept) < 2:
        raise InputError(f"{len(kept)} objects could be measured; expected at least 2 to compare sets")
    measures = Measures(
        ids=kept,
        outputs={seed: [rows[item][1][index] for item in kept] for index, seed in enumerate(seeds)},
        truths=[rows[item][0] for item in kept],
    )
    return Measured(measures=measures, lacking=lacking)


def measure_object(
    job: Job, store: MeasureStore, item: ReferenceObject, subjects: Sequence[Subject]
) -> tuple[Arrays, list[Arrays]]:
    """The arrays of the true object and of its outputs, from the cache as far as they are there."""
    truth, side, results = measure_truth(job, item), None, []
    for subject in subjects:
        stamp = {
            "version": MEASURES_VERSION,
            "protocol": job.protocol.digest,
            "truth": item.digest(),
            "image": "" if item.image is None else digest_files([item.image]),
            "subject": subject.digest,
        }
        name = f"{subject.id}_seed{subject.seed}"
        arrays = store.load(name, stamp)
        wanted = color_keys(job.protocol, job.judges) + shape_keys(job.protocol, job.judges)
        if lacking := [key for key in wanted if key not in arrays]:
            side = side or truth_side(item, truth)
            arrays |= measure_subject(Looks(subject, job.protocol), side, job.judges, lacking)
            store.save(name, stamp, arrays)
        results.append(arrays)
    return {key: value for key, value in truth.items() if key not in _LARGE}, results


def measure_truth(job: Job, item: ReferenceObject) -> Arrays:
    """Features of a true object, and what outputs are compared with: made once, for all systems."""
    store = MeasureStore(folder=job.cache / "reference" / job.protocol.digest[:16])
    stamp = {"version": MEASURES_VERSION, "protocol": job.protocol.digest, "truth": item.digest()}
    arrays = store.load(item.id, stamp)
    wanted = [feature_key(network) for network in job.judges.networks.values()]
    wanted += ["points"] if job.protocol.needs_points else []
    wanted += ["pictures"] if {"psnr", "ssim", "lpips"} & set(job.protocol.metrics) else []
    wanted += ["normals_seen"] if set(NORMAL_METRICS) & set(job.protocol.metrics) else []
    if lacking := [key for key in wanted if key not in arrays]:
        looks = Looks(Subject(id=item.id, digest="", load=item.read), job.protocol)
        arrays |= _look_at_truth(looks, job.judges, lacking)
        store.save(item.id, stamp, arrays)
    return arrays


def _look_at_truth(looks: Looks, judges: Judges, keys: Sequence[str]) -> Arrays:
    arrays: Arrays = {IS_GREY: np.array(looks.is_grey)}
    if any(key != "points" for key in keys):
        arrays |= feature_arrays(looks, judges, keys) | {THUMBNAIL: looks.thumbnail}
        arrays |= {"pictures": looks.pictures} if "pictures" in keys else {}
        arrays |= {"normals_seen": looks.normal_pictures} if "normals_seen" in keys else {}
    if "points" in keys:
        points, normals = looks.points
        arrays["points"] = points.astype(np.float32)
        arrays |= {} if normals is None else {"normals": normals.astype(np.float32)}
    return arrays


def truth_side(item: ReferenceObject, arrays: Arrays) -> Truth:
    """What an output is compared with, from the arrays of the true object."""
    points, normals = (None if key not in arrays else arrays[key].astype(np.float64) for key in ("points", "normals"))
    seen = {key: arrays.get(key) for key in ("pictures", "normals_seen")}
    return Truth(**seen, points=points, normals=normals, image=item.picture())


def _read_output(output: OutputFile, reading: Reading) -> Asset3D | None:
    return None if output.is_empty else reading(output.path)


def detect_turn(job: Job, outputs: Sequence[OutputFile], reading: Reading) -> RotationChoice:
    """The axis rotation under which the outputs of the first seed fit the true objects best, one for all.

    Raises:
        InputError: if a file cannot be read.
    """
    seed, seen = common_seeds(outputs)[0], [output for output in outputs if not output.is_empty]
    chosen = [output for output in seen if output.seed == seed]
    rows = np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), _DETECTED)).round().astype(int))
    made, true = [], []
    for done, output in enumerate((chosen[row] for row in rows), 1):
        made.append(np.asarray(sample_surface(reading(output.path), _DETECTION_POINTS, seed=0)[0]))
        true.append(np.asarray(sample_surface(job.reference.objects[output.id].read(), _DETECTION_POINTS, seed=0)[0]))
        if job.progress is not None:
            job.progress("which way is up", done, len(rows))
    return choose_rotation(made, true)
