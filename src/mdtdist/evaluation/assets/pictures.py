"""Pictures, depths and normals of an asset from given cameras, in one way for splats and for meshes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.depth_normals import depth_normals, smooth_depth
from mdtdist.evaluation.assets.reading import Asset3D
from mdtdist.render.cameras import Camera
from mdtdist.render.gaussian_rasterizer import render_gaussians
from mdtdist.render.ray_caster import MIN_ALBEDO, Light, RayCaster, camera_rays
from mdtdist.representations import Gaussians
from mdtdist.representations.triangles import TexturedTriangles

Lighting = Literal["auto", "shaded", "unlit"]

SUPERSAMPLING = 2  # rays of a mesh per pixel and axis
DILATION = 0.1  # variance added to splats, square pixels, as TRELLIS renders its own
STOP_AT = 1e-4  # share of the light at which a pixel is full, as in 3D Gaussian splatting


@dataclass(frozen=True, kw_only=True)
class RenderedViews:
    """Pictures of one asset, image row 0 on top.

    Attributes:
        pictures: display-referred sRGB on the background, in [0, 1].
        alpha: coverage.
        depth: distance of the surface along the view axis at the pixel centres, object units; 0 where there is none.
            Of splats it is that of the splat behind which less than half of the light goes on, smoothed within
            surfaces (``smooth_depth``).
        normals: unit normals of the surface that the depths describe, object axes, towards the camera; 0 where there
            is none.
    """

    pictures: Float[Tensor, "V 3 H W"]
    alpha: Float[Tensor, "V H W"]
    depth: Float[Tensor, "V H W"]
    normals: Float[Tensor, "V 3 H W"] | None


@torch.no_grad()
def render_views(
    asset: Asset3D,
    cameras: Sequence[Camera],
    *,
    size: int,
    background: float = 1.0,
    dilation: float = DILATION,
    lighting: Lighting = "auto",
) -> RenderedViews:
    """Render an asset.

    Args:
        asset: splats, or triangles (which need the extra ``data``).
        cameras: at least one; object space.
        size: image side, pixels.
        background: grey level behind the object, in [0, 1].
        dilation: variance added to splats, square pixels.
        lighting: of meshes. "shaded" by the mild fixed light that training views and references have; "unlit" for
            colours that already contain light; automatically what the file says of itself. Splats are unlit.

    Returns:
        The views, float32 on the CPU.

    Raises:
        InputError: if there is no camera, or ``size`` or ``background`` is out of range.
    """
    if not cameras or size < 1 or not 0 <= background <= 1:
        raise InputError(
            f"{len(cameras)} cameras, size {size}, background {background}; expected at least one camera and pixel "
            "and a grey level from 0 to 1"
        )
    if asset.gaussians is not None:
        views = [_splat_view(asset.gaussians, camera, size, dilation) for camera in cameras]
    else:
        assert asset.triangles is not None
        is_unlit = asset.is_unlit if lighting == "auto" else lighting == "unlit"
        views = _mesh_views(asset.triangles, cameras, size, is_unlit=is_unlit)
    colors, alpha, depth = (torch.stack(images) for images in zip(*views, strict=True))
    return RenderedViews(
        pictures=(colors + background * (1 - alpha[:, None])).clamp(0, 1),
        alpha=alpha,
        depth=depth,
        normals=torch.stack([depth_normals(image, camera) for image, camera in zip(depth, cameras, strict=True)]),
    )


def _splat_view(
    gaussians: Gaussians, camera: Camera, size: int, dilation: float
) -> tuple[Float[Tensor, "3 S S"], Float[Tensor, "S S"], Float[Tensor, "S S"]]:
    """Premultiplied colour, alpha and depth."""
    picture = render_gaussians(gaussians, camera, size=size, dilation=dilation, stop_at=STOP_AT)
    assert picture.surface is not None
    return picture.color, picture.alpha, smooth_depth(picture.surface)


def _mesh_views(
    triangles: TexturedTriangles, cameras: Sequence[Camera], size: int, *, is_unlit: bool
) -> list[tuple[Float[Tensor, "3 S S"], Float[Tensor, "S S"], Float[Tensor, "S S"]]]:
    """Premultiplied colour, alpha and depth of each view."""
    # A texture should have as many texels as the picture has samples where the object is nearest to its middle.
    density = max(
        camera.focal(SUPERSAMPLING * size) / float(camera.camera_to_world[:3, 3].norm()) for camera in cameras
    )
    caster = (_UnlitCaster if is_unlit else RayCaster)(triangles, samples_per_unit=density)
    views = []
    for camera in cameras:
        picture = caster.render(camera, size=size, supersampling=SUPERSAMPLING)
        rgba = torch.from_numpy(picture.rgba).permute(2, 0, 1).float() / 255
        _, hit, depth = caster.cast(*camera_rays(camera, size))
        centers = torch.from_numpy(np.where(hit > 0, depth, 0.0).reshape(size, size)).float()
        views.append((rgba[:3] * rgba[3], rgba[3], centers))
    return views


class _UnlitCaster(RayCaster):
    """The same pictures without light; what the ray caster does to black is undone."""

    def _shade(
        self,
        face: Int[np.ndarray, "N"],
        u: np.ndarray,
        v: np.ndarray,
        directions: Float[np.ndarray, "N 3"],
        light: Light,
    ) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
        albedo, opacity = super()._shade(face, u, v, directions, Light(ambient=1.0, diffuse=0.0))
        return ((albedo - MIN_ALBEDO) / (1 - MIN_ALBEDO)).clip(0, 1), opacity
