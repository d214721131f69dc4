"""Normals of the surface that a depth picture describes, and the points of it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mdtdist.render.cameras import Camera


def pixel_rays(camera: Camera, size: int) -> Float[Tensor, "S S 3"]:
    """Object-space directions through the pixel centres, of length one along the view axis, float64."""
    offsets = (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / camera.focal(size)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1) @ camera.rotation.cpu().double()


def depth_normals(depth: Float[Tensor, "S S"], camera: Camera) -> Float[Tensor, "3 S S"]:
    """Unit normals towards the camera, object axes, by differences between neighbouring pixels.

    Along each axis of the picture the neighbour is taken whose depth is nearer, so that normals next to an edge are
    those of the pixel's own surface. Exact for planes.

    Args:
        depth: along the view axis at the pixel centres, object units; 0 where there is nothing.
        camera: that it was seen by.

    Returns:
        Float32; 0 where there is nothing, or no neighbour in one of the directions.
    """
    size = len(depth)
    rays = pixel_rays(camera, size)
    points = rays * torch.where(depth > 0, depth.double(), torch.nan)[..., None]
    along = camera.rotation[2].cpu().double()  # the view axis; depth grows along it
    normals = torch.linalg.cross(_nearer_step(points, 0, along), _nearer_step(points, 1, along))
    normals = F.normalize(torch.where(normals.isfinite().all(-1, keepdim=True), normals, 0.0), dim=-1)
    normals = normals * -(normals * rays).sum(-1, keepdim=True).sign()
    return normals.permute(2, 0, 1).float()


def smooth_depth(depth: Float[Tensor, "S S"], *, reach: float = 0.03) -> Float[Tensor, "S S"]:
    """Means over five by five pixels of one surface (a bilateral filter; Tomasi and Manduchi, 1998).

    The median depth of splats jumps from one centre to the next, so a smooth surface looks like scales. A Gaussian of
    1.5 pixels takes out the steps; pixels whose depth differs by more than ``reach`` do not count, so edges stay.

    Args:
        depth: along the view axis; 0 where there is nothing, which stays 0.
        reach: object units.
    """
    offsets = torch.arange(-2, 3)
    window = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2)).flatten()[:, None].to(depth)
    near = F.unfold(depth[None, None], 5, padding=2)[0]
    weights = window * ((near > 0) & ((near - depth.flatten()).abs() <= reach))
    smooth = (weights * near).sum(0) / weights.sum(0).clamp_min(1e-6)
    return torch.where(depth > 0, smooth.view_as(depth), 0.0)


def _nearer_step(points: Float[Tensor, "S S 3"], axis: int, along: Float[Tensor, "3"]) -> Float[Tensor, "S S 3"]:
    """The difference to the next or from the last point, whichever changes the depth less; nan without either."""
    step = points.diff(dim=axis)
    gap = torch.full_like(points.narrow(axis, 0, 1), torch.nan)
    ahead, behind = torch.cat([step, gap], axis), torch.cat([gap, step], axis)
    change_ahead, change_behind = ((move @ along).abs().nan_to_num(torch.inf) for move in (ahead, behind))
    return torch.where((change_ahead <= change_behind)[..., None], ahead, behind)
