"""How large a gradient may be."""

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from mdtdist.training.sharding import whole


class Clipper:
    """Scales gradients down to a largest norm, which follows the norms seen lately if a percentile is given.

    The percentile is that of the adaptive clipping of TRELLIS: until ``window`` finite norms are there the limit is
    ``max_norm``, from then on the smaller of ``max_norm`` and the percentile of the last ``window``.

    Attributes:
        norms: the last finite norms before clipping; the whole state.
    """

    def __init__(self, max_norm: float, *, percentile: float | None = None, window: int = 1000) -> None:
        self.max_norm, self.percentile, self.window = max_norm, percentile, window
        self.norms: deque[float] = deque(maxlen=window)

    @property
    def limit(self) -> float:
        """The largest norm of the next gradient."""
        if self.percentile is None or len(self.norms) < self.window:
            return self.max_norm
        return min(self.max_norm, percentile(list(self.norms), self.percentile))

    def clip(self, parameters: Iterable[nn.Parameter]) -> float:
        """Scale the gradients in place; returns their norm before."""
        norm = float(whole(nn.utils.clip_grad_norm_(parameters, self.limit)))
        if self.percentile is not None and norm < float("inf"):  # false for nan
            self.norms.append(norm)
        return norm


def percentile(values: Sequence[float], share: float) -> float:
    """The ``share`` percentile, linear between the two nearest values."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(share / 100))
