"""Stopping a run between two steps, when its state is whole."""

import signal
import threading
from collections.abc import Callable
from types import FrameType


class StopRequest:
    """While entered, SIGINT and SIGTERM are noted instead of acted upon; ``deliver`` acts on them later.

    A second signal is acted upon at once. Outside the main thread, where Python allows no handlers, nothing is noted.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            # A background job of a shell ignores Ctrl-C, and goes on ignoring it.
            heeded = [number for number in self._SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def agree(self, largest: Callable[[int], int]) -> None:
        """Stop all processes of a training at one step: ``largest`` gives the largest of their numbers."""
        self.received = largest(self.received or 0) or None

    def deliver(self) -> None:
        """Act on the noted signal with the handler there was before.

        Ctrl-C raises. SIGTERM, if it has no handler, ends the program with 128 + 15, which is how shells report it,
        after its ``finally`` clauses: logs and progress bars are closed.
        """
        self._restore()
        received, self.received = self.received, None
        if received == signal.SIGTERM and signal.getsignal(received) is signal.SIG_DFL:
            raise SystemExit(128 + received)
        if received is not None:
            signal.raise_signal(received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        self._previous = {}
