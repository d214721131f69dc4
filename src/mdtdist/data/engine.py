"""Run many independent tasks: in this process, over processes, or on a Ray cluster; shared out over machines.

A task that raises, that dies or that takes too long is one outcome with a reason; the others go on. What has been done
before is the caller's business: whoever makes the list of tasks leaves out what is there.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from mdtdist.data.crews import Crew, Event, Function, ProcessCrew, RayCrew, Reply, call, set_up
from mdtdist.errors import InputError

T = TypeVar("T")
KINDS = ("processes", "ray")
_PATIENCE = 5.0  # seconds between looks at the clock
_MAX_STILLBORN = 3  # workers in a row that die before their first task: it is not the tasks' fault


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How tasks are run.

    Attributes:
        kind: "processes" of this machine, or "ray".
        workers: processes, or actors of the cluster; None for one per core.
        address: of a Ray cluster (``auto`` for the one this machine belongs to); None starts one here.
        time_limit: seconds of one task; None for no limit.
        memory_limit: bytes of private memory of one worker; None for no limit. Where the system has no such limit
            (Windows) it has no effect.
        gpus: of each Ray worker; may be a fraction.

    With one worker and no limits the tasks run in this process.
    """

    kind: Literal["processes", "ray"] = "processes"
    workers: int | None = None
    address: str | None = None
    time_limit: float | None = None
    memory_limit: int | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"engine is {self.kind!r}; choose among {', '.join(KINDS)}.")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}; give at least 1.")
        if self.time_limit is not None and not self.time_limit > 0:
            raise InputError(f"time limit is {self.time_limit}; give seconds above 0.")
        if self.memory_limit is not None and self.memory_limit < 2**28:
            raise InputError(f"memory limit is {self.memory_limit} bytes; a worker needs at least {2**28}.")
        if self.address is not None and self.kind != "ray":
            raise InputError(f"address {self.address!r} goes with the engine ray; got {self.kind}.")

    @property
    def is_plain(self) -> bool:
        """Whether tasks run in this process."""
        return self.kind == "processes" and self.workers == 1 and self.time_limit is None and self.memory_limit is None


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What came of one task: a value, or the reason why there is none; seconds of wall clock in its worker."""

    task: T
    value: Any = None
    reason: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part ``index`` (from 1) of ``count``. Which part a key belongs to depends on nothing but the key."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"shard is {self.index}/{self.count}; expected 1/n to n/n, for example 1/4.")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From ``i/n``.

        Raises:
            InputError: if it is anything else.
        """
        parts = text.split("/")
        if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
            raise InputError(f"shard is {text!r}; expected i/n with i from 1 to n, for example 1/4.")
        return cls(index=int(parts[0]), count=int(parts[1]))

    @property
    def suffix(self) -> str:
        """Part of file names."""
        return f"_shard_{self.index}_of_{self.count}"

    def owns(self, key: str) -> bool:
        """Whether a key (a sha256, the name of an image) belongs to this part."""
        digest = hashlib.sha256(key.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


def run_tasks(
    function: Function, tasks: Sequence[T], config: EngineConfig, *, max_workers: int | None = None
) -> Generator[Outcome[T], None, None]:
    """Call ``function`` with every task and yield the outcomes as they come.

    Args:
        function: picklable. Its method ``set_up``, if it has one, is called once per worker before the first task
            and counts against no limit; what it raises ends the run.
        tasks: picklable.
        max_workers: a further bound on the number of workers.

    Raises:
        InputError: if the function's ``set_up`` raises one, or the Ray cluster cannot be reached.
        RuntimeError: if workers cannot be started.
    """
    if not tasks:
        return
    if config.is_plain:
        set_up(function)
        for task in tasks:
            yield _outcome(task, call(function, task))
        return
    crew, size = _open_crew(function, config)
    size = min(number for number in (size, max_workers, len(tasks)) if number is not None)
    with closing(crew):
        yield from _Dispatcher(crew=crew, tasks=tasks, size=size, time_limit=config.time_limit).outcomes()


def _open_crew(function: Function, config: EngineConfig) -> tuple[Crew, int]:
    if config.kind == "processes":
        return ProcessCrew(function, memory_limit=config.memory_limit), config.workers or os.cpu_count() or 1
    crew = RayCrew(
        function,
        address=config.address,
        num_cpus=config.workers,
        gpus=config.gpus,
        memory_limit=config.memory_limit,
    )
    return crew, min(crew.size, config.workers or crew.size)


def _outcome(task: T, reply: Reply) -> Outcome[T]:
    return Outcome(task=task, value=reply.value, reason=reply.reason, seconds=reply.seconds)


@dataclass
class _Dispatcher(Generic[T]):
    """Keeps ``size`` workers busy; replaces those that die or are ended for taking too long."""

    crew: Crew
    tasks: Sequence[T]
    size: int
    time_limit: float | None
    starting: set[int] = field(default_factory=set)
    busy: dict[int, tuple[T, float]] = field(default_factory=dict)  # worker -> task, when it got it
    stillborn: int = 0

    def outcomes(self) -> Iterator[Outcome[T]]:
        waiting = deque(self.tasks)
        while waiting or self.busy:
            while len(self.starting) + len(self.busy) < min(self.size, len(waiting) + len(self.busy)):
                self.starting.add(self.crew.start())
            for event in self.crew.wait(self._patience()):
                outcome = self._take(event)
                if event.kind in ("ready", "done"):
                    self._employ(event.worker, waiting)
                if outcome is not None:
                    yield outcome
            yield from self._end_late()

    def _employ(self, worker: int, waiting: deque[T]) -> None:
        if not waiting:
            self.crew.kill(worker)
            return
        task = waiting.popleft()
        self.crew.submit(worker, task)
        self.busy[worker] = task, time.monotonic()

    def _take(self, event: Event) -> Outcome[T] | None:
        """Note an event; the outcome of a task, if it was the end of one."""
        if event.kind == "broken":
            assert event.error is not None
            raise event.error
        if event.worker in self.starting:
            self.starting.remove(event.worker)
            self.stillborn = self.stillborn + 1 if event.kind == "died" else 0
            if self.stillborn >= _MAX_STILLBORN:
                raise RuntimeError(
                    f"workers do not start: {event.reason}; a script that calls this needs `if __name__ == '__main__':`"
                )
            return None
        task, start = self.busy.pop(event.worker)
        if event.kind == "died":
            return Outcome(task=task, reason=f"{event.reason}; run again to retry", seconds=time.monotonic() - start)
        assert event.reply is not None
        return _outcome(task, event.reply)

    def _end_late(self) -> Iterator[Outcome[T]]:
        if self.time_limit is None:
            return
        now = time.monotonic()
        for worker, (task, start) in list(self.busy.items()):
            if now - start > self.time_limit:
                self.crew.kill(worker)
                del self.busy[worker]
                reason = f"took longer than the time limit of {self.time_limit:g} s"
                yield Outcome(task=task, reason=reason, seconds=now - start)

    def _patience(self) -> float:
        if self.time_limit is None or not self.busy:
            return _PATIENCE
        oldest = min(start for _, start in self.busy.values())
        return min(_PATIENCE, max(0.01, oldest + self.time_limit - time.monotonic()))
