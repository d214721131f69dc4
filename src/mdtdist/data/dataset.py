"""A prepared folder, read."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdtdist.data import files
from mdtdist.data.split import SPLITS
from mdtdist.data.views import View, read_views
from mdtdist.data.voxelize import occupancy_grid
from mdtdist.errors import InputError


class PreparedFolder:
    """What ``mdtdist prepare`` wrote. Assets go by their ``sha256``; nothing is read before it is asked for.

    Args:
        path: the folder with ``metadata.csv``.
        resolution: of the voxel grid.

    Raises:
        InputError: if the folder is not a prepared one.
    """

    def __init__(self, path: str | Path, *, resolution: int = 32) -> None:
        self.path, self.resolution = Path(path), resolution
        table = self.path / "metadata.csv"
        if not table.is_file():
            raise InputError(
                f"{self.path} has no metadata.csv; make the folder with `mdtdist prepare SOURCE --out DIR`."
            )
        with table.open(encoding="utf-8", newline="") as file:
            self.rows = {row["sha256"]: row for row in csv.DictReader(file)}

    def ids(self, split: str | None = None) -> list[str]:
        """Usable assets of a split (of all splits for None), in the order of the table.

        Raises:
            InputError: if the split is unknown or empty.
        """
        if split is not None and split not in SPLITS:
            raise InputError(f"unknown split {split!r}; choose among {', '.join(SPLITS)}.")
        chosen = [sha for sha, row in self.rows.items() if row["status"] == "ok" and split in (None, row["split"])]
        if not chosen:
            raise InputError(f"{self.path} has no usable asset in split {split or 'any'}; see its metadata.csv.")
        return chosen

    def voxels(self, sha256: str) -> Int[Tensor, "N 3"]:
        """Occupied voxels (i, j, k), sorted."""
        return torch.from_numpy(self._load(files.voxel_path(self.path, sha256), "indices", "voxels")).int()

    def occupancy(self, sha256: str) -> Bool[Tensor, "R R R"]:
        """Dense surface grid, indexed [x, y, z]."""
        indices = self._load(files.voxel_path(self.path, sha256), "indices", "voxels")
        return torch.from_numpy(occupancy_grid(indices, resolution=self.resolution))

    def views(self, sha256: str) -> list[View]:
        """All rendered views; those with ``is_cond`` serve as input images."""
        return read_views(files.render_folder(self.path, sha256))

    def features(self, sha256: str) -> tuple[Int[Tensor, "N 3"], Float[Tensor, "N C"]]:
        """Voxels and their image features (see :func:`mdtdist.data.features.voxel_features`), float16."""
        path = files.feature_path(self.path, sha256)
        indices = torch.from_numpy(self._load(path, "indices", "features")).int()
        return indices, torch.from_numpy(self._load(path, "patchtokens", "features"))

    def condition_tokens(self, sha256: str) -> Float[Tensor, "V 2 49 896"]:
        """Raw image tokens per condition view, of the picture as seen and of its mirror image, float16."""
        return torch.from_numpy(self._load(files.cond_path(self.path, sha256), "tokens", "features"))

    def missing(self, ids: Sequence[str], stage: str) -> list[str]:
        """Which of ``ids`` lack the files of a stage (voxels, renders or features)."""
        return [sha for sha in ids if not files.is_done(self.path, stage, sha)]

    def _load(self, path: Path, key: str, stage: str) -> np.ndarray:
        if not path.exists():
            raise InputError(f"{path} is missing; run `mdtdist prepare` with the stage {stage}.")
        with np.load(path) as data:
            return data[key]
