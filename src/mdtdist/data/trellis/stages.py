"""The stages of the layout ``trellis``, in order; each writes what section of TRELLIS's data tools of its name does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdtdist.data.layouts import Row, Stage
from mdtdist.data.sources import Asset
from mdtdist.data.trellis import paths, ply
from mdtdist.data.trellis.settings import TrellisSettings

_COND, _RENDERS, _VOXELS, _FEATURES = "renders_cond", "renders", "voxels", "features"
_STRUCTURE, _LATENTS = "ss_latents", "latents"


def trellis_stages(settings: TrellisSettings | None = None) -> tuple[Stage, ...]:
    """Condition views, feature views, voxels, features, and the latents whose encoders the settings name."""
    settings = TrellisSettings() if settings is None else settings
    stages = [
        _stage(settings, _COND, ()),
        _stage(settings, _RENDERS, ()),
        _stage(settings, _VOXELS, ()),
        _stage(settings, _FEATURES, (_RENDERS, _VOXELS)),
    ]
    if settings.structure_encoder is not None:
        stages.append(_stage(settings, _STRUCTURE, (_VOXELS,)))
    if settings.latent_encoder is not None:
        stages.append(_stage(settings, _LATENTS, (_FEATURES,)))
    return tuple(stages)


def trellis_finish(settings: TrellisSettings) -> Callable[[Path, Sequence[Row]], None]:
    """What is written when all assets are done: ``stats.json`` of the structured latents."""
    return _Finish(settings)


@dataclass(frozen=True)
class _Make:
    """Makes the files of one stage for one asset."""

    stage: str
    settings: TrellisSettings

    def __call__(self, asset: Asset, out: Path) -> None:
        from mdtdist.data.trellis import features, latents, renders, voxels

        make: dict[str, Callable[[Asset, Path, TrellisSettings], None]] = {
            _COND: renders.render_condition_views,
            _RENDERS: renders.render_feature_views,
            _VOXELS: voxels.write_asset_voxels,
            _FEATURES: features.write_features,
            _STRUCTURE: latents.write_structure_latent,
            _LATENTS: latents.write_structured_latent,
        }
        make[self.stage](asset, out, self.settings)


@dataclass(frozen=True)
class _IsDone:
    """Whether the last file of a stage is there."""

    stage: str
    settings: TrellisSettings

    def __call__(self, out: Path, sha256: str) -> bool:
        return _last_file(self.stage, self.settings, out, sha256).exists()


@dataclass(frozen=True)
class _Columns:
    """The columns of TRELLIS's table."""

    stage: str
    settings: TrellisSettings

    def __call__(self, out: Path, sha256: str) -> Row:
        path = _last_file(self.stage, self.settings, out, sha256)
        is_done = path.exists()
        row: Row = {_flag(self.stage, self.settings): is_done}
        if self.stage == _VOXELS and is_done:
            row["num_voxels"] = ply.num_voxels(path)
        return row


@dataclass(frozen=True)
class _Finish:
    settings: TrellisSettings

    def __call__(self, out: Path, rows: Sequence[Row]) -> None:
        from mdtdist.data.trellis.latents import statistics_of_table

        statistics_of_table(out, rows, self.settings)


def _stage(settings: TrellisSettings, name: str, needs: tuple[str, ...]) -> Stage:
    return Stage(
        name=name,
        run=_Make(name, settings),
        is_done=_IsDone(name, settings),
        needs=needs,
        columns=_Columns(name, settings),
    )


def _last_file(stage: str, settings: TrellisSettings, out: Path, sha256: str) -> Path:
    if stage == _COND:
        return paths.cond_folder(out, sha256) / "transforms.json"
    if stage == _RENDERS:
        return paths.renders_folder(out, sha256) / "transforms.json"
    if stage == _VOXELS:
        return paths.voxel_path(out, sha256)
    if stage == _FEATURES:
        return paths.feature_path(out, settings.feature_name, sha256)
    if stage == _STRUCTURE:
        return paths.structure_path(out, settings.structure_name, sha256)
    return paths.latent_path(out, settings.latent_name, sha256)


def _flag(stage: str, settings: TrellisSettings) -> str:
    """The boolean column of a stage."""
    plain = {_COND: "cond_rendered", _RENDERS: "rendered", _VOXELS: "voxelized"}
    if stage in plain:
        return plain[stage]
    if stage == _FEATURES:
        return f"feature_{settings.feature_name}"
    return f"ss_latent_{settings.structure_name}" if stage == _STRUCTURE else f"latent_{settings.latent_name}"
