"""Surface voxels of an asset, as the points that TRELLIS stores."""

from pathlib import Path

from mdtdist.data.sources import Asset
from mdtdist.data.trellis.normalization import load_normalized_asset
from mdtdist.data.trellis.paths import voxel_path
from mdtdist.data.trellis.ply import write_voxels
from mdtdist.data.trellis.settings import TrellisSettings
from mdtdist.data.voxelize import voxelize_surface


def write_asset_voxels(asset: Asset, out: Path, settings: TrellisSettings) -> None:
    """``voxels/<sha256>.ply``.

    Raises:
        ValueError: if the model cannot be used.
    """
    indices = voxelize_surface(load_normalized_asset(asset).triangles, resolution=settings.resolution)
    write_voxels(voxel_path(out, asset.sha256), indices, resolution=settings.resolution)
