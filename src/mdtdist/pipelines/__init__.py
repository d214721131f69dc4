"""From a person's input to a 3D asset."""

from mdtdist.pipelines.asset import FORMATS, Asset
from mdtdist.pipelines.config import PipelineConfig, SamplerConfig
from mdtdist.pipelines.image_to_3d import EmptyStructureError, ImageTo3D, occupied
from mdtdist.pipelines.locate import locate_model, shipped_models

__all__ = [
    "FORMATS",
    "Asset",
    "EmptyStructureError",
    "ImageTo3D",
    "PipelineConfig",
    "SamplerConfig",
    "locate_model",
    "occupied",
    "shipped_models",
]
