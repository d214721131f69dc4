"""Latents in TRELLIS's folders: posterior means of the structure and of the voxel features, and their statistics."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mdtdist.data.files import write_json, write_npz
from mdtdist.data.sources import Asset
from mdtdist.data.trellis.paths import feature_path, latent_path, structure_path, voxel_path
from mdtdist.data.trellis.ply import read_voxels
from mdtdist.data.trellis.settings import TrellisSettings
from mdtdist.data.voxelize import occupancy_grid
from mdtdist.errors import InputError
from mdtdist.models import SLatEncoder, SparseStructureEncoder, load, network_args
from mdtdist.sparse import SparseTensor, pack_coords

MARK = "encoder.json"  # beside the latents: the hash of the weights they were made with


@torch.no_grad()
def write_structure_latent(asset: Asset, out: Path, settings: TrellisSettings) -> None:
    """``ss_latents/<encoder>/<sha256>.npz`` of an asset whose voxels are there.

    Raises:
        InputError: if the encoder or the voxels cannot be read, or the folder has latents of other weights.
    """
    assert settings.structure_encoder is not None
    path = structure_path(out, settings.structure_name, asset.sha256)
    encoder = open_encoder(settings.structure_encoder, SparseStructureEncoder, settings.device)
    check_mark(path.parent, settings.structure_encoder)
    indices = read_voxels(voxel_path(out, asset.sha256), resolution=settings.resolution)
    grid = torch.from_numpy(occupancy_grid(indices, resolution=settings.resolution))
    mean, _ = encoder(grid[None, None].float().to(settings.device))
    write_npz(path, mean=_array(mean[0]))


@torch.no_grad()
def write_structured_latent(asset: Asset, out: Path, settings: TrellisSettings) -> None:
    """``latents/<features>_<encoder>/<sha256>.npz`` of an asset whose features are there.

    Raises:
        InputError: if the encoder or the features cannot be read or do not fit each other, or the folder has latents
            of other weights.
    """
    assert settings.latent_encoder is not None
    path = latent_path(out, settings.latent_name, asset.sha256)
    encoder = open_encoder(settings.latent_encoder, SLatEncoder, settings.device)
    check_mark(path.parent, settings.latent_encoder)
    coords, feats = read_features(feature_path(out, settings.feature_name, asset.sha256))
    channels = network_args(encoder)["in_channels"]
    if feats.shape[1] != channels:
        raise InputError(
            f"{settings.feature_name} gives {feats.shape[1]} channels, {settings.latent_encoder} takes {channels}; "
            "choose an encoder that was trained on these features."
        )
    mean, _ = encoder(SparseTensor(feats.to(settings.device), pack_coords([coords]).to(settings.device)))
    write_npz(path, feats=_array(mean), coords=coords.numpy().astype(np.uint8))


def read_features(path: Path) -> tuple[Tensor, Tensor]:
    """Voxels int32 [N, 3] and features float32 [N, C] of one asset.

    Raises:
        InputError: if the file is damaged.
    """
    try:
        with np.load(path) as arrays:
            indices, tokens = arrays["indices"], arrays["patchtokens"]
    except Exception as err:  # numpy and zip raise whatever a damaged file makes them
        raise InputError(f"{path} holds no features ({type(err).__name__}: {err}); make them again.") from err
    return torch.from_numpy(indices.astype(np.int32)), torch.from_numpy(tokens.astype(np.float32))


@lru_cache(maxsize=2)
def open_encoder(path: Path, network: type[nn.Module], device: str) -> nn.Module:
    """An encoder in float32, once per process.

    Raises:
        InputError: if a file is missing or damaged, or it is of another class.
    """
    encoder = load(path, device=device)
    if not isinstance(encoder, network):
        raise InputError(f"{path} is a {type(encoder).__name__}; expected a {network.__name__}.")
    return encoder


def check_mark(folder: Path, encoder_path: Path) -> None:
    """TRELLIS's folders bear the name of an encoder only; latents of two different ones must not mix under it.

    A folder without the mark is taken as it is, for it may have come from elsewhere.

    Raises:
        InputError: if the latents in ``folder`` were made with other weights.
    """
    digits, path = _weights_hash(encoder_path), folder / MARK
    if path.exists():
        if (found := json.loads(path.read_text()).get("weights_sha256")) != digits:
            raise InputError(
                f"the latents in {folder} were made with other weights ({str(found)[:8]}, now {digits[:8]}); "
                "remove the folder or rename the encoder."
            )
    elif not any(folder.glob("*.npz")):
        write_json(path, {"weights_sha256": digits})


def write_statistics(folder: Path, names: Iterable[str]) -> int:
    """``stats.json`` of structured latents: averages over assets of the mean and mean square of each channel.

    Args:
        folder: of the latents of one encoder.
        names: assets that count; those without latents are passed over.

    Returns:
        Assets that counted; without any, no file is written.
    """
    total: np.ndarray | None = None
    count = 0
    for name in names:
        if (path := folder / f"{name}.npz").exists():
            with np.load(path) as arrays:
                feats = arrays["feats"].astype(np.float64)
            moments = np.stack([feats.mean(0), (feats**2).mean(0)])
            total, count = moments if total is None else total + moments, count + 1
    if total is not None:
        mean, square = total / count
        deviation = np.sqrt((square - mean**2).clip(0))
        write_json(folder / "stats.json", {"mean": mean.tolist(), "std": deviation.tolist()})
    return count


def statistics_of_table(out: Path, rows: Sequence[dict[str, object]], settings: TrellisSettings) -> None:
    """:func:`write_statistics` over the usable rows of ``metadata.csv`` that are not held out."""
    if settings.latent_encoder is not None:
        names = [str(row["sha256"]) for row in rows if _counts(row)]
        write_statistics(latent_path(out, settings.latent_name, "").parent, names)


def _counts(row: dict[str, object]) -> bool:
    return row.get("status", "ok") in ("", "ok") and row.get("split", "train") in ("", "train")


@lru_cache(maxsize=4)
def _weights_hash(encoder_path: Path) -> str:
    with encoder_path.with_name(encoder_path.name + ".safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
