"""Frechet distance between Gaussians fitted to two sets of features (Heusel et al., 2017, Eq. 6)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdtdist.errors import InputError


def frechet_distance(
    mean_a: Float[np.ndarray, "D"],
    covariance_a: Float[np.ndarray, "D D"],
    mean_b: Float[np.ndarray, "D"],
    covariance_b: Float[np.ndarray, "D D"],
) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` of two Gaussians, float64.

    The trace of the root is that of the symmetric ``(R S_b R)^(1/2)`` with ``R = S_a^(1/2)``: real, and stable when
    the covariances are singular.
    """
    variances, directions = np.linalg.eigh(np.asarray(covariance_a, dtype=np.float64))
    root = (directions * np.sqrt(variances.clip(0))) @ directions.T
    inner = np.linalg.eigvalsh(root @ np.asarray(covariance_b, dtype=np.float64) @ root)
    shift = np.asarray(mean_a, dtype=np.float64) - mean_b
    return float(shift @ shift + np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.sqrt(inner.clip(0)).sum())


def fit_gaussian(features: Float[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "D D"]]:
    """Mean and unbiased covariance, float64."""
    features = np.asarray(features, dtype=np.float64)
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


@dataclass(frozen=True, kw_only=True)
class FeatureGrams:
    """Inner products of two sets of features that belong to the same objects; all a Frechet distance needs.

    With the centred features ``A`` [N, D] and ``B`` [N, D] as rows, the non-zero eigenvalues of ``S_a S_b`` are the
    squared singular values of ``A B^T / (N - 1)``. So the distance costs one N x N decomposition whatever D is, and
    every bootstrap resample takes it from the same three products.

    Attributes:
        aa: products within the first set.
        bb: products within the second set.
        ab: products across the sets.
        views: rows per object; the rows of one object are contiguous and are drawn together.
    """

    aa: Float[np.ndarray, "N N"]
    bb: Float[np.ndarray, "N N"]
    ab: Float[np.ndarray, "N N"]
    views: int = 1

    @classmethod
    def of(cls, a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "N D"], *, views: int = 1) -> "FeatureGrams":
        """Inner products of features; rows of ``a`` and ``b`` with one number belong to one object.

        Raises:
            InputError: if the sets differ in shape, or their rows do not divide into objects.
        """
        if a.shape != b.shape or len(a) % views or len(a) < 2:
            raise InputError(
                f"features have shapes {a.shape} and {b.shape} with {views} views an object; "
                "expected two sets of one shape, at least two rows, a multiple of the views"
            )
        # A shift of both sets changes nothing; without their common mean the products keep their digits.
        origin = np.asarray(a, dtype=np.float64).mean(0)
        a, b = a - origin, b - origin
        return cls(aa=a @ a.T, bb=b @ b.T, ab=a @ b.T, views=views)

    def distance(self, object_weights: Float[np.ndarray, "M"] | None = None) -> float:
        """The Frechet distance when object i counts ``object_weights[i]`` times (None: once each)."""
        weights = np.ones(len(self.aa))
        if object_weights is not None:
            weights = np.repeat(np.asarray(object_weights, dtype=np.float64), self.views)
        rows = np.flatnonzero(weights)
        weights, total = weights[rows], weights.sum()
        aa, bb, ab = (gram[np.ix_(rows, rows)] for gram in (self.aa, self.bb, self.ab))
        share = weights / total
        shift = share @ (aa + bb - ab - ab.T) @ share
        traces = sum(weights @ np.diag(gram) - total * (share @ gram @ share) for gram in (aa, bb))
        centred = ab - (share @ ab)[None] - (ab @ share)[:, None] + share @ ab @ share
        root = np.sqrt(weights)
        cross = np.linalg.svd(root[:, None] * centred * root, compute_uv=False).sum()
        return float(shift + (traces - 2 * cross) / (total - 1))


def frechet_statistic(
    a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "N D"], *, views: int = 1
) -> Callable[[Float[np.ndarray, "M"] | None], float]:
    """The Frechet distance as a function of how often each object counts (None: once each).

    For few rows it is that of ``FeatureGrams``, one N x N decomposition; for more than twice as many rows as channels
    the decompositions of D x D covariances are cheaper.

    Raises:
        InputError: as ``FeatureGrams.of``.
    """
    if len(a) <= 2 * a.shape[1] or a.shape != b.shape or len(a) % views:
        return FeatureGrams.of(a, b, views=views).distance

    def distance(weights: Float[np.ndarray, "M"] | None = None) -> float:
        counts = np.ones(len(a)) if weights is None else np.repeat(np.asarray(weights, dtype=np.float64), views)
        return frechet_distance(*_weighted_gaussian(a, counts), *_weighted_gaussian(b, counts))

    return distance


def _weighted_gaussian(
    features: Float[np.ndarray, "N D"], weights: Float[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "D D"]]:
    """Mean and unbiased covariance when row i occurs ``weights[i]`` times."""
    total = weights.sum()
    mean = weights @ features / total
    centred = (np.asarray(features, dtype=np.float64) - mean) * np.sqrt(weights)[:, None]
    return mean, centred.T @ centred / (total - 1)
