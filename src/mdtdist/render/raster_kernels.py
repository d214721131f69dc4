"""The inner loops of the triangle rasteriser, compiled by numba when they are first called and then kept on disk.

Pictures are grids of samples, row 0 at the top; the centre of sample (row, column) is at (column + 0.5, row + 0.5).
"Inverse depth" is one over the distance along the view axis: it is linear across a triangle in the picture, and the
larger is the nearer.
"""

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Int, UInt8

_CUTOUT_ALPHA = 0.5  # as in the ray caster: texels below are holes
_EDGE = 1e-9  # an edge belongs to both its faces in spite of rounding, so that there is no crack between them
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_inlined = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")  # a call counts its arrays' uses


class Surface(NamedTuple):
    """A model as the kernels read it.

    Attributes:
        faces: vertex indices.
        uv: texture coordinates of the vertices, origin at the lower left, repeated outside [0, 1].
        colors: of the vertices.
        material: of the faces.
        texels: RGBA with premultiplied colour of all textures, one after the other.
        texture: per material the index of its first texel (-1 for no texture), height, width, and 1 if it has holes.
        tint: per material colour and opacity.
    """

    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"]
    colors: Float[np.ndarray, "V 3"]
    material: Int[np.ndarray, "F"]
    texels: UInt8[np.ndarray, "T 4"]
    texture: Int[np.ndarray, "M 4"]
    tint: Float[np.ndarray, "M 4"]


class Samples(NamedTuple):
    """What is known of every sample of a picture.

    Attributes:
        face: the nearest face of the current layer, -1 for none.
        inverse: its inverse depth, 0 for none.
        limit: only what has a smaller inverse depth takes part in the current layer; 0 for a sample that is finished.
        color: of the layers so far, weighted.
        weight: sum of those weights, in [0, 1].
        depth: of the nearest visible surface, 0 for none.
    """

    face: Int[np.ndarray, "H W"]
    inverse: Float[np.ndarray, "H W"]
    limit: Float[np.ndarray, "H W"]
    color: Float[np.ndarray, "H W 3"]
    weight: Float[np.ndarray, "H W"]
    depth: Float[np.ndarray, "H W"]


@_compiled
def find_nearest(projected: Float[np.ndarray, "V 3"], surface: Surface, samples: Samples) -> None:
    """Set ``face`` and ``inverse`` of one layer.

    Args:
        projected: x to the right and y down in samples, inverse depth; a vertex behind the camera has a negative one
            and its faces are left out.
        surface: what is drawn.
        samples: ``limit`` is read.
    """
    height, width = samples.face.shape
    for f in range(len(surface.faces)):
        a, b, c = surface.faces[f]
        (xa, ya, za), (xb, yb, zb), (xc, yc, zc) = projected[a], projected[b], projected[c]
        if min(za, zb, zc) <= 0:
            continue
        first_row, last_row = max(np.ceil(min(ya, yb, yc) - 0.5), 0), min(np.floor(max(ya, yb, yc) - 0.5), height - 1)
        first, last = max(np.ceil(min(xa, xb, xc) - 0.5), 0), min(np.floor(max(xa, xb, xc) - 0.5), width - 1)
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if first > last or first_row > last_row or area == 0:
            continue
        has_holes = surface.texture[surface.material[f], 3] == 1
        # Barycentric weights in the picture: how they change from sample to sample, and their value at the first.
        b_right, b_down, c_right, c_down = (yc - ya) / area, (xa - xc) / area, (ya - yb) / area, (xb - xa) / area
        b_first = (first + 0.5 - xa) * b_right + (first_row + 0.5 - ya) * b_down
        c_first = (first + 0.5 - xa) * c_right + (first_row + 0.5 - ya) * c_down
        for row in range(int(first_row), int(last_row) + 1):
            b_row, c_row = b_first + (row - first_row) * b_down, c_first + (row - first_row) * c_down
            for column in range(int(first), int(last) + 1):
                wb, wc = b_row + (column - first) * b_right, c_row + (column - first) * c_right
                wa = 1 - wb - wc
                if wa < -_EDGE or wb < -_EDGE or wc < -_EDGE:
                    continue
                inverse = wa * za + wb * zb + wc * zc
                if inverse <= samples.inverse[row, column] or inverse >= samples.limit[row, column]:
                    continue
                if has_holes:
                    u, v = _texture_position(surface, f, wa * za / inverse, wb * zb / inverse, wc * zc / inverse)
                    if _texel(surface, surface.material[f], u, v)[3] < _CUTOUT_ALPHA:
                        continue
                samples.inverse[row, column] = inverse
                samples.face[row, column] = f


@_compiled
def add_layer(
    projected: Float[np.ndarray, "V 3"],
    surface: Surface,
    light: Float[np.ndarray, "F"],
    min_albedo: float,
    step: float,
    samples: Samples,
) -> int:
    """Add the colours of the layer found by :func:`find_nearest`, and prepare the samples for the next.

    Args:
        projected: as for :func:`find_nearest`.
        surface: what is drawn.
        light: factor of every face's colour.
        min_albedo: black is this bright.
        step: the next layer lies at least this far behind, object units.
        samples: changed in place.

    Returns:
        Samples that see through their surface and need another layer.
    """
    height, width = samples.face.shape
    unfinished = 0
    for row in range(height):
        for column in range(width):
            f = samples.face[row, column]
            if f < 0:
                samples.limit[row, column] = 0
                continue
            inverse = samples.inverse[row, column]
            wa, wb, wc = _weights(projected, surface, f, column + 0.5, row + 0.5)
            red, green, blue = _albedo(surface, f, wa, wb, wc)
            opacity = surface.tint[surface.material[f], 3]
            if samples.depth[row, column] == 0:
                samples.depth[row, column] = 1 / inverse
            share = (1 - samples.weight[row, column]) * opacity
            samples.color[row, column, 0] += share * light[f] * (min_albedo + (1 - min_albedo) * red)
            samples.color[row, column, 1] += share * light[f] * (min_albedo + (1 - min_albedo) * green)
            samples.color[row, column, 2] += share * light[f] * (min_albedo + (1 - min_albedo) * blue)
            samples.weight[row, column] += share
            is_finished = samples.weight[row, column] >= 0.99
            samples.limit[row, column] = 0 if is_finished else 1 / (1 / inverse + step)
            samples.face[row, column], samples.inverse[row, column] = -1, 0
            unfinished += not is_finished
    return unfinished


