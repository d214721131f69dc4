"""Where the engine's work is done: processes of this machine, or actors of a Ray cluster.

A crew starts workers, hands one task at a time to each, and tells what came of it. A worker that dies takes its task
with it and nothing else.
"""

import atexit
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol

from mdtdist.errors import InputError

logger = logging.getLogger(__name__)

# Read by torch and BLAS at their import: workers share the cores, so each computes on one thread.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Function = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one call gave: its value, or the reason why it failed; seconds of wall clock."""

    value: Any = None
    reason: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Event:
    """News of a worker.

    Attributes:
        kind: ``ready`` for its first task; ``broken`` if it could not be set up, with ``error``; ``done`` with
            ``reply``; ``died`` with a ``reason``.
    """

    worker: int
    kind: Literal["ready", "broken", "done", "died"]
    reply: Reply | None = None
    reason: str = ""
    error: Exception | None = None


class Crew(Protocol):
    """Workers, known by their numbers."""

    def start(self) -> int:
        """A new worker; it becomes ready later."""

    def submit(self, worker: int, task: Any) -> None:
        """Give a task to a worker that has none."""

    def wait(self, timeout: float) -> list[Event]:
        """What happened; empty after ``timeout`` seconds without news."""

    def kill(self, worker: int) -> None:
        """End a worker at once; nothing more is heard of it."""

    def close(self) -> None:
        """End all workers."""


def call(function: Function, task: Any) -> Reply:
    """Run one task; whatever it raises becomes a reason of one line."""
    start = time.perf_counter()
    try:
        value = function(task)
    except Exception as err:  # whatever a broken file provokes is recorded, never raised
        logger.debug("task %s", task, exc_info=True)
        return Reply(reason=describe(err), seconds=time.perf_counter() - start)
    return Reply(value=value, seconds=time.perf_counter() - start)


def describe(err: BaseException) -> str:
    """An exception as one line of at most 200 characters."""
    return f"{type(err).__name__}: {err}".splitlines()[0][:200]


def set_up(function: Function) -> None:
    """Call the function's own ``set_up``, if it has one: what a worker does once, such as loading a model."""
    getattr(function, "set_up", lambda: None)()


def limit_memory(limit: int | None) -> None:
    """Refuse this process more than ``limit`` bytes of private memory: a request beyond is a ``MemoryError``."""
    if limit is None:
        return
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    # Data rather than address space: the latter also counts mapped files and what CUDA reserves without using it.
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


# ------------------------------------------------------------------------------------------------------- processes


class ProcessCrew:
    """Processes of this machine, started afresh (a fork would copy the threads of torch in an unknown state)."""

    def __init__(self, function: Function, *, memory_limit: int | None = None) -> None:
        self._function, self._memory_limit = function, memory_limit
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}
        self._count = 0
        atexit.register(self.close)  # before multiprocessing's own handler, which would wait for them forever

    def start(self) -> int:
        ours, theirs = self._context.Pipe()
        arguments = (self._function, theirs, self._memory_limit)
        process = self._context.Process(target=_serve, args=arguments, name="mdtdist-worker")
        with single_threaded():
            process.start()
        theirs.close()  # so that its death closes the pipe
        self._count += 1
        self._workers[self._count] = (process, ours)
        return self._count

    def submit(self, worker: int, task: Any) -> None:
        try:
            self._workers[worker][1].send(task)
        except OSError:  # it died meanwhile, which `wait` will tell
            logger.debug("worker %d is gone", worker)

    def wait(self, timeout: float) -> list[Event]:
        owners: dict[Any, int] = {pipe: worker for worker, (_, pipe) in self._workers.items()}
        owners |= {process.sentinel: worker for worker, (process, _) in self._workers.items()}
        found = wait(list(owners), timeout=timeout)
        return [self._hear(worker) for worker in dict.fromkeys(owners[source] for source in found)]

    def _hear(self, worker: int) -> Event:
        process, pipe = self._workers[worker]
        try:
            if pipe.poll():
                kind, content = pipe.recv()
                if kind == "broken":
                    return Event(worker=worker, kind="broken", error=content)
                return Event(worker=worker, kind=kind, reply=content)
        except (EOFError, OSError):
            logger.debug("worker %d closed its pipe", worker)
        process.join()
        reason = _death(process.exitcode)
        self.kill(worker)
        return Event(worker=worker, kind="died", reason=reason)

    def kill(self, worker: int) -> None:
        process, pipe = self._workers.pop(worker)
        process.kill()
        process.join()
        process.close()
        pipe.close()

    def close(self) -> None:
        for worker in list(self._workers):
            self.kill(worker)
        atexit.unregister(self.close)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"the worker process died ({name}{'; out of memory?' if name == 'SIGKILL' else ''})"
    return f"the worker process died (exit code {code})"


