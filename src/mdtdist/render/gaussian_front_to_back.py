"""Pictures of Gaussians without gradients on a CPU, front to back in portions, leaving out what is hidden.

Of the splats of an asset a picture shows few: the others lie behind pixels that are already full. So the splats are
taken from near to far in portions, and before a portion is projected, those of it that touch no unfinished pixel are
dropped, which one lookup in a table of sums (Crow, 1984) tells. Within a portion the work is that of
``gaussian_rasterizer``, on one list of (splat, pixel) pairs, with two differences: the pixels of a splat come from the
spans of its ellipse, row by row, not from its bounding box, and the list is sorted by counting, not by comparing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from mdtdist.render.cameras import Camera
from mdtdist.render.gaussian_projection import FRUSTUM_MARGIN, covariance_3d, project_covariance
from mdtdist.representations import Gaussians

MAX_ALPHA = 0.99  # as in 3D Gaussian splatting: a pixel never becomes fully opaque, so log(1 - alpha) stays finite
MIN_ALPHA = 1 / 255  # fainter contributions are skipped
HALF = 0.5  # of the light: where it is gone, the surface is said to be
BOX_MARGIN = 0.01  # pixels; rounding must not lose a pair at the rim of its splat, the alpha test decides
_TINY = np.finfo(np.float64).tiny
_PAIRS_AT_ONCE = 2**19  # of bounding boxes, which are larger than the splats


@dataclass(frozen=True, kw_only=True)
class _Boxes:
    """Splats that may be seen, sorted front to back, with pixels that surely contain them."""

    splat: Int[Tensor, "M"]  # row of the Gaussian
    first: Int[np.ndarray, "2 M"]  # column and row
    last: Int[np.ndarray, "2 M"]


@dataclass(frozen=True, kw_only=True)
class _Spans:
    """Runs of pixels of one splat in one row of the picture, in the order of the splats."""

    splat: Int[np.ndarray, "R"]
    row: Int[np.ndarray, "R"]
    first: Int[np.ndarray, "R"]
    width: Int[np.ndarray, "R"]
    peak: Float[np.ndarray, "R"]  # column coordinate at which alpha is largest
    log_peak: Float[np.ndarray, "R"]  # logarithm of alpha there
    precision: Float[np.ndarray, "R"]  # alpha falls as exp(-precision / 2 (x - peak)^2)


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """The pixels so far, row by row; drawn on in place."""

    sums: Float[np.ndarray, "P 4"]  # red, green, blue and depth, weighted
    through: Float[np.ndarray, "P"]  # share of the light that all splats so far let through
    surface: Float[np.ndarray, "P"]  # depth at which half of it was gone; 0 before


@torch.no_grad()
def splat_front_to_back(
    gaussians: Gaussians, camera: Camera, *, size: int, dilation: float, near: float, stop_at: float
) -> tuple[Float[Tensor, "4 P"], Float[Tensor, "P"], Float[Tensor, "P"]]:
    """Sums of colour and depth, weighted with the shares of the splats, alpha and median depth of every pixel.

    Args:
        gaussians: on the CPU.
        camera: where from.
        size: image side, pixels; ``P`` is its square.
        dilation: variance added to the image-plane covariances, square pixels.
        near: Gaussians whose centre is nearer along the view axis are dropped, object units.
        stop_at: a pixel is finished when it lets less than this share of the light through; what lies behind it
            changes no colour by more. At 0 every splat counts.
    """
    dtype = gaussians.means.numpy().dtype
    canvas = _Canvas(
        sums=np.zeros((size * size, 4), dtype), through=np.ones(size * size), surface=np.zeros(size * size, dtype)
    )
    boxes = _bound(gaussians, camera, size=size, dilation=dilation, near=near)
    for portion in _portions(boxes):
        seen = _touches(boxes, portion, (canvas.through >= stop_at).reshape(size, size))
        chosen = boxes.splat[portion][torch.from_numpy(seen)]
        if len(chosen):
            splats, features = _project(gaussians, camera, chosen, size=size, dilation=dilation)
            _composite(_spans(splats, size), features, canvas, size)
    alphas = (1 - canvas.through).astype(dtype)
    return torch.from_numpy(canvas.sums.T), torch.from_numpy(alphas), torch.from_numpy(canvas.surface)


def _bound(gaussians: Gaussians, camera: Camera, *, size: int, dilation: float, near: float) -> _Boxes:
    """Boxes from the largest scale of each Gaussian, which needs no covariance."""
    depths = camera.to_camera(gaussians.means)[:, 2]
    order = depths.argsort(stable=True)
    order = order[(depths[order] > near) & (gaussians.opacities[order] >= MIN_ALPHA)]
    means, depths = camera.project(gaussians.means[order], size)
    # No direction is stretched more than this by the linearised projection, whose slopes are limited.
    slope = FRUSTUM_MARGIN * size / (2 * camera.focal(size))
    stretch = camera.focal(size) / depths * (1 + 2 * slope**2) ** 0.5
    variance = (stretch * gaussians.scales[order].amax(1)).square() + dilation
    half = _reach(gaussians.opacities[order]) * variance.sqrt() + BOX_MARGIN
    first = (means - half[:, None] - 0.5).ceil().clamp(0, size).long()
    last = (means + half[:, None] - 0.5).floor().clamp(-1, size - 1).long()
    inside = (last >= first).all(1)
    return _Boxes(splat=order[inside], first=first[inside].numpy().T, last=last[inside].numpy().T)


def _reach(opacities: Float[Tensor, "M"]) -> Float[Tensor, "M"]:
    """Standard deviations from the centre at which alpha is the least that counts."""
    return (2 * (opacities / MIN_ALPHA).log()).clamp_min(0).sqrt()


def _portions(boxes: _Boxes) -> Iterator[slice]:
    """Consecutive splats whose boxes have about ``_PAIRS_AT_ONCE`` pixels."""
    ends = (boxes.last - boxes.first + 1).prod(0).cumsum()
    full = np.arange(_PAIRS_AT_ONCE, ends[-1] if len(ends) else 0, _PAIRS_AT_ONCE)
    limits = np.unique(np.concatenate([[0], np.searchsorted(ends, full), [len(ends)]]))
    return (slice(start, end) for start, end in zip(limits[:-1], limits[1:], strict=True))


def _touches(boxes: _Boxes, portion: slice, unfinished: Bool[np.ndarray, "S S"]) -> Bool[np.ndarray, "M"]:
    """Whether a box has an unfinished pixel."""
    if unfinished.all():
        return np.ones(portion.stop - portion.start, bool)
    table = np.zeros((len(unfinished) + 1,) * 2, np.int32)
    unfinished.cumsum(0, dtype=np.int32).cumsum(1, out=table[1:, 1:])
    (left, top), (right, bottom) = boxes.first[:, portion], boxes.last[:, portion] + 1
    return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left] > 0


def _project(
    gaussians: Gaussians, camera: Camera, chosen: Int[Tensor, "M"], *, size: int, dilation: float
) -> tuple[Float[np.ndarray, "6 M"], Float[np.ndarray, "M 4"]]:
    """Centre x, y, covariance xx, xy, yy and opacity in pixels; red, green, blue and depth."""
    part = Gaussians(**{name: value.index_select(0, chosen) for name, value in vars(gaussians).items()})
    means, depths = camera.project(part.means, size)
    covariances = covariance_3d(part.scales, part.rotations)
    (xx, xy), (_, yy) = project_covariance(covariances, part.means, camera, size=size).permute(1, 2, 0)
    splats = torch.stack([*means.unbind(1), xx + dilation, xy, yy + dilation, part.opacities])
    return splats.numpy(), torch.cat([part.colors, depths[:, None]], dim=1).numpy()


def _spans(splats: Float[np.ndarray, "6 M"], size: int) -> _Spans:
    """The rows of the ellipses in which alpha is large enough.

    In a row at the distance y from the centre, alpha is a Gaussian of x: its mean is ``xy / yy y``, its variance
    ``xx - xy^2 / yy`` and its height falls as ``exp(-y^2 / (2 yy))``.
    """
    x, y, xx, xy, yy, opacity = splats
    reach = np.sqrt(2 * np.log(opacity / MIN_ALPHA).clip(0))
    half = reach * np.sqrt(yy) + BOX_MARGIN
    top = np.ceil(y - half - 0.5).clip(0, size).astype(np.int32)
    bottom = np.floor(y + half - 0.5).clip(-1, size - 1).astype(np.int32)
    splat, number = _count_up((bottom - top + 1).clip(0))
    row = top[splat] + number
    per_splat = np.stack([x, y, xy / yy, xx - xy * xy / yy, 1 / yy, np.log(opacity), reach * reach])
    x, y, shear, variance, precision_y, log_opacity, reach = per_splat[:, splat]
    y = row.astype(y.dtype) + y.dtype.type(0.5) - y
    fallen = precision_y * y * y
    peak = x + shear * y
    half = np.sqrt((variance * (reach - fallen)).clip(0)) + BOX_MARGIN
    first = np.ceil(peak - half - 0.5).clip(0, size).astype(np.int32)
    last = np.floor(peak + half - 0.5).clip(-1, size - 1).astype(np.int32)
    return _Spans(
        splat=splat, row=row, first=first, width=(last - first + 1).clip(0),
        peak=peak, log_peak=log_opacity - fallen / 2, precision=1 / variance,
    )  # fmt: skip


def _count_up(counts: Int[np.ndarray, "N"]) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """0 ... count - 1 for every count: whose number it is, and the number."""
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    number = np.arange(len(owner), dtype=np.int32) - np.repeat((counts.cumsum() - counts).astype(np.int32), counts)
    return owner, number


def _composite(spans: _Spans, features: Float[np.ndarray, "M 4"], canvas: _Canvas, size: int) -> None:
    """Add the splats behind what is on the canvas already."""
    alphas, pixels = _pairs(spans, size)
    widths = np.bincount(spans.splat, weights=spans.width, minlength=len(features)).astype(np.int64)
    starts = np.concatenate([[0], widths.cumsum()])
    # Columns are splats from front to back; the conversion sorts by pixel, which is row, and keeps their order.
    pairs = sparse.csc_matrix((alphas, pixels, starts), shape=(size * size, len(features))).tocsr()
    log_left = np.log1p(-pairs.data.astype(np.float64))
    before = np.concatenate([[0.0], log_left.cumsum()])
    first, end = before[pairs.indptr[:-1]], before[pairs.indptr[1:]]
    counts = np.diff(pairs.indptr)
    share = np.exp(before[:-1] + np.repeat(np.log(canvas.through.clip(_TINY)) - first, counts))
    is_median = (share >= HALF) & (share * (1 - pairs.data) < HALF)  # of one pair per pixel at most
    pixel = np.searchsorted(pairs.indptr, is_median.nonzero()[0], side="right") - 1
    canvas.surface[pixel] = features[pairs.indices[is_median], 3]
    pairs.data *= share.astype(alphas.dtype)
    canvas.sums[:] += pairs @ features
    canvas.through[:] *= np.exp(end - first)


def _pairs(spans: _Spans, size: int) -> tuple[Float[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """Alpha and pixel of every pixel of the spans; alpha is 0 where it does not count."""
    span, number = _count_up(spans.width)
    start = spans.first.astype(spans.peak.dtype) - spans.peak + spans.peak.dtype.type(0.5)
    x = start[span] + number.astype(start.dtype)
    alphas = np.exp(spans.log_peak[span] - spans.precision[span] / 2 * x * x)
    alphas = np.where(alphas >= MIN_ALPHA, alphas.clip(max=MAX_ALPHA), 0)
    return alphas.astype(spans.peak.dtype), (spans.row * size + spans.first)[span] + number
