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
from mdtdist.data.views import View, ViewChoice, ViewFolder, read_views
from mdtdist.data.voxelize import occupancy_grid
from mdtdist.errors import InputError


class PreparedFolder:
    """What ``mdtdist prepare`` wrote. Assets go by their ``sha256``; nothing is read before it is asked for.

    Args:
        path: the folder with ``metadata.csv``.
        resolution: of the voxel grid; None for what the folder says of itself.

    Raises:
        InputError: if the folder is not a prepared one, or says that it has another resolution.
    """

    def __init__(self, path: str | Path, *, resolution: int | None = None) -> None:
        self.path = Path(path)
        self.resolution, self._contents = _resolved(self.path, resolution)
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

    def small_enough(self, split: str, max_voxels: int | None) -> list[str]:
        """Usable assets of a split that have at most ``max_voxels`` voxels; None for no bound.

        Raises:
            InputError: if there are none.
        """
        ids = self.ids(split)
        if max_voxels is not None:
            counts = list(files.in_threads(lambda sha: len(self.voxels(sha)), ids))
            ids = [sha for sha, count in zip(ids, counts, strict=True) if count <= max_voxels]
        if not ids:
            raise InputError(f"max_voxels is {max_voxels}: no asset of split {split!r} has so few; raise it")
        return ids

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

    def open_views(self, sha256: str, *, only: ViewChoice | None = None) -> ViewFolder:
        """The same, read one by one; "around" leaves out the condition views."""
        return ViewFolder(files.render_folder(self.path, sha256), only=only)

    def features(self, sha256: str) -> tuple[Int[Tensor, "N 3"], Float[Tensor, "N C"]]:
        """Voxels and their features, float16: :func:`mdtdist.data.features.voxel_features`, or those of the layout."""
        path, stage = files.feature_path(self.path, sha256, features=self._contents.features), self._feature_stage
        indices = torch.from_numpy(self._load(path, "indices", stage)).int()
        return indices, torch.from_numpy(self._load(path, "patchtokens", stage))

    def mirrored_features(self, sha256: str) -> Float[Tensor, "N C"]:
        """Features of the asset mirrored in x, float16; row i belongs to the mirror image of voxel i.

        Features of images are taken as they are, which is close to those of mirrored pictures; others come with a rule.
        """
        _, feats = self.features(sha256)
        with np.load(files.feature_path(self.path, sha256, features=self._contents.features)) as data:
            if "mirror_order" not in data:
                return feats
            order, sign = torch.from_numpy(data["mirror_order"]), torch.from_numpy(data["mirror_sign"])
        return feats[:, order] * sign.to(feats)

    def condition_tokens(self, sha256: str) -> Float[Tensor, "V 2 49 896"]:
        """Raw image tokens per condition view, of the picture as seen and of its mirror image, float16.

        Raises:
            InputError: if they are missing, or the layout has none.
        """
        if self._contents.layout != "mini":
            raise InputError(
                f"{self.path} has the layout {self._contents.layout}, which keeps no condition tokens; its pictures "
                "are encoded as they are drawn, so name an image encoder that was trained on pictures."
            )
        return torch.from_numpy(self._load(files.cond_path(self.path, sha256), "tokens", "features"))

    def missing(self, ids: Sequence[str], stage: str) -> list[str]:
        """Which of ``ids`` lack the files of a stage (voxels, renders or features)."""
        features = self._contents.features
        return [sha for sha in ids if not files.is_done(self.path, stage, sha, features=features)]

    @property
    def layout(self) -> str:
        """Name of the layout."""
        return self._contents.layout

    @property
    def _feature_stage(self) -> str:
        return "features" if self._contents.layout == "mini" else "attributes"

    def _load(self, path: Path, key: str, stage: str) -> np.ndarray:
        if not path.exists():
            raise InputError(f"{path} is missing; run `mdtdist prepare` with the stage {stage}.")
        with np.load(path) as data:
            return data[key]


def _resolved(path: Path, resolution: int | None) -> tuple[int, files.Contents]:
    """Voxels a side, and what the folder holds."""
    contents = files.read_contents(path)
    if contents is not None and resolution not in (None, contents.resolution):
        raise InputError(
            f"{path} has voxels of {contents.resolution}^3 and {resolution}^3 was asked for; give a folder of the "
            "model's resolution."
        )
    contents = contents or files.Contents()
    return resolution or contents.resolution, contents
