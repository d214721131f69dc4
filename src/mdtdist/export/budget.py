"""Work that is refined as long as time allows."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


class TimeBudget:
    """Seconds that run from now on.

    Args:
        seconds: None for no limit.
        clock: seconds since any moment.
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._end = math.inf if seconds is None else clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left; negative once it has run out, infinite without a limit."""
        return self._end - self.clock()

    def half(self) -> "TimeBudget":
        """A budget of half of what is left."""
        return TimeBudget(None if math.isinf(self._end) else self.remaining / 2, clock=self.clock)


def refine(work: Callable[[int], Result], sizes: Sequence[int], budget: TimeBudget) -> tuple[Result, int]:
    """The result of ``work`` at the largest of the sizes that fits into the budget.

    Without a limit that is the last size, at once. Else the first size is done in any case; its time says which size
    still fits, if work grows as the square of its size, and so on. Work is never interrupted: the budget is exceeded if
    the first size already does, or where work grows faster than the square.

    Args:
        work: gives a result for a size.
        sizes: growing.
        budget: when to stop.

    Returns:
        The last result and its size.
    """
    if math.isinf(budget.remaining):
        return work(sizes[-1]), sizes[-1]
    place = 0
    while True:
        start = budget.clock()
        result = work(sizes[place])
        seconds, room = budget.clock() - start, budget.remaining
        fitting = [
            later
            for later in range(place + 1, len(sizes))
            if seconds * (sizes[later] / sizes[place]) ** 2 <= room
        ]  # fmt: skip
        if not fitting or room <= 0:
            return result, sizes[place]
        place = fitting[-1]
