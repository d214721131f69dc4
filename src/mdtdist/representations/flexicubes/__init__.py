"""FlexiCubes: a differentiable mesh from signed values on a grid of cubes, dense or sparse."""

from mdtdist.representations.flexicubes.sparse_cubes import (
    COLOR_CHANNELS,
    SHAPE_CHANNELS,
    ExtractedMesh,
    TrainingTerms,
    mesh_from_cubes,
)
from mdtdist.representations.flexicubes.surface import CubeField, DualSurface, extract_dual_surface

__all__ = [
    "COLOR_CHANNELS",
    "SHAPE_CHANNELS",
    "CubeField",
    "DualSurface",
    "ExtractedMesh",
    "TrainingTerms",
    "extract_dual_surface",
    "mesh_from_cubes",
]
