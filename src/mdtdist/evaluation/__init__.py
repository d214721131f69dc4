"""Protocols, distances and benchmarks."""

from mdtdist.evaluation.metrics.bootstrap import Interval, bootstrap_mean, bootstrap_median, bootstrap_statistic
from mdtdist.evaluation.metrics.frechet import FeatureGrams, fit_gaussian, frechet_distance
from mdtdist.evaluation.metrics.geometry import (
    chamfer_distance,
    downsample_grid,
    surface_distances,
    surface_f1,
    voxel_iou,
)

__all__ = [
    "FeatureGrams",
    "Interval",
    "bootstrap_mean",
    "bootstrap_median",
    "bootstrap_statistic",
    "chamfer_distance",
    "downsample_grid",
    "fit_gaussian",
    "frechet_distance",
    "surface_distances",
    "surface_f1",
    "voxel_iou",
]
