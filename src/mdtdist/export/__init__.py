"""Assets as files: meshes with baked textures, splats, turntables. Axes and colours of a format live in its writer."""

from mdtdist.export.bake import bake_texture
from mdtdist.export.extract import extract_mesh
from mdtdist.export.glb import write_glb
from mdtdist.export.ply import read_ply, write_ply
from mdtdist.export.surface import extract_surface
from mdtdist.export.unwrap import unwrap
from mdtdist.export.video import video_suffix, write_preview, write_turntable

__all__ = [
    "bake_texture",
    "extract_mesh",
    "extract_surface",
    "read_ply",
    "unwrap",
    "video_suffix",
    "write_glb",
    "write_ply",
    "write_preview",
    "write_turntable",
]
