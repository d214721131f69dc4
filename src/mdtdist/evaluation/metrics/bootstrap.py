"""Bootstrap intervals over objects (Efron, 1979): how far a number could move with other test objects."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

NUM_RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its bootstrap interval.

    Attributes:
        value: the statistic of the whole sample.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@lru_cache(maxsize=4)
def resample_counts(num_objects: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Int[np.ndarray, "R N"]:
    """How often each object is drawn in each resample of ``num_objects`` draws with replacement.

    One seed gives one set of resamples: statistics of several methods under the same counts are paired.
    The result is shared: do not change it.
    """
    uniform = np.full(num_objects, 1 / num_objects)
    return np.random.default_rng(seed).multinomial(num_objects, uniform, size=num_resamples)


def bootstrap_mean(
    values: Float[np.ndarray, "N"], *, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of one value per object.

    Differences of two methods, object by object, give the interval of a paired difference.
    """
    values = np.asarray(values, dtype=np.float64)
    counts = resample_counts(len(values), num_resamples=num_resamples, seed=seed)
    return percentile_interval(float(values.mean()), counts @ values / len(values), level=level)


def bootstrap_median(
    values: Float[np.ndarray, "N"], *, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile interval of the median of one value per object."""
    values = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(num_resamples, len(values)))
    return percentile_interval(float(np.median(values)), np.median(values[picks], axis=1), level=level)


def bootstrap_statistic(
    statistic: Callable[[Float[np.ndarray, "N"]], float],
    num_objects: int,
    *,
    num_resamples: int,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Centred percentile interval of any statistic of object weights.

    The replicates are shifted so that their mean is the statistic itself. A distance between two samples grows when
    objects are drawn twice; the plain percentiles of such a biased statistic may leave its own value out.

    Args:
        statistic: takes how often each object counts; all ones is the sample itself.
        num_objects: objects in the sample.
        num_resamples: evaluations of ``statistic``.
    """
    value = statistic(np.ones(num_objects))
    counts = resample_counts(num_objects, num_resamples=num_resamples, seed=seed)
    replicates = np.array([statistic(row.astype(np.float64)) for row in counts])
    return percentile_interval(value, replicates - replicates.mean() + value, level=level)


def percentile_interval(value: float, replicates: Float[np.ndarray, "R"], *, level: float = LEVEL) -> Interval:
    """The central ``level`` share of the replicates."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))
