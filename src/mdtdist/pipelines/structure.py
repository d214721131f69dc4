"""Structures: the voxels that the first stage made, or those of a given mesh in their place."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.data.normalize import HALF_SIDE, load_normalized
from mdtdist.data.voxelize import occupancy_grid, triangle_voxels
from mdtdist.errors import InputError
from mdtdist.representations import Mesh

MeshSource = str | os.PathLike[str] | Mesh

# Twice the most that the published flows were trained on; attention on more takes minutes and tens of GB.
MAX_VOXELS = 65536


class EmptyStructureError(RuntimeError):
    """The structure flow produced no occupied voxel."""


class TooManyVoxelsError(RuntimeError):
    """The structure flow produced more voxels than the cap: usually a teacher with too few steps."""


def occupied(logits: Float[Tensor, "B R R R"], *, max_voxels: int = MAX_VOXELS) -> Int[Tensor, "N 4"]:
    """Voxels with a logit above 0 as int32 (batch, x, y, z), in row-major order.

    Raises:
        EmptyStructureError: if a sample has none.
        TooManyVoxelsError: if a sample has more than ``max_voxels``.
    """
    counts = (logits > 0).flatten(1).sum(1).tolist()
    for index, count in enumerate(counts):
        if count == 0:
            raise EmptyStructureError(
                f"the structure flow produced no voxel for sample {index} (largest logit "
                f"{logits[index].max():.2f}); try another seed or more steps"
            )
        if count > max_voxels:
            raise TooManyVoxelsError(
                f"the structure flow produced {count} voxels for sample {index}; expected at most {max_voxels}. An "
                "undistilled flow does that in a few steps: take more steps or a student, or raise max_voxels if there "
                "is memory"
            )
    return torch.argwhere(logits > 0).int()


def given_logits(source: MeshSource | Tensor, *, resolution: int) -> Float[Tensor, "R R R"]:
    """The structure that a caller gives, as logits: those of a mesh, or logits as they are.

    Raises:
        InputError: if a mesh cannot be used, or logits have another resolution.
    """
    if not isinstance(source, Tensor):
        return structure_logits(source, resolution=resolution)
    if source.shape != (resolution,) * 3:
        raise InputError(f"the structure has shape {tuple(source.shape)}; expected {(resolution,) * 3}")
    return source


def structure_logits(mesh: MeshSource, *, resolution: int) -> Float[Tensor, "R R R"]:
    """Logits of a structure that is the surface of a mesh: 1 on voxels that it touches, -1 elsewhere.

    The bounding box is centred and its longest side scaled to 1, as TRELLIS does for its variants.

    Args:
        mesh: a file (GLB, glTF and OBJ are Y up, PLY and STL Z up), or a mesh in object space.
        resolution: voxels a side.

    Raises:
        InputError: if the file is missing or no mesh, or the mesh is empty, flat to a point, or not finite.
    """
    try:
        corners = _corners_in_space(mesh) if isinstance(mesh, Mesh) else _corners_of_file(Path(mesh))
    except (ValueError, OSError, KeyError, TypeError, IndexError, NotImplementedError) as err:  # as readers have it
        what = "the mesh" if isinstance(mesh, Mesh) else f"the mesh {os.fspath(mesh)!r}"
        raise InputError(f"{what} cannot be used ({err}); expected triangles, as GLB, OBJ, PLY or STL") from err
    voxels = triangle_voxels(corners, resolution=resolution).astype(np.uint8)
    grid = torch.from_numpy(occupancy_grid(voxels, resolution=resolution))
    return 2.0 * grid.float() - 1.0


def _corners_of_file(path: Path) -> Float[np.ndarray, "F 3 3"]:
    if not path.is_file():
        raise ValueError("there is no such file")
    return load_normalized(path).triangles


def _corners_in_space(mesh: Mesh) -> Float[np.ndarray, "F 3 3"]:
    corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
    if not len(corners) or not np.isfinite(corners).all():
        raise ValueError("it has no triangles, or positions that are not finite")
    low, high = corners.min((0, 1)), corners.max((0, 1))
    if (side := float((high - low).max())) <= 0:
        raise ValueError("all vertices coincide")
    return ((corners - (low + high) / 2) / side).clip(-HALF_SIDE, HALF_SIDE)
