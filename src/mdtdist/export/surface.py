"""A closed triangle mesh from a shell of occupied voxels."""

import dataclasses

import fast_simplification
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, sparse
from skimage.measure import marching_cubes
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.representations import Mesh

_SATURATION = 3.0  # a logit this far from the level is certain: sigmoid(3) = 0.95
_PADDING = 3  # empty voxels around the grid, so that the surface closes inside and the spline does not see the end
_FINE_RESOLUTION = 64  # coarser grids are refined once, or smoothing would thin a one-voxel leg to a thread
_THIN_VALUE, _THICK_VALUE = 1.0, 0.25  # least field of an occupied voxel; the surface of a leg shrinks when smoothed
_LEAST_THIN_VOXELS = 3  # one or two voxels on a surface are a bump, not a leg
_TAUBIN_SHRINK, _TAUBIN_GROW = 0.5, -0.53  # lambda and mu; pass band 1 / 0.5 - 1 / 0.53 = 0.11 (Taubin, 1995)


def extract_surface(
    logits: Float[Tensor, "R R R"],
    *,
    level: float = 0.0,
    smooth_sigma: float = 0.5,
    smooth_steps: int = 10,
    min_component: float = 0.005,
    target_faces: int | None = None,
) -> Mesh:
    """The outer surface of the object whose surface voxels are occupied.

    The shell is filled, so that a hollow object gives one surface and not two; then marching cubes on the clamped
    logits, Taubin smoothing (Taubin, "A signal processing approach to fair surface design", 1995), which keeps the
    volume, and quadric decimation if asked for. The surface runs half a voxel outside the centres of the outermost
    voxels.

    Args:
        logits: structure decoder output, axes x, y, z; occupied where above ``level``. Voxel (i, j, k) has its centre
            at ((i, j, k) + 0.5) / R - 0.5.
        level: occupancy threshold.
        smooth_sigma: width of the Gaussian applied to the logits, voxels; voxels keep the side of ``level`` they are
            on if they are occupied, so legs and stems of one voxel stay.
        smooth_steps: Taubin iterations (one shrinking and one growing step each).
        min_component: filled pieces with fewer voxels than this fraction of the largest one are dropped as floating
            dirt; the largest always stays.
        target_faces: upper limit of the number of faces; None keeps all.

    Returns:
        Mesh in object space without texture, faces counter-clockwise seen from outside.

    Raises:
        InputError: if no voxel is occupied.
    """
    field = np.clip((logits.detach().cpu().double().numpy() - level) / _SATURATION, -1, 1)
    if not (field > 0).any():
        raise InputError(f"no voxel has a logit above {level}; expected an object, so try another seed or image")
    field = np.pad(field, _PADDING, constant_values=-1.0)
    inside = _drop_small_components(fill_shell(field > 0), min_component)
    vertices, faces = _isosurface(_smooth_field(_close_field(field, inside), smooth_sigma), len(logits))
    vertices = taubin_smooth(vertices, faces, steps=smooth_steps)
    vertices = vertices / len(logits) - 0.5
    return _outward(*decimate(vertices, faces, target_faces=target_faces or len(faces)))


