"""Latents of a prepared folder: what the flows are trained on, one file per encoder and asset.

The folders have the names and contents of TRELLIS: ``ss_latents/<encoder>/<sha256>.npz`` holds the posterior mean of
the occupancy grid and of its mirror image, ``latents/<encoder>/<sha256>.npz`` that of the voxel features.
Each file has the latent of the mirrored asset too. ``<encoder>`` names the weights as well, so latents can never be
stale. ``mdtdist prepare`` and the trainings write them through the same functions.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdtdist.data import files
from mdtdist.data.dataset import PreparedFolder
from mdtdist.errors import InputError
from mdtdist.models import SLatEncoder, SparseStructureEncoder, load, network_args
from mdtdist.sparse import SparseTensor, pack_coords

logger = logging.getLogger(__name__)

# Latents of one asset, plain and mirrored in x, and the plain voxels of both; every item has its own N.
LatentItem = tuple[Float[Tensor, "2 _ C"], Int[Tensor, "_ 3"]]
Encode = Callable[[nn.Module, PreparedFolder, str, str], dict[str, Tensor]]


def mirror(grid: Tensor) -> Tensor:
    """Mirror grids ``[..., R, R, R]`` in x."""
    return grid.flip(-3)


def mirror_coords(coords: Int[Tensor, "_ 3"], resolution: int) -> Int[Tensor, "_ 3"]:
    """Voxels of the mirror image, row by row."""
    x, y, z = coords.unbind(-1)
    return torch.stack([resolution - 1 - x, y, z], dim=-1)


@torch.no_grad()
def encode_structure(encoder: nn.Module, data: PreparedFolder, sha256: str, device: str) -> dict[str, Tensor]:
    """``mean`` and ``mean_mirrored`` [C, r, r, r] of one asset."""
    grid = data.occupancy(sha256)
    pair = torch.stack([grid, mirror(grid)])[:, None].float().to(device)
    mean, mean_mirrored = _rounded(encoder(pair)[0])
    return {"mean": mean, "mean_mirrored": mean_mirrored}


@torch.no_grad()
def encode_structured(encoder: nn.Module, data: PreparedFolder, sha256: str, device: str) -> dict[str, Tensor]:
    """``feats`` and ``feats_mirrored`` [N, C], ``coords`` uint8 [N, 3] of one asset.

    Row i of the mirrored latents belongs to the mirror image of voxel i. It is encoded from the mirrored feature (see
    :meth:`PreparedFolder.mirrored_features`).
    """
    coords, feats = data.features(sha256)
    flipped = data.mirrored_features(sha256)
    resolution = int(network_args(encoder)["resolution"])
    both = pack_coords([coords, mirror_coords(coords, resolution)])
    mean, _ = encoder(SparseTensor(torch.cat([feats, flipped]).float().to(device), both.to(device)))
    plain, mirrored = _rounded(mean).split(len(coords))
    return {"feats": plain, "feats_mirrored": mirrored, "coords": coords.to(torch.uint8)}


@dataclass(frozen=True, kw_only=True)
class LatentKind:
    """One of the two latents: the folder it lies in, the encoder's class, the stage it is made from."""

    folder: str
    network: type[nn.Module]
    needs: str
    encode: Encode


KINDS = {
    "structure": LatentKind(
        folder="ss_latents", network=SparseStructureEncoder, needs="voxels", encode=encode_structure
    ),
    "latent": LatentKind(folder="latents", network=SLatEncoder, needs="features", encode=encode_structured),
}


def latent_folder(root: Path, encoder_path: Path, *, kind: str) -> Path:
    """Where the latents of an encoder lie: its name and eight hexadecimal digits of the hash of its weights.

    Args:
        root: prepared folder.
        encoder_path: path without suffix.
        kind: "structure" or "latent".

    Raises:
        InputError: if the weights are missing.
    """
    weights = encoder_path.with_name(encoder_path.name + ".safetensors")
    if not weights.is_file():
        raise InputError(f"{weights} is missing; give the path of a trained encoder without its suffix.")
    digits = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    return root / KINDS[kind].folder / f"{encoder_path.name}_{digits}"


def encode_missing(
    data: PreparedFolder, ids: Sequence[str], encoder_path: Path, *, kind: str, device: str = "cpu"
) -> Iterator[tuple[str, str | None]]:
    """Write the latents that are not there yet, one asset at a time.

    Yields:
        (sha256, None or the reason of failure) of each asset that was tried.

    Raises:
        InputError: if the encoder is missing or of another class than the kind asks for.
    """
    folder, spec = latent_folder(data.path, encoder_path, kind=kind), KINDS[kind]
    missing = [sha for sha in ids if not (folder / f"{sha}.npz").exists()]
    if not missing:
        return
    encoder = load(encoder_path, device=device)
    if not isinstance(encoder, spec.network):
        raise InputError(f"{encoder_path} is a {type(encoder).__name__}; expected a {spec.network.__name__}.")

    def encode(sha: str) -> tuple[str, str | None]:
        try:
            tensors = spec.encode(encoder, data, sha, device)
            arrays: dict[str, Any] = {name: value.numpy() for name, value in tensors.items()}
            files.write_npz(folder / f"{sha}.npz", **arrays)
        except Exception as err:  # whatever a broken file provokes is recorded, never raised
            logger.debug("asset %s", sha, exc_info=True)
            return sha, f"{type(err).__name__}: {err}".splitlines()[0][:200]
        return sha, None

    # Beside an accelerator reading and writing take the time; on a CPU the encoder has use for all cores itself.
    yield from map(encode, missing) if device == "cpu" else files.in_threads(encode, missing)


