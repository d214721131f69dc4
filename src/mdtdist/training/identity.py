"""What a run is trained as: which changes of a config it can go on with, and which would make another run of it."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mdtdist.errors import InputError
from mdtdist.training.trainer_config import TrainerConfig

log = logging.getLogger(__name__)

# Of the trainer, what decides the batches. Budget, intervals, learning rate and the like may change on the way.
_TRAINER = ("batch_size", "seed")
# Of a task, how it is judged; everything else is what it trains.
_JUDGING = (
    *("eval_steps", "eval_w", "teacher_steps", "teacher_rescale_t", "num_reference_batches"),
    *("data.decoder", "data.num_validation"),
)
# And where and how fast things are read: what a cache holds does not depend on its place.
_READING = ("data.readers", "data.cache", "trajectories.cache")


def identity_of(config: TrainerConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Config and settings as JSON has them, paths in full."""
    return {"trainer": _plain(asdict(config)), **_plain(settings)}


def check_identity(
    before: Mapping[str, Any], now: Mapping[str, Any], *, folder: Path, accept_changes: bool = False
) -> None:
    """Refuse to go on with a run as something else.

    Args:
        before, now: from ``identity_of``.
        folder: of the run.
        accept_changes: warn of other settings of the task instead; another task, batch size or seed is refused still.

    Raises:
        InputError: names the first field that differs, with both values.
    """
    old, new = dict(_fields(before, "")), dict(_fields(now, ""))
    for name in (*old, *(name for name in new if name not in old)):
        if _may_change(name) or old.get(name) == new.get(name):
            continue
        found = f"{folder} was trained with {name} {_shown(old, name)} so far, and now it is {_shown(new, name)}"
        if not accept_changes or name == "task" or name.startswith("trainer."):
            raise InputError(f"{found}; set it back, or give another out")
        log.warning("%s", found)


def _may_change(name: str) -> bool:
    table, _, field = name.partition(".")
    return field not in _TRAINER if table == "trainer" else field in (*_JUDGING, *_READING)


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "not set"


def _fields(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every value that is no table, under its dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value.resolve()) if isinstance(value, Path) else value