def fill_shell(occupied: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Add the voxels that the occupied ones enclose, also where the shell has gaps up to two voxels wide.

    The border of the grid must be empty.
    """
    filled = ndimage.binary_fill_holes(occupied)
    cube = np.ones((3, 3, 3), bool)
    thick = ndimage.binary_dilation(occupied, cube)
    core = ndimage.binary_fill_holes(thick) & ~thick
    # The core is one voxel away from the shell; growing it by one meets the shell and never passes it.
    return filled | ndimage.binary_dilation(core, cube)


def taubin_smooth(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, steps: int
) -> Float[np.ndarray, "V 3"]:
    """Low-pass the positions without shrinking: a step to the neighbours' mean, a slightly longer step back."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    adjacency = sparse.csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices),) * 2)
    adjacency.data[:] = 1.0  # an edge has two faces; it counts once
    mean_of_neighbours = sparse.diags(1 / np.maximum(np.diff(adjacency.indptr), 1)) @ adjacency
    for _ in range(steps):
        for factor in (_TAUBIN_SHRINK, _TAUBIN_GROW):
            vertices = vertices + factor * (mean_of_neighbours @ vertices - vertices)
    return vertices


def decimate(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, target_faces: int
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Quadric decimation to at most ``target_faces``; smaller meshes come back as they are."""
    if len(faces) <= target_faces:
        return vertices, faces
    vertices, faces = fast_simplification.simplify(
        vertices.astype(np.float32), faces.astype(np.int32), target_count=target_faces
    )
    return vertices.astype(np.float64), faces.astype(np.int64)


def without_cavities(mesh: Mesh) -> Mesh:
    """Leave out closed pieces that are turned inwards: walls of hollows, which nobody sees.

    A decoder that only knows voxels near the surface makes such a wall on the inner side of them.
    """
    num = len(mesh.vertices)
    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    graph = sparse.csr_matrix((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(num, num))
    count, piece_of = sparse.csgraph.connected_components(graph, directed=False)
    corners, piece = mesh.vertices[mesh.faces], piece_of[mesh.faces[:, 0]]
    volumes = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    kept = np.bincount(piece, volumes, count)[piece] > 0
    # A piece with a rim has no volume of its own: the sum depends on where the origin is.
    directed = mesh.faces[:, [0, 1, 2, 1, 2, 0]].reshape(-1, 2, 3).transpose(0, 2, 1).reshape(-1, 2)
    surplus = sparse.csr_matrix((np.ones(len(directed), dtype=np.int64), directed.T), shape=(num, num))
    rim = (surplus - surplus.T).nonzero()[0]
    is_open = np.zeros(count, dtype=bool)
    is_open[piece_of[rim]] = True
    kept |= is_open[piece]
    return dataclasses.replace(mesh, faces=mesh.faces[kept]) if kept.any() else mesh


def _drop_small_components(inside: Bool[np.ndarray, "X Y Z"], fraction: float) -> Bool[np.ndarray, "X Y Z"]:
    """Keep the pieces (touching at faces, edges or corners) with at least ``fraction`` of the largest one's voxels."""
    labels, _ = ndimage.label(inside, np.ones((3, 3, 3)))
    counts = np.bincount(labels.ravel())
    counts[0] = 0  # the empty space
    return (counts >= max(1, fraction * counts.max()))[labels]


def _close_field(field: Float[np.ndarray, "X Y Z"], inside: Bool[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    """Certainly inside where the shell encloses, certainly outside where a piece was dropped, else as it was."""
    enclosed = inside & (field <= 0)
    return np.where(enclosed, 1.0, np.where(inside, field, -np.abs(field)))


def _smooth_field(field: Float[np.ndarray, "X Y Z"], sigma: float) -> Float[np.ndarray, "X Y Z"]:
    """Gaussian smoothing that erases nothing: an occupied voxel stays inside, and firmly so where the shape is thin."""
    smooth = ndimage.gaussian_filter(field, sigma)
    inside = field > 0
    thin = inside & ~ndimage.binary_opening(inside, np.ones((2, 2, 2)))
    pieces, _ = ndimage.label(thin, np.ones((3, 3, 3)))
    thin &= (np.bincount(pieces.ravel()) >= _LEAST_THIN_VOXELS)[pieces]
    return np.where(inside, np.maximum(smooth, np.where(thin, _THIN_VALUE, _THICK_VALUE)), smooth)


def _isosurface(
    field: Float[np.ndarray, "X Y Z"], resolution: int
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Zero level of a padded field, in voxels; voxel i of the unpadded grid has its centre at i + 0.5."""
    refine = 2 if resolution < _FINE_RESOLUTION else 1
    if refine > 1:  # samples at every half voxel, first and last on the grid's own
        shape = np.array(field.shape)
        field = ndimage.zoom(field, (2 * shape - 1) / shape, order=3, mode="nearest")
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    return vertices.astype(np.float64) / refine - _PADDING + 0.5, faces.astype(np.int64)


def _outward(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Mesh:
    """Orient the faces so that the enclosed volume is positive."""
    corners = vertices[faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    return Mesh(vertices=vertices, faces=faces if volume > 0 else faces[:, ::-1].copy())
