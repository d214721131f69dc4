"""From folders of 3D models to training data: sources, normalisation, voxels, views, features, datasets."""

from mdtdist.data.dataset import PreparedFolder
from mdtdist.data.prepare import STAGES, PrepareConfig, prepare
from mdtdist.data.sources import Asset, list_assets

__all__ = ["STAGES", "Asset", "PrepareConfig", "PreparedFolder", "list_assets", "prepare"]
