"""The two kinds of PLY files of TRELLIS's data: voxel centres and the normalised model. Binary, little endian."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mdtdist.data.files import whole_file
from mdtdist.data.voxelize import voxel_centers
from mdtdist.errors import InputError
from mdtdist.representations.triangles import TexturedTriangles

_AXES = ("x", "y", "z")


def write_voxels(path: Path, indices: UInt8[np.ndarray, "N 3"], *, resolution: int) -> None:
    """Centres ``(i + 0.5) / resolution - 0.5`` as float32 points, whole."""
    points = voxel_centers(indices, resolution=resolution).astype("<f4")
    with whole_file(path) as file:
        file.write(_header(len(points), num_faces=None))
        file.write(points.tobytes())


def read_voxels(path: Path, *, resolution: int) -> UInt8[np.ndarray, "N 3"]:
    """Voxel indices of a file of centres, as :func:`write_voxels` or TRELLIS wrote it, in the order of the file.

    Raises:
        InputError: if it cannot be read, or a point lies outside the cube.
    """
    import trimesh

    try:
        cloud: Any = trimesh.load(path, process=False)
        points = np.asarray(cloud.vertices, dtype=np.float64).reshape(-1, 3)
    except Exception as err:  # whatever a damaged file provokes
        raise InputError(f"{path} cannot be read ({type(err).__name__}: {err}); make the voxels again.") from err
    if not len(points) or np.abs(points).max() >= 0.5:
        raise InputError(f"{path} holds no voxels, or points outside the cube; make the voxels again.")
    return ((points + 0.5) * resolution).astype(np.uint8)


def num_voxels(path: Path) -> int:
    """From the header alone.

    Raises:
        InputError: if it has none.
    """
    with path.open("rb") as file:
        for line in file.read(4096).split(b"\n"):
            if line.startswith(b"element vertex"):
                return int(line.split()[2])
    raise InputError(f"{path} is no PLY file with vertices; make the voxels again.")


def write_mesh(path: Path, triangles: TexturedTriangles) -> None:
    """Positions and faces without their materials, whole; vertices that no face uses are left out."""
    used, faces = np.unique(triangles.faces, return_inverse=True)
    records = np.empty(len(triangles.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    records["count"], records["corners"] = 3, faces.reshape(-1, 3)
    with whole_file(path) as file:
        file.write(_header(len(used), num_faces=len(records)))
        file.write(triangles.vertices[used].astype("<f4").tobytes())
        file.write(records.tobytes())


def _header(num_vertices: int, *, num_faces: int | None) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {num_vertices}"]
    lines += [f"property float {axis}" for axis in _AXES]
    if num_faces is not None:
        lines += [f"element face {num_faces}", "property list uchar int vertex_indices"]
    return "\n".join([*lines, "end_header", ""]).encode()
