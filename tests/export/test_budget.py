import math

import pytest

from mdtdist.export.budget import TimeBudget, refine


class Clock:
    """Time that passes only when work is done."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def worker(clock, seconds_per_square, done):
    """Work that takes as long as the square of its size; notes the sizes."""

    def work(size):
        clock.now += seconds_per_square * size**2
        done.append(size)
        return f"size {size}"

    return work


SIZES = [1, 2, 4, 8]


def run(seconds, exponent_factor=1.0):
    clock, done = Clock(), []
    budget = TimeBudget(seconds, clock=clock)
    result = refine(worker(clock, exponent_factor, done), SIZES, budget)
    return result, done, clock.now - 100


def test_without_a_limit_only_the_last_size_is_done():
    assert run(None) == (("size 8", 8), [8], 64)


def test_with_enough_time_the_first_size_is_a_probe_for_the_last():
    assert run(65) == (("size 8", 8), [1, 8], 65)


@pytest.mark.parametrize("seconds, sizes", [(64.9, [1, 4]), (17, [1, 4]), (16.9, [1, 2]), (4.9, [1]), (0.5, [1])])
def test_the_largest_size_that_fits_is_the_last(seconds, sizes):
    (result, size), done, spent = run(seconds)
    assert done == sizes and size == sizes[-1] and result == f"size {size}"
    assert spent <= max(seconds, 1)


def test_work_that_grows_more_slowly_goes_on_after_cautious_steps():
    clock, done = Clock(), []

    def work(size):
        clock.now += 1
        done.append(size)
        return size

    assert refine(work, SIZES, TimeBudget(10, clock=clock)) == (8, 8)
    assert done == SIZES  # 9, 8 and 7 s are left, and one doubling is expected to take 4 s


def test_half_of_what_is_left():
    clock = Clock()
    budget = TimeBudget(10, clock=clock)
    clock.now += 4
    assert budget.remaining == pytest.approx(6) and budget.half().remaining == pytest.approx(3)
    assert math.isinf(TimeBudget(None, clock=clock).half().remaining)
