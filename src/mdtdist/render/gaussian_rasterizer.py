"""Differentiable rasteriser of 3D Gaussians in plain torch, CPU and CUDA.

The splats of an object are small (a few pixels each), so the work is organised by pixel: every (splat, pixel) pair
that is seen becomes one row of a list sorted by pixel, then front to back. Transmittance is a segmented cumulative
sum of logarithms along the list and a pixel is a segmented sum. Time and memory grow with the number of pairs only:
nothing is padded to the longest list, as tiles would.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera
from mdtdist.render.gaussian_front_to_back import BOX_MARGIN, HALF, MAX_ALPHA, MIN_ALPHA, splat_front_to_back
from mdtdist.render.gaussian_projection import covariance_3d, project_covariance
from mdtdist.representations import Gaussians


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A picture of Gaussians, image row 0 on top.

    Attributes:
        color: display-referred sRGB over the background; above 1 where the Gaussians' colours are.
        alpha: coverage in [0, 1].
        depth: expected distance along the view axis, object units: the mean over the Gaussians a pixel sees, weighted
            with their share of it; 0 where it sees none.
        surface: distance along the view axis of the Gaussian behind which less than half of the light goes on, object
            units: a median that no outline mixes with what is behind it. 0 where more than half goes through. Without
            gradient; None from renderers that have no such thing.
    """

    color: Float[Tensor, "3 H W"]
    alpha: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"]
    surface: Float[Tensor, "H W"] | None = None


@dataclass(frozen=True, kw_only=True)
class _Splats:
    """2-D Gaussians in pixels, sorted front to back; channels first, so that each is contiguous."""

    means: Float[Tensor, "2 M"]
    covariances: Float[Tensor, "3 M"]  # xx, xy, yy
    opacities: Float[Tensor, "M"]
    features: Float[Tensor, "4 M"]  # red, green, blue, depth


def render_gaussians(
    gaussians: Gaussians,
    camera: Camera,
    *,
    size: int,
    background: tuple[float, float, float] | Float[Tensor, "3"] = (0.0, 0.0, 0.0),
    dilation: float = 0.1,
    near: float = 0.2,
    stop_at: float = 0.0,
) -> Rendering:
    """Splat Gaussians front to back into a square image (Kerbl et al., 2023, Sec. 4 and 6).

    A splat covers the pixels where its alpha is at least 1 / 255, at most 3.33 standard deviations; alpha is capped at
    0.99. Differentiable in all fields of ``gaussians`` and in ``background``; which pairs exist and their order are
    constants. With gradients a pair takes a few hundred bytes. Where none are asked for, on a CPU,
    ``gaussian_front_to_back`` does the work.

    Args:
        gaussians: what to draw; float32 or float64, on any device.
        camera: where from.
        size: image side, pixels.
        background: sRGB colour behind the Gaussians.
        dilation: variance added to the image-plane covariances, square pixels. TRELLIS uses 0.1 and does not lower
            the opacity for it.
        near: Gaussians whose centre is nearer along the view axis are dropped, object units.
        stop_at: without gradients on a CPU, a pixel that lets less than this share of the light through is finished;
            no colour changes by more. 3D Gaussian splatting has 1e-4; at 0 nothing is left out. Elsewhere the time
            that it would save is not the matter, and it has no effect.

    Raises:
        InputError: if ``size``, ``dilation`` or ``near`` is not positive, or ``stop_at`` not in [0, 1).
    """
    _require_positive(size=size, dilation=dilation, near=near)
    if not 0 <= stop_at < 1:
        raise InputError(f"stop_at is {stop_at}; expected a share of light from 0 up to, not including, 1")
    if not _needs_gradient(gaussians) and gaussians.means.device.type == "cpu":
        images = splat_front_to_back(gaussians, camera, size=size, dilation=dilation, near=near, stop_at=stop_at)
        return _finish(*images, background, size)
    splats = _project(gaussians, camera, size=size, dilation=dilation, near=near)
    splat, pixel = _visible_pairs(splats, size)
    shape, features = torch.cat([_shape(splats), splats.features]).index_select(1, splat).split_with_sizes([6, 4])
    alphas = _splat_alphas(_pixel_centers(pixel, size, like=shape), shape)
    log_left = torch.log1p(-alphas.double())
    through = _transmittance(log_left, pixel, size * size).to(alphas)
    sums = features.new_zeros(4, size * size).index_add(1, pixel, alphas * through * features)
    log_through = log_left.new_zeros(size * size).index_add(0, pixel, log_left)
    surface = torch.zeros_like(sums[3])
    is_median = (through >= HALF) & (through * (1 - alphas) < HALF)  # of one pair per pixel at most
    surface[pixel[is_median]] = features[3, is_median].detach()
    return _finish(sums, -torch.expm1(log_through).to(sums), surface, background, size)


def render_gaussians_plain(
    gaussians: Gaussians,
    camera: Camera,
    *,
    size: int,
    background: tuple[float, float, float] | Float[Tensor, "3"] = (0.0, 0.0, 0.0),
    dilation: float = 0.1,
    near: float = 0.2,
) -> Rendering:
    """The oracle of ``render_gaussians``: every splat at every pixel, ``O(N size^2)`` time and memory."""
    _require_positive(size=size, dilation=dilation, near=near)
    splats = _project(gaussians, camera, size=size, dilation=dilation, near=near)
    centers = _pixel_centers(torch.arange(size * size, device=splats.means.device), size, like=splats.means)
    alphas = _splat_alphas(centers[:, None], _shape(splats)[:, :, None])
    through = torch.cat([alphas.new_ones(1, size * size), 1 - alphas]).cumprod(0)
    sums = splats.features @ (alphas * through[:-1])
    surface = splats.features[3].detach() @ ((through[:-1] >= HALF) & (through[1:] < HALF)).to(sums)
    return _finish(sums, 1 - through[-1], surface, background, size)


