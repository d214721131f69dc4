"""Agreement of voxel shapes, on cubes whose overlap is counted by hand."""

import math

import pytest
import torch

from mdtdist.evaluation.metrics.geometry import (
    chamfer_distance,
    downsample_grid,
    surface_distances,
    surface_f1,
    voxel_iou,
)


def cube(*, start: int = 4, side: int = 4, size: int = 16) -> torch.Tensor:
    grid = torch.zeros(size, size, size, dtype=torch.bool)
    grid[start : start + side, 4 : 4 + side, 4 : 4 + side] = True
    return grid


def test_iou_of_shifted_cubes():
    assert voxel_iou(cube(), cube()) == 1
    assert voxel_iou(cube(), cube(start=5)) == pytest.approx(3 / 5)
    assert voxel_iou(cube(), cube(start=8)) == 0


@pytest.mark.parametrize(("shift", "share"), [(1, 1.0), (2, 3 / 4), (3, 2 / 4), (5, 0.0)])
def test_f1_counts_what_lies_within_one_voxel(shift, share):
    assert surface_f1(cube(), cube(start=4 + shift)) == pytest.approx(share)


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    large = cube(side=4) | cube(
        start=8, side=4
    )  # twice as long: all of the small one lies in it, 5 of its 8 layers near
    assert surface_f1(cube(), large) == pytest.approx(2 * (5 / 8) / (1 + 5 / 8))


def test_chamfer_of_shifted_cubes_in_object_units():
    assert chamfer_distance(cube(), cube()) == 0
    # Shift by 2: half of the layers are 1 and 2 voxels away, the other half overlap.
    assert chamfer_distance(cube(), cube(start=6)) == pytest.approx((1 + 2) / 4 / 16)


def test_distances_are_euclidean_and_directed():
    a, b = torch.zeros(2, 8, 8, 8, dtype=torch.bool)
    a[0, 0, 0] = b[3, 4, 0] = b[0, 0, 1] = True
    assert surface_distances(a, b).tolist() == [1.0]
    assert sorted(surface_distances(b, a).tolist()) == [1.0, 5.0]


def test_empty_shapes():
    empty = torch.zeros(16, 16, 16, dtype=torch.bool)
    assert voxel_iou(empty, empty) == surface_f1(empty, empty) == 1 and chamfer_distance(empty, empty) == 0
    assert voxel_iou(cube(), empty) == surface_f1(cube(), empty) == 0 and chamfer_distance(cube(), empty) == 1
    assert surface_distances(cube(), empty)[0] == pytest.approx(math.sqrt(3) * 16)


def test_downsampling_keeps_any_occupied_child():
    grid = torch.zeros(4, 4, 4, dtype=torch.bool)
    grid[1, 2, 3] = True
    assert downsample_grid(grid).nonzero().tolist() == [[0, 1, 1]]
