"""Protocols, distances and benchmarks."""

from mdtdist.evaluation.geometry import chamfer_distance, downsample_grid, surface_distances, surface_f1, voxel_iou

__all__ = ["chamfer_distance", "downsample_grid", "surface_distances", "surface_f1", "voxel_iou"]
