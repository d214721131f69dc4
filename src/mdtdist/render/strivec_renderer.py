"""Differentiable volume renderer of Strivec radiance fields in plain torch, CPU and CUDA.

A ray is cut where it crosses the planes of the voxel grid, so every piece lies in one voxel. Pieces of active voxels
are sampled by the midpoint rule, which is exact where density and colour are constant and of second order elsewhere.
The renderer the published decoder was trained with integrates the same field, by steps of half a vector cell that
start at random; it also caps the alpha of a step at 0.999 and leaves a ray at a transmittance of 0.001. Neither limit
is kept here: they save time and do not show.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera
from mdtdist.render.gaussian_rasterizer import Rendering
from mdtdist.representations import SH_C0, Strivec

_RAYS_AT_ONCE = 4096  # bounds the table of plane crossings, 3 (resolution + 1) numbers per ray
_SAMPLES_AT_ONCE = 2**16  # bounds the gathered values, 6 rank numbers per sample


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Sample points of some rays, sorted by ray, then front to back."""

    ray: Int[Tensor, "S"]
    voxel: Int[Tensor, "S"]
    depth: Float[Tensor, "S"]  # along the view axis
    length: Float[Tensor, "S"]  # of the part of the ray the sample stands for, object units
    local: Float[Tensor, "S 3"]  # position in the voxel, 0 to 1 along each edge


def strivec_at(
    field: Strivec, voxel: Int[Tensor, "S"], local: Float[Tensor, "S 3"]
) -> tuple[Float[Tensor, "S"], Float[Tensor, "S 3"]]:
    """Density and colour of a field at points inside its voxels.

    Args:
        field: the field; its docstring has the formulas.
        voxel: rows of the voxels the points are in.
        local: positions in the voxel, 0 to 1 along each edge. Within half a cell of the faces, beyond the outermost
            values, the vectors are continued linearly.

    Returns:
        Density per object unit of length, and display-referred sRGB.
    """
    dim = field.trivec.shape[3]
    cell = local * dim - 0.5
    low = cell.floor().clamp(0, dim - 2)
    values = rearrange(field.trivec, "n rank xyz dim -> (n xyz dim) rank")
    rows = (3 * voxel[:, None] + torch.arange(3, device=voxel.device)) * dim + low.long()
    below, above = (values.index_select(0, r.flatten()).unflatten(0, (-1, 3)) for r in (rows, rows + 1))
    components = torch.lerp(below, above, (cell - low)[..., None]).prod(1)
    density = (field.density.index_select(0, voxel) * components).sum(1)
    colors = (field.features_dc[:, :, 0].index_select(0, voxel) * components[..., None]).sum(1)
    return F.softplus(density), torch.sigmoid(SH_C0 * colors)


def render_strivec(
    field: Strivec,
    camera: Camera,
    *,
    size: int,
    background: tuple[float, float, float] | Float[Tensor, "3"] = (0.0, 0.0, 0.0),
    near: float = 0.2,
) -> Rendering:
    """Emission and absorption along the ray through every pixel centre of a square image (Mildenhall et al., 2020).

    Implements their Eq. 3 with at least ``2 dim`` samples per voxel edge. Differentiable in ``trivec``, ``density``,
    ``features_dc`` and ``background``.

    Args:
        field: what to draw; float32 or float64, on any device.
        camera: where from.
        size: image side, pixels.
        background: sRGB colour behind the field.
        near: what is nearer along the view axis is not seen, object units.

    Returns:
        The picture; depth is the mean over the ray, weighted with what each part of it contributes.

    Raises:
        InputError: if ``size`` or ``near`` is not positive, or the vectors of the field have fewer than two values.
    """
    for name, value in (("size", size), ("near", near)):
        if not value > 0:
            raise InputError(f"{name} is {value}; expected a positive number, so pass one")
    if field.trivec.shape[3] < 2:
        raise InputError(f"the vectors of the field have dim {field.trivec.shape[3]}; expected at least 2")
    rows = _voxel_rows(field)
    directions = _ray_directions(camera, size).to(field.trivec)
    origin = camera.camera_to_world[:3, 3].to(field.trivec)
    parts = [
        _integrate(field, _sample(field, rows, origin, rays, near=near), len(rays))
        for rays in directions.split(_RAYS_AT_ONCE)
    ]
    sums, alphas = (torch.cat(images, dim=-1) for images in zip(*parts, strict=True))
    color = sums[:3] + (1 - alphas) * torch.as_tensor(background, dtype=sums.dtype, device=sums.device)[:, None]
    depth = sums[3] / alphas.clamp_min(torch.finfo(alphas.dtype).tiny)
    return Rendering(color=color.view(3, size, size), alpha=alphas.view(size, size), depth=depth.view(size, size))


