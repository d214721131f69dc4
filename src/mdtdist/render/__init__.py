"""Pictures of 3D representations: cameras and rasterisers."""

from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.render.gaussian_rasterizer import Rendering, render_gaussians, render_gaussians_plain
from mdtdist.render.mesh_rasterizer import render_mesh
from mdtdist.render.strivec_renderer import render_strivec, strivec_at
from mdtdist.render.turntable import contact_sheet, preview, turntable

__all__ = [
    "Camera",
    "Rendering",
    "contact_sheet",
    "orbit_camera",
    "preview",
    "render_gaussians",
    "render_gaussians_plain",
    "render_mesh",
    "render_strivec",
    "strivec_at",
    "turntable",
]