def _needs_gradient(gaussians: Gaussians) -> bool:
    return torch.is_grad_enabled() and any(value.requires_grad for value in vars(gaussians).values())


def _require_positive(**values: int | float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; expected a positive number, so pass one")


def _project(gaussians: Gaussians, camera: Camera, *, size: int, dilation: float, near: float) -> _Splats:
    """Drop what is nearer than ``near``, sort by depth and project."""
    with torch.no_grad():
        depths = camera.to_camera(gaussians.means)[:, 2]
        order = depths.argsort(stable=True)
        order = order[depths[order] > near]
    centers = gaussians.means[order]
    means, depths = camera.project(centers, size)
    covariances = covariance_3d(gaussians.scales[order], gaussians.rotations[order])
    (xx, xy), (_, yy) = project_covariance(covariances, centers, camera, size=size).permute(1, 2, 0)
    return _Splats(
        means=means.mT,
        covariances=torch.stack([xx + dilation, xy, yy + dilation]),
        opacities=gaussians.opacities[order],
        features=torch.cat([gaussians.colors[order].mT, depths[None]]),
    )


def _shape(splats: _Splats) -> Float[Tensor, "6 M"]:
    """What the alpha of a splat depends on: centre x, y, inverse covariance xx, xy, yy, opacity."""
    xx, xy, yy = splats.covariances
    inverse = torch.stack([yy, -xy, xx]) / (xx * yy - xy * xy)
    return torch.cat([splats.means, inverse, splats.opacities[None]])


def _pixel_centers(pixel: Int[Tensor, "P"], size: int, *, like: Tensor) -> Float[Tensor, "2 P"]:
    """x and y of pixels numbered row by row; centres are at half-integers."""
    row = pixel // size
    return torch.stack([pixel - row * size, row]).to(like.dtype) + 0.5


def _splat_alphas(centers: Float[Tensor, "2 ..."], shape: Float[Tensor, "6 ..."]) -> Float[Tensor, "..."]:
    """Opacity of splats (see ``_shape``) at pixel centres: capped from above, 0 where negligible."""
    x, y = centers - shape[:2]
    xx, xy, yy, opacities = shape[2:]
    alphas = opacities * torch.exp(-0.5 * (xx * x * x + yy * y * y) - xy * x * y)
    return torch.where(alphas >= MIN_ALPHA, alphas.clamp_max(MAX_ALPHA), 0)


@torch.no_grad()
def _visible_pairs(splats: _Splats, size: int) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
    """Splat and pixel numbers of all pairs with a visible alpha, sorted by pixel, then front to back."""
    # The ellipse alpha = 1 / 255 is reach standard deviations wide; its bounding box follows from the variances.
    reach = (2 * (splats.opacities / MIN_ALPHA).log()).clamp_min(0).sqrt()
    half = reach * splats.covariances[[0, 2]].sqrt() + BOX_MARGIN
    first = (splats.means - half - 0.5).ceil().clamp(0, size).long()
    last = (splats.means + half - 0.5).floor().clamp(-1, size - 1).long()
    width, height = (last - first + 1).clamp_min(0) * (splats.opacities >= MIN_ALPHA)
    counts = width * height
    splat = torch.repeat_interleave(counts)
    # Pair number r * width + c of a splat is the pixel at row r and column c of its box.
    corner = torch.stack([first[1] * size + first[0], width, counts.cumsum(0) - counts])
    corner, width, start = corner.index_select(1, splat)
    number = torch.arange(len(splat), device=splat.device) - start
    pixel = corner + number + number // width * (size - width)
    alphas = _splat_alphas(_pixel_centers(pixel, size, like=splats.means), _shape(splats).index_select(1, splat))
    keep = alphas.nonzero()[:, 0]
    # Splats come front to back already, so a stable sort by pixel is all it takes.
    pixel, order = pixel[keep].sort(stable=True)
    return splat[keep[order]], pixel


def _transmittance(log_left: Float[Tensor, "P"], pixel: Int[Tensor, "P"], num_pixels: int) -> Float[Tensor, "P"]:
    """Share of the light that passes all earlier rows of the same pixel; rows are sorted by pixel.

    Args:
        log_left: logarithm of what each row lets through, float64: the running sum goes over the whole list and the
            value at the first row of a pixel is subtracted again.
    """
    before = log_left.cumsum(0) - log_left
    counts = torch.bincount(pixel, minlength=num_pixels)
    first = (counts.cumsum(0) - counts).index_select(0, pixel)
    return torch.exp(before - before.index_select(0, first))


def _finish(
    sums: Float[Tensor, "4 P"],
    alphas: Float[Tensor, "P"],
    surface: Float[Tensor, "P"],
    background: tuple[float, float, float] | Float[Tensor, "3"],
    size: int,
) -> Rendering:
    """Composite over the background and normalise the depth."""
    color = sums[:3] + (1 - alphas) * torch.as_tensor(background).to(sums)[:, None]
    depth = sums[3] / alphas.clamp_min(MIN_ALPHA)  # a pixel that sees anything has at least this alpha
    image = partial(torch.reshape, shape=(size, size))
    return Rendering(
        color=color.reshape(3, size, size), alpha=image(alphas), depth=image(depth), surface=image(surface)
    )
