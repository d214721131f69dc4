"""How much of the references a set of outputs covers, and how much the outputs of one object differ."""

import numpy as np
from jaxtyping import Float

from mdtdist.errors import InputError


def coverage(outputs: Float[np.ndarray, "N D"], references: Float[np.ndarray, "M D"]) -> float:
    """Share of the references that are the nearest reference of at least one output.

    This is COV of Achlioptas et al. (2018, arXiv:1707.02392, Sec. 3), in Euclidean distance between features; not the
    coverage of Naeem et al. (2020), which counts references with an output inside of their k-nearest-neighbour ball.
    It can be 1 only if there are as many outputs as references, and noise covers more than mode collapse does: read it
    beside :func:`minimum_matching_distance`.

    Raises:
        InputError: if a set is empty or the features differ in size.
    """
    nearest = _squared_distances(outputs, references).argmin(axis=1)
    return len(np.unique(nearest)) / len(references)


def minimum_matching_distance(outputs: Float[np.ndarray, "N D"], references: Float[np.ndarray, "M D"]) -> float:
    """Mean over the references of the distance to the nearest output (MMD of Achlioptas et al., 2018).

    Raises:
        InputError: if a set is empty or the features differ in size.
    """
    return float(np.sqrt(_squared_distances(outputs, references).min(axis=0)).mean())


def diversity(outputs: Float[np.ndarray, "S N D"]) -> Float[np.ndarray, "N"]:
    """Mean Euclidean distance between two outputs of one object from different seeds, per object.

    Args:
        outputs: features, seeds first.

    Raises:
        InputError: if there are fewer than two seeds.
    """
    if outputs.ndim != 3 or len(outputs) < 2:
        raise InputError(f"features have shape {outputs.shape}; expected [seeds, objects, channels], two seeds or more")
    first, second = np.triu_indices(len(outputs), k=1)
    pairs = zip(first, second, strict=True)
    return np.mean([np.linalg.norm(outputs[i] - outputs[j], axis=1) for i, j in pairs], axis=0)


def _squared_distances(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "N M"]:
    if not len(a) or not len(b) or a.shape[1:] != b.shape[1:]:
        raise InputError(f"features have shapes {a.shape} and {b.shape}; expected rows on both sides, equally long")
    a, b = a.astype(np.float64), b.astype(np.float64)
    middle = b.mean(axis=0)  # distances do not change and the cancellation below is less
    a, b = a - middle, b - middle
    return ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T).clip(0)
