"""Kernel distance between two sets of features: unbiased at any sample count, unlike the Frechet distance.

``KernelPairs`` is for two sets of the same objects, with intervals over objects; ``kernel_distance`` and
``subset_kernel_distance`` are the published estimates of KID between any two sets. The kernel is that of KID (Binkowski
et al., 2018, Sec. 4) in all of them, ``(x . y / D + 1)^3`` on raw features. Tables of 3D generation show 100 times the
distance.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mdtdist.errors import InputError

NUM_SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 1000, 2020  # of torch-fidelity
_ROWS = 1024


def cubic_kernel(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "N M"]:
    """``(x_i . y_j / D + 1)^3``, float64."""
    values = x.astype(np.float64) @ y.T.astype(np.float64) / x.shape[1] + 1
    return values * values * values  # ten times as fast as a power


def kernel_distance(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> float:
    """Squared maximum mean discrepancy of two sets (Gretton et al., 2012, Eq. 3), unbiased; the sizes may differ.

    Around 0 for equal distributions, and then negative as often as positive. Rows count as independent: the sets must
    not hold views of the same objects, see ``KernelPairs``.

    Raises:
        InputError: if the channels differ or a set has fewer than two rows.
    """
    _check_sets(a, b, least=2)
    within = 0.0
    for features in (a, b):
        own = (np.square(features, dtype=np.float64).mean(1) + 1) ** 3  # pairs of a row with itself
        within += (_kernel_sum(features, features) - own.sum()) / (len(features) * (len(features) - 1))
    return float(within - 2 * _kernel_sum(a, b) / (len(a) * len(b)))


@dataclass(frozen=True, kw_only=True)
class SubsetDistance:
    """The kernel distance over random subsets of both sets, as KID is published.

    Attributes:
        values: of each pair of subsets.
    """

    values: Float[np.ndarray, "S"]

    @property
    def mean(self) -> float:
        """The estimate."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """Population deviation over the subsets; subsets overlap, so this is no standard error."""
        return float(self.values.std())


def subset_kernel_distance(
    a: Float[np.ndarray, "N D"],
    b: Float[np.ndarray, "M D"],
    *,
    num_subsets: int = NUM_SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = SUBSET_SEED,
) -> SubsetDistance:
    """KID over subsets, with the arithmetic, the draws and the defaults of torch-fidelity.

    Raises:
        InputError: if the channels differ or a set has fewer rows than a subset.
    """
    _check_sets(a, b, least=size)
    rows = draw_subsets(len(a), len(b), num_subsets=num_subsets, size=size, seed=seed)
    values = [kernel_distance(a[i], b[j]) for i, j in zip(*rows, strict=True)]
    return SubsetDistance(values=np.array(values))


def draw_subsets(
    num_a: int, num_b: int, *, num_subsets: int, size: int, seed: int = SUBSET_SEED
) -> tuple[Int[np.ndarray, "S size"], Int[np.ndarray, "S size"]]:
    """Rows of each subset, without replacement: for every subset those of the first set, then those of the second."""
    random = np.random.RandomState(seed)  # the legacy generator: published numbers depend on its draws
    rows = [[random.choice(num, size, replace=False) for num in (num_a, num_b)] for _ in range(num_subsets)]
    return np.array([first for first, _ in rows]), np.array([second for _, second in rows])


def _kernel_sum(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]) -> float:
    """Sum over all pairs, some rows at a time: four views of 3218 objects would make matrices of 1.3 GB."""
    return sum(float(cubic_kernel(x[start : start + _ROWS], y).sum()) for start in range(0, len(x), _ROWS))


def _check_sets(a: np.ndarray, b: np.ndarray, *, least: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < max(least, 2):
        raise InputError(
            f"features have shapes {a.shape} and {b.shape}; expected as many channels and {max(least, 2)} rows or more"
        )


@dataclass(frozen=True, kw_only=True)
class KernelPairs:
    """What every pair of objects adds to the squared maximum mean discrepancy (Gretton et al., 2012, Eq. 4).

    Views of one object depend on each other, within a set and across the sets, so pairs within an object are left out.

    Attributes:
        pairs: ``k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(a_j, b_i)``, averaged over the views of objects i and j.
    """

    pairs: Float[np.ndarray, "M M"]

    @classmethod
    def of(cls, a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "N D"], *, views: int = 1) -> "KernelPairs":
        """Pairs of two sets of features; the ``views`` rows of one object are contiguous, and the same in both sets.

        Raises:
            InputError: if the sets differ in shape, or do not divide into two objects or more.
        """
        if a.shape != b.shape or len(a) % views or len(a) < 2 * views:
            raise InputError(
                f"features have shapes {a.shape} and {b.shape} with {views} views an object; "
                "expected two sets of one shape, at least two objects, a multiple of the views"
            )
        across = _object_kernel(a, b, views)
        return cls(pairs=_object_kernel(a, a, views) + _object_kernel(b, b, views) - across - across.T)

    def distance(self, object_weights: Float[np.ndarray, "M"] | None = None) -> float:
        """The distance when object i counts ``object_weights[i]`` times (None: once each).

        Copies of an object make no pair with each other. Around 0 for equal distributions, and then negative as often
        as positive.
        """
        weights = np.ones(len(self.pairs)) if object_weights is None else np.asarray(object_weights, dtype=np.float64)
        total = weights @ self.pairs @ weights - np.square(weights) @ np.diag(self.pairs)
        return float(total / (weights.sum() ** 2 - np.square(weights).sum()))


def _object_kernel(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N D"], views: int) -> Float[np.ndarray, "M M"]:
    """Kernel between objects, the mean over their views; in blocks, because all rows at once can be gigabytes."""
    num = len(y) // views
    rows = max(1, _ROWS // views) * views
    starts = range(0, len(x), rows)
    blocks = (cubic_kernel(x[start : start + rows], y).reshape(-1, views, num, views) for start in starts)
    return np.concatenate([block.mean(axis=(1, 3)) for block in blocks])
