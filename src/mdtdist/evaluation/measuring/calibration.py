"""Rows that say how a table is to be read: the true objects against themselves, and the decoder's own limit.

- *halves*: random disjoint halves of the true objects against each other. What a distance is between two samples of one
  distribution, at half the number of objects.
- *other cameras*: the true objects seen from cameras a few degrees aside, against themselves. What a distance is when
  nothing but the rendering differs: a system cannot be told from the truth below it.
- *VAE reconstruction*: the true objects encoded and decoded by the model's autoencoder. What its flows could reach.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.judges import Judges
from mdtdist.evaluation.measuring.measure import Job, Measured, Reading, measure_outputs, measure_subjects
from mdtdist.evaluation.measuring.measured_record import Story, save_measured, save_summary
from mdtdist.evaluation.measuring.object_measures import Subject
from mdtdist.evaluation.measuring.outputs import OutputFile
from mdtdist.evaluation.measuring.protocols import Protocol, split_metric
from mdtdist.evaluation.measuring.records import Record, System
from mdtdist.evaluation.measuring.references import Reference
from mdtdist.evaluation.measuring.summary import Measures, Summary, make_metric
from mdtdist.evaluation.metrics.bootstrap import Interval
from mdtdist.evaluation.metrics.frechet import frechet_statistic
from mdtdist.evaluation.metrics.kernel import KernelPairs
from mdtdist.render.cameras import Camera, orbit_camera

HALVES, CAMERAS, VAE = "true objects, halves", "true objects, other cameras", "VAE reconstruction"
NUM_SPLITS = 50
_JITTER = math.radians(3)  # of yaw and pitch
# progress(stage, done, total)
Progress = Callable[[str, int, int], None]


def save_rows(job: Job, out: Path, *, command: str, model: str | None = None, device: str = "cpu") -> list[Record]:
    """Measure and write all calibration rows; the reconstruction only where a model is given.

    Raises:
        InputError: as ``write_reconstructions``, or if a true object cannot be read.
    """

    def story(name: str, note: str) -> Story:
        return Story(system=System(name=name, kind="calibration"), command=command, alignment={}, notes=(note,))

    measured = measure_rerendered(job)
    note = "the true objects themselves, every camera moved by up to 3 degrees of yaw and pitch"
    records = [save_measured(job, measured, story(CAMERAS, note), out)]
    if len(measured.measures.ids) >= 4:
        summary = summarize_halves(measured.measures, job.protocol, job.judges)
        note = (
            f"mean and spread over {NUM_SPLITS} random splits into halves; distances grow with fewer objects, so this "
            "is no lower bound of a row with all of them"
        )
        records.append(save_summary(job, measured, story(HALVES, note), summary, out))
    if model is not None:
        outputs = write_reconstructions(
            job.reference, model, out / "reconstructions", device=device, progress=job.progress
        )
        name = f"{VAE} of {Path(model).name}"
        note = "own voxels of every object and the posterior mean of its latents, decoded to Gaussians"
        records.append(
            save_measured(job, measure_outputs(job, name, outputs, reading=Reading(scale=1.0)), story(name, note), out)
        )
    return records


def measure_rerendered(job: Job) -> Measured:
    """The true objects from cameras up to three degrees aside, in every metric."""
    subjects = [
        Subject(id=name, digest=f"{item.digest()} jitter {_JITTER}", load=item.read, move=partial(jitter, name))
        for name, item in job.reference.objects.items()
    ]
    return measure_subjects(job, CAMERAS, subjects, (0,))


def jitter(name: str, cameras: Sequence[Camera]) -> list[Camera]:
    """Orbit cameras moved by up to three degrees of yaw and of pitch; by the name of the object, so always alike."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)
    moves = np.random.default_rng(seed).uniform(-_JITTER, _JITTER, size=(len(cameras), 2))
    return [_moved(camera, *move) for camera, move in zip(cameras, moves.tolist(), strict=True)]


