"""What a prepared folder holds: a layout is a list of stages, each of which makes the files of one asset.

The engine (:mod:`mdtdist.data.engine`) knows stages only, so another layout is another list. ``mini`` is the folder the
shipped model is trained on, ``trellis`` the folder of TRELLIS's own data tools, file by file.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdtdist.data import files
from mdtdist.data.sources import Asset
from mdtdist.data.split import EXCLUDED_CATEGORIES, MIN_FLATNESS
from mdtdist.errors import InputError

Row = dict[str, Any]
# What our tables say of every asset beside the stages' own columns.
PROVENANCE = ("name", "category", "source_id", "creator", "license")
SIZE = ("width_cm", "depth_cm", "height_cm")
OUTCOME = ("split", "status", "reason")
# The first columns of a table of TRELLIS, which its loader and ours filter on; those of the models come after them.
TRELLIS_COLUMNS = (
    "sha256",
    "file_identifier",
    "aesthetic_score",
    "captions",
    "local_path",
    "rendered",
    "voxelized",
    "num_voxels",
    "cond_rendered",
)
_MODEL_PREFIXES = ("feature_", "latent_", "ss_latent_")
# Score of the assets of a source that has no scores: the top of the scale, as nothing is to be filtered out.
CHOSEN_BY_HAND = 10.0


def _no_columns(out: Path, sha256: str) -> Row:
    """A stage without columns."""
    return {}


def _no_finish(out: Path, rows: Sequence[Row]) -> None:
    """A layout without a last step."""


def _no_picture(out: Path, sha256: str) -> Path | None:
    """A layout without pictures."""
    return None


def _no_exclusion(row: Mapping[str, Any]) -> str:
    """A layout that takes every asset."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the preparation of one asset.

    ``run`` crosses to worker processes and machines, so it is picklable: a function of a module, or an instance of a
    frozen dataclass with ``__call__``. A network is loaded once per process (``functools.lru_cache``).

    Attributes:
        name: as on the command line and in ``reason``.
        run: makes the files of ``asset`` in the prepared folder; they appear whole. Raises what it likes: the reason
            is recorded and the asset takes no part in later stages.
        is_done: whether the files of an asset (by ``sha256``) are there.
        needs: stages whose files this one reads.
        columns: what it says of an asset in ``metadata.csv``, done or not.
        max_workers: most processes at once, where memory or one accelerator sets a bound; None for no bound.
        takes_excluded: whether it also works on assets that the layout leaves out.
    """

    name: str
    run: Callable[[Asset, Path], None]
    is_done: Callable[[Path, str], bool]
    needs: tuple[str, ...] = ()
    columns: Callable[[Path, str], Row] = _no_columns
    max_workers: int | None = None
    takes_excluded: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A kind of prepared folder.

    Attributes:
        stages: in the order in which they run.
        columns: of ``metadata.csv``, in order; the key ``sha256`` is the first.
        closing_columns: the last of them. What else the rows say comes between the two; without closing columns it
            is left out.
        finish: called once after the last stage with all rows of the table, to write what belongs to the whole set.
        picture: a view of an asset for the report, None if there is none yet.
        exclusion: why an asset is left out of the data set, by its row; empty for no reason.
        has_separate_latents: whether latents are made by :mod:`mdtdist.data.latents`, after the stages.
        carried: columns whose values an asset's ``metadata`` must have; if ``split`` is one of them, it is not chosen
            here.
        contents: what the folder says of itself; None where ``metadata.csv`` alone tells the layout.
    """

    name: str
    stages: tuple[Stage, ...]
    columns: tuple[str, ...]
    closing_columns: tuple[str, ...] = ()
    finish: Callable[[Path, Sequence[Row]], None] = _no_finish
    picture: Callable[[Path, str], Path | None] = _no_picture
    exclusion: Callable[[Mapping[str, Any]], str] = _no_exclusion
    has_separate_latents: bool = False
    carried: tuple[str, ...] = ()
    contents: files.Contents | None = None

    def __post_init__(self) -> None:
        earlier: set[str] = set()
        for stage in self.stages:
            if lacking := [name for name in stage.needs if name not in earlier]:
                raise ValueError(f"stage {stage.name} of layout {self.name} needs {lacking[0]}, which is not before it")
            earlier.add(stage.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(stage.name for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """A stage by name.

        Raises:
            InputError: if there is none of that name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise InputError(f"unknown stage {name!r}; choose among {', '.join(self.names)}.")

    def table_columns(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """All columns of a table with these rows."""
        if not self.closing_columns:
            return self.columns
        known = {*self.columns, *self.closing_columns}
        others = dict.fromkeys(key for row in rows for key in row if key not in known)
        return (*self.columns, *sorted(others, key=_model_rank), *self.closing_columns)


def _model_rank(column: str) -> int:
    """Features, then latents, then structure latents, then the rest."""
    ranks = [rank for rank, prefix in enumerate(_MODEL_PREFIXES) if column.startswith(prefix)]
    return ranks[0] if ranks else len(_MODEL_PREFIXES)


# ------------------------------------------------------------------------------------------------------------ mini


def mini_layout() -> Layout:
    """The folder of the shipped model: 32^3 voxels, 12 views of 128 px, EfficientNet features; stages by name."""
    return Layout(
        name="mini",
        stages=(
            Stage(name="voxels", run=_make_voxels, is_done=_has_voxels, columns=_voxel_columns, takes_excluded=True),
            Stage(name="renders", run=_make_renders, is_done=_has_renders, needs=("voxels",), columns=_render_columns),
            Stage(
                name="features",
                run=_make_features,
                is_done=_has_features,
                needs=("voxels", "renders"),
                columns=_feature_columns,
            ),
        ),
        columns=files.COLUMNS,
        picture=first_view,
        exclusion=_unfit,
        has_separate_latents=True,
    )


def _make_voxels(asset: Asset, out: Path) -> None:
    from mdtdist.data.normalize import flatness, load_normalized
    from mdtdist.data.voxelize import voxelize_surface

    triangles = load_normalized(asset.path, rotation=asset.rotation)
    indices = voxelize_surface(triangles)
    files.write_npz(
        files.voxel_path(out, asset.sha256),
        indices=indices,
        num_faces=len(triangles.faces),
        flatness=flatness(triangles),
    )


def _make_renders(asset: Asset, out: Path) -> None:
    from mdtdist.data.views import render_asset

    render_asset(asset, files.render_folder(out, asset.sha256))


def _make_features(asset: Asset, out: Path) -> None:
    from mdtdist.data.features import write_features

    write_features(out, asset.sha256)


def _has_voxels(out: Path, sha256: str) -> bool:
    return files.is_done(out, "voxels", sha256)


def _has_renders(out: Path, sha256: str) -> bool:
    return files.is_done(out, "renders", sha256)


def _has_features(out: Path, sha256: str) -> bool:
    return files.is_done(out, "features", sha256)


def _voxel_columns(out: Path, sha256: str) -> Row:
    path = files.voxel_path(out, sha256)
    if not path.exists():
        return {"voxelized": False}
    with np.load(path) as data:
        return {
            "voxelized": True,
            "num_voxels": len(data["indices"]),
            "num_faces": int(data["num_faces"]),
            "flatness": round(float(data["flatness"]), 4),
        }


def _render_columns(out: Path, sha256: str) -> Row:
    return {"rendered": _has_renders(out, sha256)}


def _feature_columns(out: Path, sha256: str) -> Row:
    return {
        f"feature_{files.ENCODER}": files.feature_path(out, sha256).exists(),
        f"cond_{files.ENCODER}": files.cond_path(out, sha256).exists(),
    }


def first_view(out: Path, sha256: str) -> Path | None:
    """The picture of a layout whose views lie in ``renders/<sha256>``."""
    path = files.render_folder(out, sha256) / "000.png"
    return path if path.exists() else None


def _unfit(row: Mapping[str, Any]) -> str:
    if row["category"] in EXCLUDED_CATEGORIES:
        return f"category {row['category']}"
    flatness = 1.0 if row.get("flatness", "") == "" else float(row["flatness"])
    return f"flat: thinnest extent {flatness:.3f} of the longest" if flatness < MIN_FLATNESS else ""


# --------------------------------------------------------------------------------------------------------- trellis


def trellis_layout(stages: Sequence[Stage], *, finish: Callable[[Path, Sequence[Row]], None] = _no_finish) -> Layout:
    """The folder of TRELLIS's data tools around stages such as those of :mod:`mdtdist.data.trellis`.

    Its own trainer reads the result (it selects rows by the boolean columns, ``aesthetic_score`` and ``captions``),
    as does :mod:`mdtdist.training.trellis_data`.
    """
    return Layout(
        name="trellis",
        stages=tuple(stages),
        columns=TRELLIS_COLUMNS,
        closing_columns=(*PROVENANCE, *OUTCOME, *SIZE),
        finish=finish,
        picture=_trellis_picture,
        exclusion=_unfit,
    )


def trellis_cells(asset: Asset, out: Path, *, default_score: float | None) -> Row:
    """What TRELLIS's table says of an asset before any stage: all that its source says, and the columns it must have.

    Args:
        default_score: aesthetic score of an asset that has none; None leaves the cell empty, and such an asset is
            filtered out by TRELLIS's loader.
    """
    metadata = asset.metadata
    captions = metadata.get("captions") or ""
    score = metadata.get("aesthetic_score")
    return {
        **metadata,
        "file_identifier": metadata.get("file_identifier") or asset.source_id,
        "aesthetic_score": default_score if score in (None, "") else score,
        "captions": captions if isinstance(captions, str) else json.dumps(list(captions)),
        "local_path": _local_path(asset.path, out),
    }


def _local_path(path: Path, out: Path) -> str:
    """Relative to the prepared folder where the asset lies in it, as TRELLIS's tools join the two."""
    path, out = path.absolute(), out.absolute()
    return path.relative_to(out).as_posix() if path.is_relative_to(out) else path.as_posix()


def _trellis_picture(out: Path, sha256: str) -> Path | None:
    paths = (out / folder / sha256 / "000.png" for folder in ("renders_cond", "renders"))
    return next((path for path in paths if path.exists()), None)
