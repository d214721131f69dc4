"""Limits on the memory and time of a block of code in this process, taken back when it ends."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_holders = 0  # blocks that run under the limit on memory right now; they share it
_before: tuple[int, int] | None = None


class OutOfTime(BaseException):
    """Not an ``Exception``: code that catches everything it can think of must not swallow it."""


@contextmanager
def bounded(*, max_memory: int, max_seconds: float) -> Iterator[None]:
    """Run a block with at most ``max_memory`` more bytes of address space, for at most ``max_seconds``.

    Where a system lacks the means (no ``setrlimit``; another thread than the main one for time; CUDA in use for memory)
    that limit is left out.

    Raises:
        MemoryError: from the allocation that went beyond.
        OutOfTime: when the time is over, again each second until the block gives in.
    """
    with _bounded_memory(max_memory), _bounded_time(max_seconds):
        yield


@contextmanager
def _bounded_memory(allowance: int) -> Iterator[None]:
    global _holders, _before
    with _lock:
        if _holders == 0:
            _before = _limit_address_space(allowance)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _before is not None:
                _set_address_space(_before)


def _limit_address_space(allowance: int) -> tuple[int, int] | None:
    """Set the soft limit; the limits before, or None if nothing was set."""
    used = _address_space()
    if used is None or _uses_cuda():
        return None
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    limits = [value for value in (used + allowance, *before) if value != resource.RLIM_INFINITY]
    return before if _set_address_space((min(limits), before[1])) else None


def _set_address_space(limits: tuple[int, int]) -> bool:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    except (ValueError, OSError):  # a system that knows the limit but does not let it be set
        logger.debug("cannot limit the address space", exc_info=True)
        return False
    return True


def _address_space() -> int | None:
    """Bytes of address space in use; None where the system does not tell (anything but Linux)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
    except (OSError, ValueError):
        return None
    import resource

    return pages * resource.getpagesize()


def _uses_cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


@contextmanager
def _bounded_time(seconds: float) -> Iterator[None]:
    is_possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not is_possible or signal.getitimer(signal.ITIMER_REAL)[0] > 0:  # somebody else's alarm is left alone
        yield
        return

    is_running = True

    def ring(number: int, frame: FrameType | None) -> None:
        if is_running:
            raise OutOfTime

    handler = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        is_running = False  # an alarm on its way finds nothing to stop
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
