"""Prepare assets for training, stage by stage. Resumable, parallel, shared out over machines.

Every stage of an asset writes one file (or a folder whose last file closes it), which appears whole; a file that is
there is not made again. So a killed run continues where it stopped, and several runs may follow each other with
different stages. A bad asset is recorded in ``metadata.csv`` with its reason and never stops the others.
"""

import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mdtdist.data.engine import EngineConfig, Outcome, Shard, run_tasks
from mdtdist.data.files import write_contents
from mdtdist.data.layouts import Layout, Row, Stage, mini_layout
from mdtdist.data.report import write_report
from mdtdist.data.sources import Asset
from mdtdist.data.tables import Table, asset_cells, check_layout, earlier_failures, read_tables
from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

STAGES = ("voxels", "renders", "features")  # of the layout mini
LATENTS = "latents"  # its fourth; needs encoders trained on the other three (see mdtdist.data.latents)
# One call per finished asset: stage, number done, number to do.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How to prepare a folder.

    Attributes:
        out: the prepared folder.
        layout: what it holds.
        stages: names of stages; each needs the files of some before it. None for all of the layout, but the latents
            of the layouts mini and small.
        workers: processes, or workers of a Ray cluster; each computes on one thread. None for one per core.
        engine: limits, and where the work is done; its number of workers counts where ``workers`` is None.
        shard: the part of the assets to work on, where several machines share the folder. Each writes its own table;
            the last call without a shard, or :func:`merge`, makes ``metadata.csv`` of them.
        retry: whether assets that failed in an earlier run are tried again.
        limit: only the first so many assets of the source; None for all.
        score: aesthetic score of assets without one, in the layout trellis (see ``tables.asset_cells``).
        structure_encoder, latent_encoder: paths without suffix, for the stage latents of mini and small; None leaves
            that latent out.
    """

    out: Path
    layout: Layout = field(default_factory=mini_layout)
    stages: tuple[str, ...] | None = None
    workers: int | None = None
    engine: EngineConfig = field(default_factory=EngineConfig)
    shard: Shard | None = None
    retry: bool = True
    limit: int | None = None
    score: float | None = None
    structure_encoder: Path | None = None
    latent_encoder: Path | None = None

    def __post_init__(self) -> None:
        known = (*self.layout.names, *((LATENTS,) if self.layout.has_separate_latents else ()))
        stages = self.layout.names if self.stages is None else self.stages
        if unknown := [stage for stage in stages if stage not in known]:
            raise InputError(f"unknown stage {unknown[0]!r}; choose among {', '.join(known)}.")
        if not stages:
            raise InputError(f"no stage was given; choose among {', '.join(known)}.")
        object.__setattr__(self, "stages", stages)
        self._check_latents()
        if self.workers is not None:
            object.__setattr__(self, "engine", replace(self.engine, workers=self.workers))
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; give at least 1.")

    def _check_latents(self) -> None:
        if self.makes_latents != bool(self.encoders):
            given = "an encoder was given without it" if self.encoders else "no encoder was given"
            raise InputError(f"the stage {LATENTS} and a trained structure or latent encoder go together; {given}.")
        if self.makes_latents and self.shard is not None:
            raise InputError(
                f"the stage {LATENTS} of the layout {self.layout.name} runs on the merged folder; leave --shard out."
            )

    @property
    def makes_latents(self) -> bool:
        """Whether latents are made after the stages."""
        return self.layout.has_separate_latents and LATENTS in (self.stages or ())

    @property
    def encoders(self) -> dict[str, Path]:
        """Kind of latent -> path of its encoder."""
        both = {"structure": self.structure_encoder, "latent": self.latent_encoder}
        return {kind: path for kind, path in both.items() if path is not None}

    @property
    def chosen(self) -> tuple[Stage, ...]:
        """The stages to run, in the order of the layout."""
        return tuple(stage for stage in self.layout.stages if stage.name in (self.stages or ()))


def prepare(
    assets: Sequence[Asset] | None, config: PrepareConfig, *, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Run the stages over all assets and write ``metadata.csv`` and ``prepare_report.html``.

    Args:
        assets: None if latents are the only stage: those of the folder's table.

    Returns:
        The rows of ``metadata.csv`` (see ``config.layout.columns``). ``status`` is ``ok``, ``excluded`` or
        ``failed``, with ``reason``.

    Raises:
        InputError: if the folder holds another layout, or the engine cannot be started.
    """
    if config.stages == (LATENTS,) and config.makes_latents:
        return _add_latents(config, progress)
    assets = list(assets or ())[: config.limit]
    check_layout(config.out, config.layout)
    if config.layout.contents is not None:
        write_contents(config.out, config.layout.contents)
    tables = read_tables(config.out)
    cells = asset_cells(assets, config.out, config.layout, tables, score=config.score)
    assets = [asset for asset in assets if config.shard is None or config.shard.owns(asset.sha256)]
    mine = {asset.sha256 for asset in assets}
    table = _open_table([row for row in cells if row["sha256"] in mine], config, tables)
    for stage in config.chosen:
        _run_stage(stage, assets, table, config, progress)
    rows = _close(table, config)
    return _add_latents(config, progress) if config.makes_latents else rows


