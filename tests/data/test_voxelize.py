import dataclasses

import numpy as np
import pytest

from mdtdist.data.voxelize import occupancy_grid, triangle_voxels, voxel_centers, voxelize_surface
from mdtdist.representations.triangles import Material
from tests.data.shapes import WHITE, facing_square


def _mesh(mesh):
    return np.asarray(mesh.triangles)


def test_small_triangle_marks_the_voxel_it_lies_in():
    center = np.array([0.31, -0.22, 0.11])
    corners = center + 1e-4 * np.eye(3)[None]
    voxels = triangle_voxels(corners, resolution=32)
    assert voxels.tolist() == [[25, 8, 19]]  # floor((c + 0.5) * 32), axes in the order x, y, z
    assert np.abs(voxel_centers(voxels) - center).max() <= 0.5 / 32 + 1e-9


def test_plane_marks_exactly_one_layer():
    half, y = 0.249, 0.1
    indices = voxelize_surface(facing_square(y, Material(), half=half))
    grid = occupancy_grid(indices)
    expected = np.zeros_like(grid)
    expected[8:24, int((y + 0.5) * 32), 8:24] = True
    assert (grid == expected).all()


def test_full_cube_marks_its_shell():
    trimesh = pytest.importorskip("trimesh")
    side = 1 - 2e-6
    indices = triangle_voxels(_mesh(trimesh.creation.box(extents=[side] * 3)), resolution=8)
    assert len(np.unique(indices, axis=0)) == 8**3 - 6**3


def test_sphere_voxels_hug_the_surface_and_miss_none():
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    voxels = triangle_voxels(_mesh(mesh), resolution=16)
    grid = occupancy_grid(voxels, resolution=16)
    half_diagonal = 3**0.5 / 2 / 16
    radii = np.linalg.norm(voxel_centers(voxels, resolution=16), axis=1)
    assert np.abs(radii - 0.4).max() <= half_diagonal + 0.01  # 0.01: the facets lie a little inside the sphere
    points, _ = trimesh.sample.sample_surface(mesh, 20000, seed=0)
    assert grid[tuple(np.floor((np.asarray(points) + 0.5) * 16).astype(int).T)].all()


def test_thin_slanted_triangle_does_not_fill_its_bounding_box():
    corners = np.array([[[-0.45, -0.44, -0.43], [0.43, 0.44, 0.45], [0.43, 0.44, 0.449]]])
    voxels = np.unique(triangle_voxels(corners, resolution=32), axis=0)
    assert len(voxels) < 100  # its bounding box has 24389
    assert np.ptp(voxels, axis=1).max() <= 1  # all on the diagonal


def test_winding_does_not_matter():
    mesh = facing_square(0.1, Material())
    flipped = dataclasses.replace(mesh, faces=mesh.faces[:, ::-1])
    assert (voxelize_surface(mesh) == voxelize_surface(flipped)).all()


def test_transparent_texels_leave_no_voxels():
    texture = np.full((4, 4, 4), 255, dtype=np.uint8)
    texture[:, :1, 3] = 0  # the left quarter, x below -0.2
    voxels = voxelize_surface(facing_square(0.1, Material(color=WHITE, texture=texture), half=0.4))
    assert voxels[:, 0].min() == 9
    assert len(voxels) == 20 * 26  # columns 9 to 28, rows 3 to 28, one layer