def _moved(camera: Camera, yaw: float, pitch: float) -> Camera:
    x, y, z = camera.camera_to_world[:3, 3].double().tolist()
    radius = math.sqrt(x * x + y * y + z * z)
    return orbit_camera(
        math.atan2(y, x) + yaw, math.asin(min(max(z / radius, -1.0), 1.0)) + pitch, radius=radius, fov=camera.fov
    )


def summarize_halves(measures: Measures, protocol: Protocol, judges: Judges) -> Summary:
    """Feature distances between random disjoint halves of the true objects.

    The value is the mean over the splits, the interval holds the central share of them: how far two fair samples of
    the same objects lie apart. Other metrics pair an output with its object and have no halves.
    """
    summary = Summary(metrics={}, not_measured={}, per_object={})
    for name in protocol.metrics:
        if name in judges.missing:
            summary.not_measured[name] = judges.missing[name]
        elif split_metric(name)[0] not in ("fd", "kd"):
            summary.not_measured[name] = "pairs every output with its object; halves have no pairs"
        elif not measures.has_color:
            summary.not_measured[name] = "no true object has a colour"
        else:
            features = measures.true_features(judges.key(name))
            interval = halves_distance(features, split_metric(name)[0], level=protocol.bootstrap.level)
            summary.metrics[name] = make_metric(name, interval, len(features) // 2, judges)
    return summary


def halves_distance(
    features: Float[np.ndarray, "N V C"], kind: str, *, level: float = 0.95, num_splits: int = NUM_SPLITS
) -> Interval:
    """Frechet ("fd") or kernel ("kd") distance between random halves: mean and central share over the splits.

    Raises:
        InputError: if there are fewer than four objects.
    """
    half, views = len(features) // 2, features.shape[1]
    if half < 2:
        raise InputError(f"{len(features)} objects have no halves to compare; expected at least 4")
    generator, values = np.random.default_rng(0), []
    for _ in range(num_splits):
        order = generator.permutation(len(features))
        a, b = (features[rows].reshape(-1, features.shape[2]) for rows in (order[:half], order[half : 2 * half]))
        distance = frechet_statistic(a, b, views=views) if kind == "fd" else KernelPairs.of(a, b, views=views).distance
        values.append(distance(None))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(np.mean(values)), low=float(low), high=float(high))


@torch.no_grad()
def write_reconstructions(
    reference: Reference, model: str, folder: Path, *, device: str = "cpu", progress: Progress | None = None
) -> list[OutputFile]:
    """Splat PLY files of the true objects, encoded and decoded by a model; those that are there stay.

    The structure is the object's own, the latents are the posterior means of its image features.

    Args:
        reference: a prepared folder with features.
        model: shipped model or model folder, with the encoder of its latents.
        folder: made if missing.

    Raises:
        InputError: if the reference is no prepared folder, or the model has no encoder.
    """
    from mdtdist.export import write_ply
    from mdtdist.models import SLatEncoder
    from mdtdist.pipelines import ImageTo3D
    from mdtdist.sparse import SparseTensor, pack_coords

    if reference.prepared is None:
        raise InputError(f"{reference.folder} is no prepared folder; the reconstruction needs the features of one")
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [OutputFile(id=name, seed=0, path=folder / f"{name}.ply") for name in reference.ids]
    todo = [output for output in outputs if not output.path.exists()]
    pipe = ImageTo3D.from_pretrained(model, device=device) if todo else None
    for number, output in enumerate(todo, 1):
        assert pipe is not None
        encoder = pipe.network("slat_encoder")
        if not isinstance(encoder, SLatEncoder):
            raise InputError(f"{model} has no encoder of structured latents; give a model with slat_encoder")
        voxels, features = reference.prepared.features(output.id)
        coords = pack_coords([voxels]).to(device)
        latents, _ = encoder(SparseTensor(features.float().to(device), coords))
        write_ply(pipe.network("slat_decoder_gs")(SparseTensor(latents, coords))[0], output.path)
        if progress is not None:
            progress("reconstructions", number, len(todo))
    return outputs
