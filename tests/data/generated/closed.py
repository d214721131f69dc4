"""Whether a surface is closed and wound outward."""

from collections import Counter

import numpy as np

from mdtdist.data.generated.solids import Solid


def open_edges(solid: Solid) -> int:
    """How many directed edges lack their opposite, after vertices at the same place were joined.

    Zero for a closed surface whose faces are wound alike.
    """
    _, joined = np.unique(solid.vertices.round(9), axis=0, return_inverse=True)
    faces = joined.reshape(-1)[solid.faces]
    edges = Counter(map(tuple, np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()))
    return sum(abs(number - edges[(end, start)]) for (start, end), number in edges.items())


def volume(solid: Solid) -> float:
    """Volume of a solid by the divergence theorem; negative if it is inside out."""
    first, second, third = np.moveaxis(solid.vertices[solid.faces], 1, 0)
    return float((first * np.cross(second, third)).sum() / 6)
