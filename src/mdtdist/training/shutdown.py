"""Stopping a run between two steps, when its state is whole."""

import signal
import threading
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

    def deliver(self) -> None:
        """Send the noted signal to the process again, with the handlers it had before: Ctrl-C raises, SIGTERM ends."""
        self._restore()
        received, self.received = self.received, None
        if received is not None:
            signal.raise_signal(received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        self._previous = {}
