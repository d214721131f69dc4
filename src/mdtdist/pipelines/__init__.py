"""From a person's input to a 3D asset."""

from mdtdist.pipelines.asset import FORMATS, Asset
from mdtdist.pipelines.config import PipelineConfig, SamplerConfig
from mdtdist.pipelines.image_to_3d import ImageTo3D
from mdtdist.pipelines.locate import resolve_model, resolve_student, shipped_models
from mdtdist.pipelines.options import Options
from mdtdist.pipelines.structure import EmptyStructureError, TooManyVoxelsError, occupied
from mdtdist.pipelines.text_to_3d import TextTo3D

__all__ = [
    "FORMATS",
    "Asset",
    "EmptyStructureError",
    "ImageTo3D",
    "Options",
    "PipelineConfig",
    "SamplerConfig",
    "TextTo3D",
    "TooManyVoxelsError",
    "occupied",
    "resolve_model",
    "resolve_student",
    "shipped_models",
]
