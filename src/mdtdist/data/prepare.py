"""Prepare assets for training: voxels, renders, features, latents. Resumable, one asset at a time.

Every stage of an asset writes one file (or a folder whose last file closes it), which appears whole; a file that is
there is not made again. So a killed run continues where it stopped, and several runs may follow each other with
different stages. A bad asset is recorded in ``metadata.csv`` with its reason and never stops the others.
"""

import csv
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdtdist.data import files
from mdtdist.data.sources import Asset
from mdtdist.data.split import EXCLUDED, EXCLUDED_CATEGORIES, MIN_FLATNESS, frozen_split, split_by_name
from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

STAGES = ("voxels", "renders", "features")
LATENTS = "latents"  # the fourth; needs encoders trained on the other three (see mdtdist.data.latents)
# One call per finished asset: stage, number done, number to do.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How to prepare a folder.

    Attributes:
        out: the prepared folder.
        stages: any of voxels, renders, features, latents; each needs the files of the one before.
        workers: processes of the first three stages; each computes on one thread.
        limit: only the first so many assets of the source; None for all.
        structure_encoder, latent_encoder: paths without suffix, for the stage latents; None leaves that latent out.
    """

    out: Path
    stages: tuple[str, ...] = STAGES
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    limit: int | None = None
    structure_encoder: Path | None = None
    latent_encoder: Path | None = None

    def __post_init__(self) -> None:
        names = ", ".join((*STAGES, LATENTS))
        if unknown := [stage for stage in self.stages if stage not in (*STAGES, LATENTS)]:
            raise InputError(f"unknown stage {unknown[0]!r}; choose among {names}.")
        if not self.stages:
            raise InputError(f"no stage was given; choose among {names}.")
        if (LATENTS in self.stages) != bool(self.encoders):
            given = "an encoder was given without it" if self.encoders else "no encoder was given"
            raise InputError(f"the stage {LATENTS} and a trained structure or latent encoder go together; {given}.")
        if self.workers < 1:
            raise InputError(f"workers is {self.workers}; give at least 1.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; give at least 1.")

    @property
    def encoders(self) -> dict[str, Path]:
        """Kind of latent -> path of its encoder."""
        both = {"structure": self.structure_encoder, "latent": self.latent_encoder}
        return {kind: path for kind, path in both.items() if path is not None}


def prepare(
    assets: Sequence[Asset] | None, config: PrepareConfig, *, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Run the stages over all assets and write ``metadata.csv``.

    Args:
        assets: None if latents are the only stage: those of the folder's table.

    Returns:
        The rows of ``metadata.csv`` (see :data:`mdtdist.data.files.COLUMNS`). ``status`` is ``ok``, ``excluded`` or
        ``failed``, with ``reason``.
    """
    if config.stages == (LATENTS,):
        return _add_latents(config, progress)
    assets = list(assets or ())[: config.limit]
    failures = _earlier_failures(config)
    for stage in (stage for stage in STAGES if stage in config.stages):
        rows = write_metadata(assets, config.out, failures)
        jobs = _jobs(stage, assets, rows, config.out)
        for number, (sha256, reason) in enumerate(_run_stage(stage, jobs, config), start=1):
            if reason is not None:
                failures[sha256] = f"{stage}: {reason}"
                logger.warning("%s failed at %s", sha256[:12], failures[sha256])
            if progress is not None:
                progress(stage, number, len(jobs))
    rows = write_metadata(assets, config.out, failures)
    return _add_latents(config, progress) if LATENTS in config.stages else rows


def _add_latents(config: PrepareConfig, progress: Progress | None) -> list[dict[str, Any]]:
    from mdtdist.data.latents import add_latents

    return add_latents(config.out, config.encoders, limit=config.limit, progress=progress)


def _jobs(stage: str, assets: Sequence[Asset], rows: list[dict[str, Any]], out: Path) -> list[Asset]:
    """Assets that a stage has to work on: usable, the stages before are done, this one is not."""
    ok = {row["sha256"] for row in rows if row["status"] == "ok" or stage == "voxels"}
    before = STAGES[: STAGES.index(stage)]
    ready = [asset for asset in assets if asset.sha256 in ok]
    ready = [asset for asset in ready if all(files.is_done(out, name, asset.sha256) for name in before)]
    return [asset for asset in ready if not files.is_done(out, stage, asset.sha256)]


def _earlier_failures(config: PrepareConfig) -> dict[str, str]:
    """Failures recorded by an earlier run, but for the stages that are tried again now."""
    table = config.out / "metadata.csv"
    if not table.exists():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        failed = {row["sha256"]: row["reason"] for row in csv.DictReader(file) if row["status"] == "failed"}
    return {sha: reason for sha, reason in failed.items() if reason.split(":")[0] not in config.stages}