def structure_latents(
    data: PreparedFolder, ids: Sequence[str], encoder_path: Path, *, device: str = "cpu"
) -> Float[Tensor, "objects 2 C r r r"]:
    """Posterior means of every object and its mirror image; those that are not there yet are encoded.

    Raises:
        InputError: if an object cannot be encoded.
    """
    items = _load(data, ids, encoder_path, kind="structure", device=device)
    return torch.stack([torch.stack([item["mean"], item["mean_mirrored"]]) for item in items])


def structured_latents(
    data: PreparedFolder, ids: Sequence[str], encoder_path: Path, *, device: str = "cpu"
) -> list[LatentItem]:
    """Posterior means, plain and mirrored, and voxels of every object; those that are not there yet are encoded.

    Raises:
        InputError: if an object cannot be encoded.
    """
    items = _load(data, ids, encoder_path, kind="latent", device=device)
    return [(torch.stack([item["feats"], item["feats_mirrored"]]), item["coords"].int()) for item in items]


def latent_statistics(feats: Sequence[Float[Tensor, "_ C"]]) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Mean and standard deviation per channel, from averages over assets of mean and mean square, as in TRELLIS."""
    mean = torch.stack([part.mean(0) for part in feats]).mean(0)
    square = torch.stack([(part**2).mean(0) for part in feats]).mean(0)
    return mean, (square - mean**2).sqrt()


def add_latents(
    root: Path,
    encoders: Mapping[str, Path],
    *,
    limit: int | None = None,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Encode the usable assets of a prepared folder; ``stats.json`` is written beside the structured latents.

    ``metadata.csv`` stays as it is: a failure belongs to an encoder and is kept in ``failed.json`` beside its latents.

    Args:
        root: prepared folder.
        encoders: kind -> path of the encoder without suffix.
        limit: only the first so many assets of the table.
        progress: called per finished asset with the folder's name, number done, number to do.

    Returns:
        The rows of ``metadata.csv``, with ``status`` and ``reason`` of the assets that failed here.
    """
    data = PreparedFolder(root)
    rows: list[dict[str, Any]] = list(data.rows.values())[:limit]
    failures: dict[str, str] = {}
    for kind, encoder_path in encoders.items():
        ids = [row["sha256"] for row in rows if row["status"] == "ok"]
        lacking = set(data.missing(ids, KINDS[kind].needs))
        ids = [sha for sha in ids if sha not in lacking]
        failures |= _encode_kind(data, ids, encoder_path, kind, device, progress)
        if kind == "latent":
            _write_statistics(data, latent_folder(root, encoder_path, kind=kind))
    failed = {sha: {"status": "failed", "reason": f"latents: {reason}"} for sha, reason in failures.items()}
    return [row | failed.get(row["sha256"], {}) for row in rows]


def _encode_kind(
    data: PreparedFolder,
    ids: Sequence[str],
    encoder_path: Path,
    kind: str,
    device: str,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, str]:
    folder = latent_folder(data.path, encoder_path, kind=kind)
    total = sum(not (folder / f"{sha}.npz").exists() for sha in ids)
    failures: dict[str, str] = {}
    for number, (sha, reason) in enumerate(encode_missing(data, ids, encoder_path, kind=kind, device=device), start=1):
        if reason is not None:
            failures[sha] = reason
            logger.warning("%s failed at %s: %s", sha[:12], folder.name, reason)
        if progress is not None:
            progress(KINDS[kind].folder, number, total)
    record = folder / "failed.json"
    earlier = json.loads(record.read_text()) if record.exists() else {}
    if earlier or failures:
        files.write_json(record, {sha: reason for sha, reason in earlier.items() if sha not in ids} | failures)
    return failures


def _write_statistics(data: PreparedFolder, folder: Path) -> None:
    """Over the training assets that have latents; their number is part of the file."""
    train = [sha for sha, row in data.rows.items() if row["status"] == "ok" and row["split"] == "train"]
    feats = [_read(path)["feats"] for sha in train if (path := folder / f"{sha}.npz").exists()]
    if feats:
        mean, std = latent_statistics(feats)
        values = {"mean": mean.tolist(), "std": std.tolist(), "num_assets": len(feats)}
        files.write_json(folder / "stats.json", values)


def _load(
    data: PreparedFolder, ids: Sequence[str], encoder_path: Path, *, kind: str, device: str
) -> list[dict[str, Tensor]]:
    for sha, reason in encode_missing(data, ids, encoder_path, kind=kind, device=device):
        if reason is not None:
            raise InputError(f"asset {sha} cannot be encoded by {encoder_path} ({reason}); prepare its files again.")
    folder = latent_folder(data.path, encoder_path, kind=kind)
    return list(files.in_threads(_read, [folder / f"{sha}.npz" for sha in ids]))


def _read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _rounded(values: Tensor) -> Tensor:
    """Float32 of float16 precision, on the CPU: far below the posterior's own width, and half the size on disk."""
    return values.cpu().half().float()