@_compiled
def resolve(samples: Samples, factor: int, rgba: UInt8[np.ndarray, "h w 4"], depth: Float[np.ndarray, "h w"]) -> None:
    """Blocks of ``factor`` x ``factor`` samples to pixels: straight alpha, the nearest depth.

    What glass left over is glass: a sample that met any surface counts whole.
    """
    for row in range(rgba.shape[0]):
        for column in range(rgba.shape[1]):
            red = green = blue = nearest = 0.0
            covered = 0
            for i in range(row * factor, (row + 1) * factor):
                for j in range(column * factor, (column + 1) * factor):
                    weight = samples.weight[i, j]
                    if weight > 0:
                        covered += 1
                        red += samples.color[i, j, 0] / weight
                        green += samples.color[i, j, 1] / weight
                        blue += samples.color[i, j, 2] / weight
                        nearest = samples.depth[i, j] if nearest == 0 else min(nearest, samples.depth[i, j])
            if covered:
                rgba[row, column, 0] = np.uint8(min(red / covered, 1.0) * 255 + 0.5)
                rgba[row, column, 1] = np.uint8(min(green / covered, 1.0) * 255 + 0.5)
                rgba[row, column, 2] = np.uint8(min(blue / covered, 1.0) * 255 + 0.5)
                rgba[row, column, 3] = np.uint8(covered / (factor * factor) * 255 + 0.5)
                depth[row, column] = nearest


@_inlined
def _weights(
    projected: Float[np.ndarray, "V 3"], surface: Surface, f: int, x: float, y: float
) -> tuple[float, float, float]:
    """Barycentric weights on the triangle itself of what is seen at a position in the picture."""
    a, b, c = surface.faces[f]
    (xa, ya, za), (xb, yb, zb), (xc, yc, zc) = projected[a], projected[b], projected[c]
    wb = ((x - xa) * (yc - ya) - (y - ya) * (xc - xa)) * zb
    wc = ((xb - xa) * (y - ya) - (yb - ya) * (x - xa)) * zc
    wa = ((xc - xb) * (y - yb) - (yc - yb) * (x - xb)) * za
    scale = 1 / (wa + wb + wc)
    return wa * scale, wb * scale, wc * scale


@_inlined
def _texture_position(surface: Surface, f: int, wa: float, wb: float, wc: float) -> tuple[float, float]:
    a, b, c = surface.faces[f]
    uv = surface.uv
    return wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0], wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]


@_inlined
def _albedo(surface: Surface, f: int, wa: float, wb: float, wc: float) -> tuple[float, float, float]:
    """Vertex colour, material colour and texture of a point of a face."""
    a, b, c = surface.faces[f]
    material, colors = surface.material[f], surface.colors
    red = (wa * colors[a, 0] + wb * colors[b, 0] + wc * colors[c, 0]) * surface.tint[material, 0]
    green = (wa * colors[a, 1] + wb * colors[b, 1] + wc * colors[c, 1]) * surface.tint[material, 1]
    blue = (wa * colors[a, 2] + wb * colors[b, 2] + wc * colors[c, 2]) * surface.tint[material, 2]
    if surface.texture[material, 0] >= 0:
        u, v = _texture_position(surface, f, wa, wb, wc)
        r, g, b_, alpha = _texel(surface, material, u, v)
        scale = 1 / max(alpha, 1e-3)
        red, green, blue = red * min(r * scale, 1.0), green * min(g * scale, 1.0), blue * min(b_ * scale, 1.0)
    return red, green, blue


@_inlined
def _texel(surface: Surface, material: int, u: float, v: float) -> tuple[float, float, float, float]:
    """Bilinear lookup with repeat: premultiplied colour and alpha in [0, 1]; v = 1 is the upper edge of row 0."""
    start, height, width, _ = surface.texture[material]
    x, y = (u - np.floor(u)) * width - 0.5, (1 - v - np.floor(1 - v)) * height - 0.5
    left, top = np.floor(x), np.floor(y)
    right, down = x - left, y - top
    column, row = np.int64(left if left >= 0 else width - 1), np.int64(top if top >= 0 else height - 1)
    next_column, next_row = 0 if column == width - 1 else column + 1, 0 if row == height - 1 else row + 1
    p, q = start + row * width, start + next_row * width
    up, left_part = (1 - down) / 255, 1 - right
    down = down / 255
    w00, w01, w10, w11 = up * left_part, up * right, down * left_part, down * right
    t = surface.texels
    i, j, k, m = p + column, p + next_column, q + column, q + next_column
    return (
        w00 * t[i, 0] + w01 * t[j, 0] + w10 * t[k, 0] + w11 * t[m, 0],
        w00 * t[i, 1] + w01 * t[j, 1] + w10 * t[k, 1] + w11 * t[m, 1],
        w00 * t[i, 2] + w01 * t[j, 2] + w10 * t[k, 2] + w11 * t[m, 2],
        w00 * t[i, 3] + w01 * t[j, 3] + w10 * t[k, 3] + w11 * t[m, 3],
    )
