"""The log of a run: JSON lines always, TensorBoard and a tracking service beside them."""

import importlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.training.curves import read_records
from mdtdist.training.trainer_config import TrainerConfig

log = logging.getLogger(__name__)

PROJECT = "mdtdist"
_NOT_DRAWN = ("step", "samples")


class Tracker(Protocol):
    """Somewhere the log goes beside the file."""

    def write(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """``log.jsonl`` of a run folder, with one record per step although a resumed run makes steps again.

    Args:
        folder: of the run.
        step: the run goes on from here; later records are dropped.
        is_done: whether the run is at its end; its last evaluation is made again then.
        trackers: where the records go too.
        writes: whether this process writes at all.
    """

    def __init__(self, folder: Path, *, step: int, is_done: bool, trackers: list[Tracker], writes: bool = True) -> None:
        self.path, self.trackers, self.writes = folder / "log.jsonl", trackers, writes
        if writes and self.path.is_file():
            self._cut(step, is_done)

    def _cut(self, step: int, is_done: bool) -> None:
        kept = [
            record
            for record in read_records(self.path)
            if record["step"] <= step and not (is_done and record["step"] == step and "lr" not in record)
        ]
        with appear_whole(self.path) as partial:
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept))

    def write(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Append a record, floats rounded to eight digits; returns it as it is written."""
        rounded = {key: float(f"{value:.8g}") if isinstance(value, float) else value for key, value in record.items()}
        if not self.writes:
            return rounded
        with self.path.open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        drawn = {key: value for key, value in record.items() if key not in _NOT_DRAWN and math.isfinite(value)}
        for tracker in self.trackers:
            tracker.write(drawn, record["step"])
        return rounded

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()


def make_trackers(folder: Path, config: TrainerConfig, *, step: int, settings: Mapping[str, Any]) -> list[Tracker]:
    """The trackers that a config asks for.

    Raises:
        InputError: if the package of ``config.tracker`` is missing.
    """
    trackers: list[Tracker] = []
    if config.tensorboard:
        try:
            trackers.append(TensorBoard(folder, step=step))
        except ImportError:
            log.info("no TensorBoard log: install mdtdist[train] for one")
    if config.tracker != "none":
        trackers.append(TrackingService(config.tracker, folder, settings))
    return trackers


class TensorBoard:
    """Event files in ``tensorboard/`` of a run folder; what a killed run wrote past its checkpoint is not shown."""

    def __init__(self, folder: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class TrackingService:
    """Weights & Biases or trackio, which have one interface; a resumed run goes on under its own name.

    Raises:
        InputError: if the package is missing.
    """

    def __init__(self, package: str, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            module: Any = importlib.import_module(package)
        except ImportError as err:
            raise InputError(f"tracker is '{package}', which is not installed; install mdtdist[{package}]") from err
        name = "-".join(folder.resolve().parts[-2:])
        more = {"id": name, "dir": str(folder)} if package == "wandb" else {}
        self._run: Any = module.init(project=PROJECT, name=name, config=dict(settings), resume="allow", **more)

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
