"""Signed distances, colours and normals of a surface from its depth pictures, at any points near it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mdtdist.data.views import View
from mdtdist.render.cameras import Camera

# Neighbouring pixels of one surface differ by less; about eight pixels of a 128 px picture at radius 2.
_LARGEST_STEP = 0.09


@dataclass(frozen=True)
class SurfaceSamples:
    """What the views say about points.

    Attributes:
        distance: signed distance to the seen surface, positive outside, cut off at plus and minus ``reach``; a point
            that every view has behind a surface is inside. Differentiable in the points.
        seen: whether a view has the point within half of ``reach`` of its surface.
        color: mean over those views, sRGB; 0 where none.
        normal: mean unit normal over those views, outward; 0 where none.
    """

    distance: Float[Tensor, "N"]
    seen: Bool[Tensor, "N"]
    color: Float[Tensor, "N 3"]
    normal: Float[Tensor, "N 3"]


@dataclass(frozen=True)
class DepthViews:
    """Depth, normal and colour pictures of one object, ready to be asked about points.

    Attributes:
        cameras: one per view.
        depth: distance of the surface along the view axis; infinite where there is none.
        normals: unit, object space, towards the camera.
        rgba: premultiplied, in [0, 1].
    """

    cameras: tuple[Camera, ...]
    depth: Float[Tensor, "V S S"]
    normals: Float[Tensor, "V S S 3"]
    rgba: Float[Tensor, "V 4 S S"]

    @classmethod
    def from_views(cls, views: Sequence[View], *, device: torch.device | str = "cpu") -> Self:
        cameras = tuple(view.camera for view in views)
        depth = torch.stack([torch.from_numpy(view.depth) for view in views]).to(device)
        depth = torch.where(depth > 0, depth, torch.inf)
        rgba = torch.stack([torch.from_numpy(view.rgba) for view in views]).to(device).permute(0, 3, 1, 2) / 255
        normals = torch.stack([_normals(d, camera) for d, camera in zip(depth, cameras, strict=True)])
        return cls(cameras, depth, normals, torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1))

    def sample(self, points: Float[Tensor, "N 3"], *, reach: float) -> SurfaceSamples:
        """Fuse all views at some points.

        Per view the distance is ``(surface depth - point depth) |n . r|`` with the ray r of depth one: exact for a
        plane. A point is outside if any view sees it in front of the surface, and then takes the smallest such value;
        else it takes the largest (least negative) one.

        Args:
            points: object space.
            reach: largest absolute distance, object units.
        """
        distances, normals, colors = zip(*(self._sample_view(v, points) for v in range(len(self.cameras))), strict=True)
        distance = torch.stack(distances).clamp(-2 * reach, 2 * reach)
        outside = torch.where(distance > 0, distance, 2 * reach).amin(0)
        fused = torch.where((distance > 0).any(0), outside, distance.amax(0)).clamp(-reach, reach)
        weight = (distance.detach().abs() < reach / 2).to(points.dtype)
        count = weight.sum(0).clamp_min(1)[:, None]
        premultiplied = (torch.stack(colors) * weight[..., None]).sum(0) / count
        normal = (torch.stack(normals) * weight[..., None]).sum(0)
        return SurfaceSamples(
            distance=fused,
            seen=weight.any(0),
            color=premultiplied[:, :3] / premultiplied[:, 3:].clamp_min(1e-3),
            normal=F.normalize(normal, dim=1),
        )

    def _sample_view(self, view: int, points: Float[Tensor, "N 3"]) -> tuple[Tensor, Tensor, Tensor]:
        """Signed distance to the surface of one view, its normal and premultiplied colour there."""
        camera, size = self.cameras[view], self.depth.shape[-1]
        pixels, depth = camera.project(points, size)
        surface = _surface_depth(self.depth[view], pixels)
        column, row = pixels.detach().floor().long().clamp(0, size - 1).unbind(-1)
        normal = self.normals[view, row, column]
        ray = F.pad((pixels.detach() - size / 2) / camera.focal(size), (0, 1), value=1.0) @ camera.rotation.to(points)
        slope = (normal * ray).sum(1).abs()
        grid = (2 * pixels.detach() / size - 1)[None, None]
        color = F.grid_sample(self.rgba[view][None], grid, mode="bilinear", align_corners=False)[0, :, 0].T
        return (surface - depth) * torch.where(surface.isfinite(), slope, 1.0), normal, color


def _surface_depth(depth: Float[Tensor, "S S"], pixels: Float[Tensor, "N 2"]) -> Float[Tensor, "N"]:
    """Bilinear within one surface; across an edge of it the nearest of the four pixels, so that nothing thin is lost.

    Infinite where there is no surface, and outside of the picture.
    """
    size = len(depth)
    padded = F.pad(depth, (1, 1, 1, 1), value=torch.inf)
    corner = pixels.detach().sub(0.5).floor()
    x, y = (pixels - 0.5 - corner).unbind(-1)
    column, row = (corner.long() + 1).clamp(0, size).unbind(-1)
    four = torch.stack([padded[row + dy, column + dx] for dy in (0, 1) for dx in (0, 1)])
    weights = torch.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x])
    nearest, farthest = four.amin(0), four.amax(0)
    is_one_surface = farthest - nearest < _LARGEST_STEP  # false for infinite ones
    inside = ((pixels > 0) & (pixels < size)).all(1)
    bilinear = (weights * torch.where(four.isfinite(), four, 0.0)).sum(0)
    return torch.where(inside, torch.where(is_one_surface, bilinear, nearest), torch.inf)


def _normals(depth: Float[Tensor, "S S"], camera: Camera) -> Float[Tensor, "S S 3"]:
    """Normals of the surface through the pixels, towards the camera; of the view axis where there is no neighbour."""
    size = len(depth)
    centres = (torch.arange(size, dtype=depth.dtype, device=depth.device) + 0.5 - size / 2) / camera.focal(size)
    rays = torch.stack([centres.expand(size, size), centres[:, None].expand(size, size), torch.ones_like(depth)], -1)
    points = rays * depth[..., None]
    across, down = (_smaller_step(points, axis) for axis in (1, 0))
    normals = torch.linalg.cross(down, across)
    normals = torch.where(normals.isfinite().all(-1, keepdim=True), normals, rays.new_tensor([0.0, 0.0, -1.0]))
    normals = F.normalize(normals, dim=-1)
    normals = normals * -(normals * rays).sum(-1, keepdim=True).sign()
    return normals @ camera.rotation.to(depth)


def _smaller_step(points: Float[Tensor, "S S 3"], axis: int) -> Float[Tensor, "S S 3"]:
    """Difference to the next or from the last pixel, whichever changes the depth less."""
    ahead = points.roll(-1, axis) - points
    behind = points - points.roll(1, axis)
    size = points.shape[axis]
    index = torch.arange(size, device=points.device)
    index = index[:, None] if axis == 0 else index[None]
    change = [
        torch.where(edge, torch.inf, step[..., 2].abs().nan_to_num(torch.inf))
        for step, edge in ((ahead, index == size - 1), (behind, index == 0))
    ]
    return torch.where((change[0] < change[1])[..., None], ahead, behind)