def merge(config: PrepareConfig) -> list[dict[str, Any]]:
    """Make ``metadata.csv`` of the tables of all shards, and finish the folder; nothing is computed for any asset.

    Raises:
        InputError: if there is no table.
    """
    check_layout(config.out, config.layout)
    tables = read_tables(config.out)
    if not tables:
        raise InputError(f"{config.out} has no metadata_shard_i_of_n.csv; run `mdtdist prepare --shard i/n` first.")
    return _close(_open_table(list(tables.values()), replace(config, retry=False, shard=None), tables), config)


def _open_table(cells: Sequence[Row], config: PrepareConfig, tables: dict[str, dict[str, str]]) -> Table:
    retried = (config.stages or ()) if config.retry else ()
    failures = earlier_failures(tables, config.out, config.layout, retried=retried)
    return Table(cells, config.out, config.layout, failures=failures, shard=config.shard)


def _close(table: Table, config: PrepareConfig) -> list[Row]:
    rows = table.write()
    if config.shard is None:
        config.layout.finish(config.out, rows)
    suffix = "" if config.shard is None else config.shard.suffix
    write_report(config.out / f"prepare_report{suffix}.html", rows, config.out, config.layout)
    return rows


def _add_latents(config: PrepareConfig, progress: Progress | None) -> list[Row]:
    from mdtdist.data.latents import add_latents

    return add_latents(config.out, config.encoders, limit=config.limit, progress=progress)


def _run_stage(
    stage: Stage, assets: Sequence[Asset], table: Table, config: PrepareConfig, progress: Progress | None
) -> None:
    jobs = _jobs(stage, assets, table.write(), config)
    if not jobs:
        return
    with closing(_outcomes(stage, jobs, config)) as outcomes, (_log_path(config)).open("a", encoding="utf-8") as log:
        for number, outcome in enumerate(outcomes, start=1):
            sha256, reason = outcome.task.sha256, outcome.reason
            if reason is not None:
                logger.warning("%s failed at %s: %s", sha256[:12], stage.name, reason)
            table.update(sha256, None if reason is None else f"{stage.name}: {reason}")
            line = {"sha256": sha256, "stage": stage.name, "seconds": round(outcome.seconds, 3), "reason": reason}
            log.write(json.dumps(line) + "\n")
            if progress is not None:
                progress(stage.name, number, len(jobs))


def _outcomes(stage: Stage, jobs: Sequence[Asset], config: PrepareConfig) -> Generator[Outcome[Asset], None, None]:
    return run_tasks(_RunStage(stage, config.out.absolute()), jobs, config.engine, max_workers=stage.max_workers)


def _log_path(config: PrepareConfig) -> Path:
    """One line per asset and stage: seconds, and the reason of a failure."""
    config.out.mkdir(parents=True, exist_ok=True)
    return config.out / f"prepare_log{'' if config.shard is None else config.shard.suffix}.jsonl"


def _jobs(stage: Stage, assets: Sequence[Asset], rows: list[Row], config: PrepareConfig) -> list[Asset]:
    """Assets that a stage has to work on: usable, what it needs is there, its own files are not."""
    out = config.out
    needed = [config.layout.stage(name) for name in stage.needs]
    usable = {"ok", "excluded"} if stage.takes_excluded else {"ok"}
    ids = {row["sha256"] for row in rows if row["status"] in usable}
    ready = [asset for asset in assets if asset.sha256 in ids and not stage.is_done(out, asset.sha256)]
    ready = [asset for asset in ready if all(need.is_done(out, asset.sha256) for need in needed)]
    return [replace(asset, path=asset.path.absolute()) for asset in ready]  # workers may start elsewhere


@dataclass(frozen=True)
class _RunStage:
    """What workers are given."""

    stage: Stage
    out: Path

    def __call__(self, asset: Asset) -> None:
        self.stage.run(asset, self.out)