def write_metadata(assets: Sequence[Asset], out: Path, failures: dict[str, str]) -> list[dict[str, Any]]:
    """Write ``metadata.csv`` from what is in the folder; returns its rows."""
    rows = [_row(asset, out, failures.get(asset.sha256)) for asset in assets]
    ok = {row["sha256"] for row in rows if row["status"] == "ok"}
    splits = _splits([asset for asset in assets if asset.sha256 in ok])
    for row in rows:
        row["split"] = splits.get(row["sha256"], "")
        if row["split"] == EXCLUDED:
            row |= {"status": EXCLUDED, "reason": "left out of the frozen split", "split": ""}
    files.write_csv(out / "metadata.csv", rows, columns=files.COLUMNS)
    return rows


def _splits(assets: Sequence[Asset]) -> dict[str, str]:
    """``sha256 -> split``: the frozen list where it knows the asset, by name otherwise."""
    frozen = frozen_split()
    result, unknown = {}, []
    for asset in assets:
        if (entry := frozen.get(asset.source_id)) is None:
            unknown.append(asset)
            continue
        if entry.sha256 != asset.sha256:
            logger.warning("%s differs from the frozen list (another sha256); its split is kept", asset.source_id)
        result[asset.sha256] = entry.split
    return result | split_by_name(unknown)


def _row(asset: Asset, out: Path, failure: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(asset, name) for name in ("sha256", "name", "category", "source_id", "creator", "license")
    }
    row |= dict(zip(("width_cm", "depth_cm", "height_cm"), asset.size_cm or ("", "", ""), strict=True))
    row |= {"status": "ok", "reason": "", "voxelized": files.is_done(out, "voxels", asset.sha256)}
    if row["voxelized"]:
        with np.load(files.voxel_path(out, asset.sha256)) as data:
            row |= {"num_voxels": len(data["indices"]), "num_faces": int(data["num_faces"])}
            row["flatness"] = round(float(data["flatness"]), 4)
    row["rendered"] = files.is_done(out, "renders", asset.sha256)
    row[f"feature_{files.ENCODER}"] = files.feature_path(out, asset.sha256).exists()
    row[f"cond_{files.ENCODER}"] = files.cond_path(out, asset.sha256).exists()
    if asset.category in EXCLUDED_CATEGORIES:
        row |= {"status": EXCLUDED, "reason": f"category {asset.category}"}
    elif row.get("flatness", 1.0) < MIN_FLATNESS:
        row |= {"status": EXCLUDED, "reason": f"flat: thinnest extent {row['flatness']:.3f} of the longest"}
    if failure is not None:
        row |= {"status": "failed", "reason": failure}
    return row


def _run_stage(stage: str, jobs: Sequence[Asset], config: PrepareConfig) -> Iterator[tuple[str, str | None]]:
    """Yield (sha256, None or the reason of failure) as assets finish."""
    if config.workers == 1 or len(jobs) <= 1:
        yield from ((asset.sha256, _run_one(stage, asset, config.out)) for asset in jobs)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the threads of torch in an unknown state
    with _single_thread_children(), ProcessPoolExecutor(config.workers, mp_context=context) as pool:
        futures = {pool.submit(_run_one, stage, asset, config.out): asset.sha256 for asset in jobs}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], "the worker process died (out of memory?); run again to retry"


@contextmanager
def _single_thread_children() -> Iterator[None]:
    """Processes started meanwhile compute on one thread each: torch and BLAS read these variables at their import."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _run_one(stage: str, asset: Asset, out: Path) -> str | None:
    """Run one stage of one asset; the reason if it failed."""
    try:
        _STAGE_FUNCTIONS[stage](asset, out)
    except Exception as err:  # whatever a broken file provokes is recorded, never raised
        logger.debug("asset %s", asset.source_id, exc_info=True)
        return f"{type(err).__name__}: {err}".splitlines()[0][:200]
    return None


def _make_voxels(asset: Asset, out: Path) -> None:
    from mdtdist.data.normalize import flatness, load_normalized
    from mdtdist.data.voxelize import voxelize_surface

    triangles = load_normalized(asset.path, rotation=asset.rotation)
    indices = voxelize_surface(triangles)
    files.write_npz(
        files.voxel_path(out, asset.sha256),
        indices=indices,
        num_faces=len(triangles.faces),
        flatness=flatness(triangles),
    )


def _make_renders(asset: Asset, out: Path) -> None:
    from mdtdist.data.views import render_asset

    render_asset(asset, files.render_folder(out, asset.sha256))


def _make_features(asset: Asset, out: Path) -> None:
    from mdtdist.data.features import write_features

    write_features(out, asset.sha256)


_STAGE_FUNCTIONS = {"voxels": _make_voxels, "renders": _make_renders, "features": _make_features}
