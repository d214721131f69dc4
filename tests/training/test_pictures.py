"""Small pictures: which way is up, front and right."""

import numpy as np
import torch
from PIL import Image

from mdtdist.training.pictures import save_image_grid, save_structure_grid, voxel_picture


def test_voxels_are_seen_from_the_front_and_from_the_right():
    grid = torch.zeros(8, 8, 8, dtype=torch.bool)
    grid[6, 1, 7] = True  # right, near the front (-Y), on top
    picture = voxel_picture(grid, scale=1).astype(float)
    front, side = picture[:, :8], picture[:, 8:]
    assert np.argwhere(front).tolist() == [[0, 6]]  # top row, x to the right
    assert np.argwhere(side).tolist() == [[0, 1]]  # from +X, y to the right
    assert front[0, 6] == int(255 * (1 - 0.75 * 1 / 8)) and side[0, 1] == int(255 * (1 - 0.75 * 1 / 8))


def test_the_nearest_voxel_hides_those_behind():
    grid = torch.zeros(8, 8, 8, dtype=torch.bool)
    grid[2, 3:, 4] = True
    assert voxel_picture(grid, scale=1)[3, 2] == int(255 * (1 - 0.75 * 3 / 8))


def test_grids_of_pictures_are_rows_of_columns(tmp_path):
    grids = torch.zeros(3, 8, 8, 8, dtype=torch.bool)
    save_structure_grid(tmp_path / "a.png", [grids, grids[:3]])
    assert Image.open(tmp_path / "a.png").size == (3 * (2 * 24 + 4), 2 * (24 + 4))
    red, blue = (torch.zeros(3, 4, 4).index_fill(0, torch.tensor([channel]), 1.0) for channel in (0, 2))
    save_image_grid(tmp_path / "b.png", [[red, blue], [blue, red]])
    pixels = np.asarray(Image.open(tmp_path / "b.png"))
    assert pixels.shape == (8, 8, 3) and pixels[0, 0].tolist() == [255, 0, 0] and pixels[0, 7].tolist() == [0, 0, 255]
