"""Surface colours from Gaussians or from vertex colours, without rendering views; textures made of them."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from mdtdist.errors import InputError
from mdtdist.export.normals import vertex_normals
from mdtdist.render.mesh_rasterizer import covered_pixels
from mdtdist.representations import Gaussians, Mesh

_CHUNK = 1 << 15  # texels blended at once: about 100 MB of temporaries with 16 neighbours
_NEAREST_VERTICES = 8  # a vertex and most of its ring
_LEAST_OPACITY = 0.02  # fainter Gaussians do not colour a surface
_FALLBACK = 1e-3  # share of plain distance weights; decides only where nothing better does


def bake_texture(mesh: Mesh, source: Gaussians | Mesh, *, size: int = 512, num_neighbors: int = 16) -> Mesh:
    """Colour every texel with what the source around it looks like, seen along the surface normal.

    Texels between the charts copy the nearest chart texel, so that filtering never shows a seam.

    Args:
        mesh: with ``uv``.
        source: the same object as Gaussians (on any device) or as a mesh with vertex colours.
        size: side of the square texture, texels.
        num_neighbors: Gaussians per texel.

    Returns:
        The mesh with a texture and without vertex colours: display-referred sRGB, row 0 at v = 1.

    Raises:
        InputError: if the source has no colours, or the mesh has no texture coordinates.
    """
    if mesh.uv is None:
        raise InputError("mesh has no texture coordinates; expected uv, so unwrap it first")
    rows, columns, faces, weights = rasterize_uv(mesh.uv[mesh.faces], size)
    corners = mesh.faces[faces]
    positions = np.einsum("tc,tcd->td", weights, mesh.vertices[corners])
    normals = np.einsum("tc,tcd->td", weights, vertex_normals(mesh)[corners])
    texture = np.zeros((size, size, 3))
    texture[rows, columns] = colors_at(positions, normals, source, num_neighbors=num_neighbors)
    return dataclasses.replace(mesh, texture=_fill_gutters(texture, rows, columns), vertex_colors=None)


def colors_at(
    positions: Float[np.ndarray, "T 3"],
    normals: Float[np.ndarray, "T 3"],
    source: Gaussians | Mesh,
    *,
    num_neighbors: int = 16,
) -> Float[np.ndarray, "T 3"]:
    """Colours in [0, 1] of surface points with outward normals of any length.

    Raises:
        InputError: if the source has no Gaussians or no vertex colours.
    """
    if isinstance(source, Mesh):
        return vertex_colors_at(positions, normals, source)
    return surface_colors(positions, normals, source, num_neighbors=num_neighbors)


def rasterize_uv(
    triangles: Float[np.ndarray, "F 3 2"], size: int
) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "T"], Int[np.ndarray, "T"], Float[np.ndarray, "T 3"]]:
    """The texels whose centres lie in triangles of the unit square, v up.

    Returns:
        Row (0 at v = 1), column, triangle and barycentric weights of each covered texel; a texel on a common edge
        comes once per triangle.
    """
    return covered_pixels(np.stack([triangles[..., 0], 1 - triangles[..., 1]], -1) * size, size)


def surface_colors(
    positions: Float[np.ndarray, "T 3"],
    normals: Float[np.ndarray, "T 3"],
    gaussians: Gaussians,
    *,
    num_neighbors: int = 16,
) -> Float[np.ndarray, "T 3"]:
    """What Gaussians look like at surface points, seen along their normals (any length, pointing outwards).

    The ``num_neighbors`` Gaussians nearest to a point are composited front to back along the normal (as an orthographic
    splatting renderer would) and the result is divided by its coverage.

    Returns:
        Display-referred sRGB in [0, 1].

    Raises:
        InputError: if there are no Gaussians.
    """
    if not len(gaussians):
        raise InputError("no Gaussians to take colours from; expected at least one")
    arrays = {name: value.detach().cpu().float().numpy() for name, value in vars(gaussians).items()}
    colors = gaussians.colors.detach().cpu().float().clamp_max(1).numpy()
    visible = arrays["opacities"] > min(_LEAST_OPACITY, 0.5 * arrays["opacities"].max())
    means, opacities, colors = arrays["means"][visible], arrays["opacities"][visible], colors[visible]
    whitening = _whitening(arrays["rotations"][visible], arrays["scales"][visible])
    tree, ranks = cKDTree(means), range(1, min(num_neighbors, len(means)) + 1)
    result = np.empty((len(positions), 3), np.float32)
    for start in range(0, len(positions), _CHUNK):
        part = slice(start, start + _CHUNK)
        _, index = tree.query(positions[part], k=list(ranks))
        offsets = means[index] - positions[part, None].astype(np.float32)
        shares = _blend(offsets, normals[part].astype(np.float32), whitening[index], opacities[index])
        result[part] = np.einsum("tk,tkc->tc", shares, colors[index])
    return result


def vertex_colors_at(
    positions: Float[np.ndarray, "T 3"], normals: Float[np.ndarray, "T 3"], mesh: Mesh
) -> Float[np.ndarray, "T 3"]:
    """Vertex colours of a mesh at points on or near its surface.

    Inverse squared distance over the nearest vertices, of which those facing another way than the point hardly count:
    the two sides of a thin wall keep their own colours.

    Returns:
        Display-referred sRGB in [0, 1]; at a vertex, the colour of the vertex.

    Raises:
        InputError: if the mesh has no vertex colours.
    """
    if mesh.vertex_colors is None:
        raise InputError("mesh has no vertex colours to take colours from; give Gaussians, or a mesh that has them")
    used = np.unique(mesh.faces)
    vertices, colors, directions = mesh.vertices[used], mesh.vertex_colors[used].clip(0, 1), vertex_normals(mesh)[used]
    tree, ranks = cKDTree(vertices), range(1, min(_NEAREST_VERTICES, len(used)) + 1)
    result = np.empty((len(positions), 3))
    for start in range(0, len(positions), _CHUNK):
        part = slice(start, start + _CHUNK)
        distances, index = tree.query(positions[part], k=list(ranks))
        lengths = np.maximum(np.linalg.norm(normals[part], axis=1, keepdims=True), 1e-12)
        cosines = np.einsum("tki,ti->tk", directions[index], normals[part] / lengths)
        weights = np.maximum(cosines, _FALLBACK) / (distances**2 + 1e-12)
        result[part] = np.einsum("tk,tkc->tc", weights / weights.sum(1, keepdims=True), colors[index])
    return result


def _blend(
    offsets: Float[np.ndarray, "T K 3"],
    normals: Float[np.ndarray, "T 3"],
    whitening: Float[np.ndarray, "T K 3 3"],
    opacities: Float[np.ndarray, "T K"],
) -> Float[np.ndarray, "T K"]:
    """Share of each Gaussian in the colour of its texel; the shares of a texel sum to one."""
    offset = np.einsum("tkij,tkj->tki", whitening, offsets)
    normal = np.einsum("tkij,tj->tki", whitening, normals)
    # The Gaussian's largest value on the line through the texel along the normal.
    along = np.einsum("tki,tki->tk", offset, normal) ** 2 / np.maximum((normal**2).sum(-1), 1e-12)
    alphas = np.minimum(opacities * np.exp(-0.5 * np.maximum((offset**2).sum(-1) - along, 0)), 0.99)
    order = np.argsort(-np.einsum("tki,ti->tk", offsets, normals), axis=1)  # outermost first
    sorted_alphas = np.take_along_axis(alphas, order, 1)
    light = np.cumprod(1 - sorted_alphas, axis=1) / (1 - sorted_alphas)
    shares = np.empty_like(alphas)
    np.put_along_axis(shares, order, sorted_alphas * light, 1)
    squares = (offsets**2).sum(-1)
    shares += _FALLBACK * opacities * np.exp(-2 * squares / np.maximum(squares.mean(1, keepdims=True), 1e-12))
    return shares / shares.sum(1, keepdims=True)


def _whitening(rotations: Float[np.ndarray, "N 4"], scales: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3 3"]:
    """Maps that make each Gaussian a unit one: diag(1 / scale) R^T."""
    w, x, y, z = (rotations / np.linalg.norm(rotations, axis=1, keepdims=True)).T
    transposed = np.stack(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
            [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.moveaxis(transposed, -1, 0) / np.maximum(scales, 1e-6)[:, :, None]


def _fill_gutters(
    texture: Float[np.ndarray, "S S 3"], rows: Int[np.ndarray, "T"], columns: Int[np.ndarray, "T"]
) -> UInt8[np.ndarray, "S S 3"]:
    """Copy the nearest covered texel into every uncovered one; 8 bits."""
    empty = np.ones(texture.shape[:2], bool)
    empty[rows, columns] = False
    nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.rint(255 * np.clip(texture[tuple(nearest)], 0, 1)).astype(np.uint8)
