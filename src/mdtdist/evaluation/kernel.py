"""Kernel distance between two sets of features: unbiased at any sample count, unlike the Frechet distance."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdtdist.errors import InputError


@dataclass(frozen=True, kw_only=True)
class KernelPairs:
    """What every pair of objects adds to the squared maximum mean discrepancy (Gretton et al., 2012, Eq. 4).

    The kernel is that of KID, ``(x . y / D + 1)^3`` on raw features (Binkowski et al., 2018). Views of one object
    depend on each other, within a set and across the sets, so pairs within an object are left out.

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
        num, channels = len(a) // views, a.shape[1]

        def kernel(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "M M"]:
            values = (x.astype(np.float64) @ y.T.astype(np.float64) / channels + 1) ** 3
            return values.reshape(num, views, num, views).mean(axis=(1, 3))

        across = kernel(a, b)
        return cls(pairs=kernel(a, a) + kernel(b, b) - across - across.T)

    def distance(self, object_weights: Float[np.ndarray, "M"] | None = None) -> float:
        """The distance when object i counts ``object_weights[i]`` times (None: once each).

        Copies of an object make no pair with each other. Around 0 for equal distributions, and then negative as often
        as positive.
        """
        weights = np.ones(len(self.pairs)) if object_weights is None else np.asarray(object_weights, dtype=np.float64)
        products = np.outer(weights, weights)
        np.fill_diagonal(products, 0)
        return float((products * self.pairs).sum() / products.sum())
