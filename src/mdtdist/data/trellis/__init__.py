"""The layout ``trellis``: data files as TRELLIS's own tools make them (Xiang et al., 2024, arXiv 2412.01506)."""

from mdtdist.data.trellis.settings import TrellisSettings
from mdtdist.data.trellis.stages import trellis_finish, trellis_stages

__all__ = ["TrellisSettings", "trellis_finish", "trellis_stages"]
