"""From a config file to a finished run folder."""

import contextlib
import difflib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from mdtdist.config import apply_overrides, from_dict, load_toml
from mdtdist.errors import InputError
from mdtdist.files import appear_whole, hold
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.flow import FlowConfig, FlowTask
from mdtdist.training.latent_vae import LatentVAEConfig, LatentVAETask
from mdtdist.training.memory import explain_memory
from mdtdist.training.mesh_decoder import MeshDecoderConfig, MeshDecoderTask
from mdtdist.training.parallel import Parallel
from mdtdist.training.structure_vae import StructureVAEConfig, StructureVAETask
from mdtdist.training.trainer import Trainer, TrainerConfig

log = logging.getLogger(__name__)

# Task name -> (its config, its class); the config is the table of the same name in the TOML file.
TASKS: dict[str, tuple[type, Callable[..., Any]]] = {
    "structure_vae": (StructureVAEConfig, StructureVAETask),
    "latent_vae": (LatentVAEConfig, LatentVAETask),
    "mesh_decoder": (MeshDecoderConfig, MeshDecoderTask),
    "flow": (FlowConfig, FlowTask),
    "distil": (DistilConfig, DistilTask),
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole training run.

    Attributes:
        task: name of a task; the table of that name configures it.
        out: run folder.
        trainer: budget, optimiser, intervals.
        settings: the config of the task.
    """

    task: str
    out: Path
    trainer: TrainerConfig
    settings: Any


def read_config(path: Path, overrides: Mapping[str, str] | None = None) -> RunConfig:
    """Read a TOML config; overrides are dotted keys such as ``trainer.lr``.

    Raises:
        InputError: on an unknown task, key or value.
    """
    values = apply_overrides(load_toml(path), overrides or {})
    task = values.get("task")
    if task not in TASKS:
        raise InputError(f"{path}: task is {task!r}; expected one of {', '.join(TASKS)}")
    known = {field.name for field in fields(RunConfig)} - {"settings"} | {task}
    unknown = sorted(set(values) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1, cutoff=0.0)
        raise InputError(f"{path}: unknown key '{unknown[0]}'; did you mean '{near[0]}'?")
    for key in ("out", "trainer", task):
        if key not in values:
            raise InputError(f"{path} lacks '{key}'; add it")
    if not isinstance(values["out"], str):
        raise InputError(f"{path}: out is {values['out']!r}; expected the path of a run folder")
    return RunConfig(
        task=task,
        out=Path(values["out"]).expanduser(),
        trainer=from_dict(TrainerConfig, values["trainer"], where="trainer"),
        settings=from_dict(TASKS[task][0], values[task], where=task),
    )


def run(path: Path, config: RunConfig, progress: Callable[[int, int, str], None] | None = None) -> dict[str, float]:
    """Train to the end of the budget (or resume), then export; returns the last validation figures.

    The seed decides the initial weights too; the global random state is left as it was. Where a launcher has started
    several processes, each calls this, and the main one keeps the folder and reports the progress.
    """
    parallel = Parallel(config.trainer.device, config.trainer.parallel)
    config.out.mkdir(parents=True, exist_ok=True)
    with hold(config.out) if parallel.is_main else contextlib.nullcontext():
        trainer = _make_trainer(config, parallel, progress if parallel.is_main else None)
        if parallel.is_main:
            _keep_config(path, config)
        figures = trainer.run()
    parallel.close()
    return figures


def _make_trainer(config: RunConfig, parallel: Parallel, progress: Callable[[int, int, str], None] | None) -> Trainer:
    explained = explain_memory(config.trainer, device=parallel.device, num_processes=parallel.num_processes)
    with explained, parallel.main_first(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        task = TASKS[config.task][1](config.settings, seed=config.trainer.seed, device=parallel.device)
    settings = {"task": config.task, config.task: asdict(config.settings)}
    return Trainer(task, config.trainer, config.out, progress, parallel=parallel, settings=settings)


def _keep_config(path: Path, config: RunConfig) -> None:
    """Copy the config file into the run folder, and write the values in force, overrides included."""
    if path.resolve() != (config.out / "config.toml").resolve():
        shutil.copyfile(path, config.out / "config.toml")
    with appear_whole(config.out / "settings.json") as partial:
        partial.write_text(json.dumps(asdict(config), indent=1, default=str) + "\n")
