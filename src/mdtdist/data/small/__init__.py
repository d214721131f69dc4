"""Training data of the model ``small``: turned objects of a bundle, seen from the front."""

from mdtdist.data.small.stages import small_layout
from mdtdist.data.small.turns import load_turned, turned

__all__ = ["load_turned", "small_layout", "turned"]
