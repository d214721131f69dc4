"""Tasks for the engine's tests; workers import this file, so it is light."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from mdtdist.errors import InputError


@dataclass(frozen=True)
class Act:
    """Does what a task says; counts how often it was set up by the lines of a file."""

    log: Path | None = None
    fault: str = ""

    def set_up(self) -> None:
        if self.fault == "input":
            raise InputError("the model is missing")
        if self.fault == "die":
            os._exit(3)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")

    def __call__(self, task: str) -> str:
        name, _, number = task.partition(":")
        if name == "raise":
            raise ValueError(f"bad {number}\nsecond line")
        if name == "die":
            os._exit(5)
        if name == "kill":
            os.kill(os.getpid(), 9)
        if name == "sleep":
            time.sleep(float(number))
        if name == "fill":
            return str(len(bytearray(int(float(number) * 2**30))))
        return f"{task} {os.environ.get('OMP_NUM_THREADS')}"


@dataclass(frozen=True)
class Write:
    """Writes a file for an asset, unless its name says what else is to happen."""

    folder: str

    def __call__(self, asset, out: Path) -> None:
        if asset.name.startswith(("raise", "die", "sleep:")):
            Act()(asset.name)
        (out / self.folder).mkdir(exist_ok=True)
        (out / self.folder / asset.sha256).write_text(asset.name)


@dataclass(frozen=True)
class Exists:
    folder: str

    def __call__(self, out: Path, sha256: str) -> bool:
        return (out / self.folder / sha256).exists()


@dataclass(frozen=True)
class Flag:
    folder: str

    def __call__(self, out: Path, sha256: str) -> dict[str, bool]:
        return {self.folder: (out / self.folder / sha256).exists()}