def _serve(function: Function, pipe: Connection, memory_limit: int | None) -> None:
    """A worker's life: set up, then one task after the other until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of Ctrl-C as well and ends its workers
    try:
        set_up(function)
    except Exception as err:
        _answer(pipe, "broken", err if isinstance(err, InputError) else RuntimeError(describe(err)))
        return
    limit_memory(memory_limit)
    _answer(pipe, "ready", None)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        _answer(pipe, "done", call(function, task))


def _answer(pipe: Connection, kind: str, content: Any) -> None:
    try:
        pipe.send((kind, content))
    except BrokenPipeError:  # the parent is gone
        sys.exit(1)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started meanwhile compute on one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


# ------------------------------------------------------------------------------------------------------------- Ray


class RayCrew:
    """Actors of a Ray cluster: every machine needs this package and sees the same folders under the same paths.

    Args:
        function: goes to the workers once.
        address: of the cluster, as ``ray.init`` takes it (``auto``: the one this machine belongs to); None starts
            one on this machine, which ends with the crew.
        num_cpus: of a cluster started here; None for all cores.
        gpus: of each worker, may be a fraction.
        memory_limit: bytes of private memory of each worker.

    Raises:
        InputError: without the package ``ray``, or if no cluster answers.
    """

    def __init__(
        self,
        function: Function,
        *,
        address: str | None = None,
        num_cpus: int | None = None,
        gpus: float = 0.0,
        memory_limit: int | None = None,
    ) -> None:
        self._ray = ray = _import_ray()
        self._owns_cluster = not ray.is_initialized()
        if self._owns_cluster:
            _connect(ray, address, num_cpus)
        remote = ray.remote(_RayWorker).options(num_cpus=1, num_gpus=gpus, max_restarts=0)
        reference = ray.put(function)
        self._create = lambda: remote.remote(reference, memory_limit)
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, tuple[int, Literal["ready", "done"]]] = {}
        self._count = 0
        resources = ray.cluster_resources()
        by_gpu = resources.get("GPU", 0) // gpus if gpus else float("inf")
        self.size = max(1, int(min(resources.get("CPU", 1), by_gpu)))

    def start(self) -> int:
        self._count += 1
        actor = self._actors[self._count] = self._create()
        self._pending[actor.ready.remote()] = (self._count, "ready")
        return self._count

    def submit(self, worker: int, task: Any) -> None:
        self._pending[self._actors[worker].run.remote(task)] = (worker, "done")

    def wait(self, timeout: float) -> list[Event]:
        if not self._pending:
            time.sleep(timeout)
        references = list(self._pending)
        found, _ = self._ray.wait(references, num_returns=1, timeout=timeout) if references else ([], [])
        return [self._hear(reference) for reference in found]

    def _hear(self, reference: Any) -> Event:
        worker, kind = self._pending.pop(reference)
        try:
            reply = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as err:
            self._actors.pop(worker, None)
            return Event(worker=worker, kind="died", reason=f"the worker died ({describe(err)})"[:200])
        except self._ray.exceptions.RayTaskError as err:  # only `ready` raises
            cause = err.cause if isinstance(getattr(err, "cause", None), InputError) else RuntimeError(describe(err))
            return Event(worker=worker, kind="broken", error=cause)
        return Event(worker=worker, kind=kind, reply=reply)

    def kill(self, worker: int) -> None:
        self._pending = {key: value for key, value in self._pending.items() if value[0] != worker}
        self._ray.kill(self._actors.pop(worker), no_restart=True)

    def close(self) -> None:
        for worker in list(self._actors):
            self.kill(worker)
        if self._owns_cluster:
            self._ray.shutdown()


class _RayWorker:
    """The actor."""

    def __init__(self, function: Function, memory_limit: int | None) -> None:
        self._function, self._memory_limit = function, memory_limit

    def ready(self) -> None:
        set_up(self._function)
        limit_memory(self._memory_limit)

    def run(self, task: Any) -> Reply:
        return call(self._function, task)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as err:
        raise InputError("the engine ray needs the package ray; install it: pip install 'mdtdist[ray]'.") from err
    return ray


def _connect(ray: Any, address: str | None, num_cpus: int | None) -> None:
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "runtime_env": {"env_vars": dict.fromkeys(THREADS, "1")},
    }
    if address is None:
        os.environ.setdefault("RAY_worker_niceness", "0")  # else its workers starve on a machine that does other work
        options |= {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as err:
        raise InputError(
            f"no Ray cluster answers at {address!r} ({describe(err)}); start one (`ray start --head`), or leave the "
            "address out to use this machine."
        ) from err
