"""Assets as files: meshes with baked textures, splats, turntables. Axes and colours of a format live in its writer."""

from mdtdist.export.bake import bake_texture
from mdtdist.export.finish import FinishedMesh, finish_mesh
from mdtdist.export.glb import write_glb
from mdtdist.export.obj import write_obj
from mdtdist.export.ply import read_ply, write_ply
from mdtdist.export.splat import write_splat
from mdtdist.export.surface import extract_surface
from mdtdist.export.unwrap import unwrap
from mdtdist.export.usdz import write_usdz
from mdtdist.export.video import video_suffix, write_preview, write_turntable

__all__ = [
    "FinishedMesh",
    "bake_texture",
    "extract_surface",
    "finish_mesh",
    "read_ply",
    "unwrap",
    "video_suffix",
    "write_glb",
    "write_obj",
    "write_ply",
    "write_preview",
    "write_splat",
    "write_turntable",
    "write_usdz",
]