def _ray_directions(camera: Camera, size: int) -> Float[Tensor, "P 3"]:
    """Object-space directions of the rays, row by row, of length one along the view axis."""
    offsets = (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / camera.focal(size)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1) @ camera.rotation.cpu().double()


def _voxel_rows(field: Strivec) -> Int[Tensor, "resolution**3"]:
    """Row of every voxel of the grid, x-major; -1 where the field has none."""
    rows = torch.full((field.resolution**3,), -1, device=field.coords.device)
    x, y, z = field.coords.long().unbind(1)
    rows[(x * field.resolution + y) * field.resolution + z] = torch.arange(len(field), device=rows.device)
    return rows


@torch.no_grad()
def _sample(
    field: Strivec, rows: Int[Tensor, "_"], origin: Float[Tensor, "3"], rays: Float[Tensor, "P 3"], *, near: float
) -> _Samples:
    """Midpoints of equal parts of every piece of a ray that lies in a voxel of the field."""
    ray, voxel, start, extent = _pieces(field, rows, origin, rays, near=near)
    speed = rays.norm(dim=1)[ray]
    counts = (extent * speed * (2 * field.trivec.shape[3] * field.resolution)).ceil().clamp_min(1).long()
    piece = torch.repeat_interleave(counts)
    number = torch.arange(len(piece), device=piece.device) - (counts.cumsum(0) - counts)[piece]
    part = (extent / counts)[piece]
    depth = start[piece] + (number + 0.5) * part
    ray, voxel = ray[piece], voxel[piece]
    position = (origin + depth[:, None] * rays[ray] + 0.5) * field.resolution
    return _Samples(ray=ray, voxel=voxel, depth=depth, length=part * speed[piece], local=position - field.coords[voxel])


def _pieces(
    field: Strivec, rows: Int[Tensor, "_"], origin: Float[Tensor, "3"], rays: Float[Tensor, "P 3"], *, near: float
) -> tuple[Int[Tensor, "S"], Int[Tensor, "S"], Float[Tensor, "S"], Float[Tensor, "S"]]:
    """Ray, voxel row, first depth and extent in depth of the pieces of rays in active voxels."""
    resolution = field.resolution
    planes = torch.arange(resolution + 1, device=rays.device) / resolution - 0.5
    # A ray along a plane crosses it very far away, where no voxel is.
    slopes = torch.where(rays.abs() < 1e-12, 1e-12, rays)
    crossings = ((planes.to(rays) - origin[:, None]) / slopes[:, :, None]).flatten(1).clamp_min(near).sort(1).values
    starts, extents = crossings[:, :-1], crossings.diff(dim=1)
    middles = origin + (starts + extents / 2)[..., None] * rays[:, None]
    cells = ((middles + 0.5) * resolution).floor()
    is_inside = ((cells >= 0) & (cells < resolution)).all(2) & (extents > 0)
    x, y, z = cells.clamp(0, resolution - 1).long().unbind(2)
    voxels = rows[(x * resolution + y) * resolution + z]
    ray, piece = (is_inside & (voxels >= 0)).nonzero(as_tuple=True)
    return ray, voxels[ray, piece], starts[ray, piece], extents[ray, piece]


def _integrate(field: Strivec, samples: _Samples, num_rays: int) -> tuple[Float[Tensor, "4 P"], Float[Tensor, "P"]]:
    """Sums of colour and depth along the rays, each part weighted with what reaches the camera, and alpha."""
    chunks = zip(samples.voxel.split(_SAMPLES_AT_ONCE), samples.local.split(_SAMPLES_AT_ONCE), strict=True)
    densities, colors = (torch.cat(parts) for parts in zip(*(strivec_at(field, *c) for c in chunks), strict=True))
    optical = densities * samples.length
    through = _transmittance(optical.double(), samples.ray, num_rays).to(optical)
    weights = through * -torch.expm1(-optical)
    features = torch.cat([colors.mT, samples.depth[None]])
    sums = features.new_zeros(4, num_rays).index_add(1, samples.ray, weights * features)
    total = optical.new_zeros(num_rays).index_add(0, samples.ray, optical)
    return sums, -torch.expm1(-total)


def _transmittance(optical: Float[Tensor, "S"], ray: Int[Tensor, "S"], num_rays: int) -> Float[Tensor, "S"]:
    """Share of the light that passes all nearer samples of the same ray.

    Args:
        optical: optical thickness of each sample, sorted by ray, float64: the running sum goes over all rays and the
            value at the first sample of a ray is subtracted again.
    """
    before = optical.cumsum(0) - optical
    counts = torch.bincount(ray, minlength=num_rays)
    first = (counts.cumsum(0) - counts).index_select(0, ray)
    return torch.exp(before.index_select(0, first) - before)
