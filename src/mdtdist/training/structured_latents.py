"""Structured latents of a split, encoded once and kept on disk, and their per-channel normalisation."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdtdist.data import PreparedFolder
from mdtdist.models import load
from mdtdist.sparse import SparseTensor, pack_coords

LatentItem = tuple[Float[Tensor, "N C"], Int[Tensor, "N 3"]]


@torch.no_grad()
def structured_latents(
    data: PreparedFolder, ids: Sequence[str], encoder_path: Path, *, device: str
) -> list[LatentItem]:
    """Posterior means and voxels of every object; cached beside the encoder, keyed by its weights and the ids."""
    cache = encoder_path.with_name(f"latents_{_key(encoder_path, ids)}.safetensors")
    if not cache.is_file():
        encoder = load(encoder_path, device=device)
        tensors: dict[str, Tensor] = {}
        for sha in ids:
            coords, feats = data.features(sha)
            x = SparseTensor(feats.float().to(device), pack_coords([coords]).to(device))
            tensors |= {f"{sha}.feats": encoder(x)[0].cpu().half(), f"{sha}.coords": coords.to(torch.uint8)}
        partial = f"{cache}.{os.getpid()}.new"  # two runs may meet here
        save_file(tensors, partial)
        os.replace(partial, cache)
    tensors = load_file(cache)
    return [(tensors[f"{sha}.feats"].float(), tensors[f"{sha}.coords"].int()) for sha in ids]


def _key(encoder_path: Path, ids: Sequence[str] = ()) -> str:
    weights = encoder_path.with_name(encoder_path.name + ".safetensors").read_bytes()
    return hashlib.sha256(weights + "".join(ids).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LatentNormalization:
    """Per-channel mean and standard deviation of the structured latent (``slat_normalization`` of a pipeline)."""

    mean: Float[Tensor, "C"]
    std: Float[Tensor, "C"]

    def normalize(self, feats: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        return (feats - self.mean.to(feats)) / self.std.to(feats)

    def denormalize(self, feats: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        return feats * self.std.to(feats) + self.mean.to(feats)

    @classmethod
    def load_or_fit(cls, encoder_path: Path, items: Sequence[LatentItem]) -> "LatentNormalization":
        """Statistics beside the encoder; averages over assets of per-asset mean and mean square, as in TRELLIS.

        Fitted again when the encoder has other weights than the ones the file names.
        """
        path, key = encoder_path.with_name("slat_normalization.json"), _key(encoder_path)
        if path.is_file():
            values = json.loads(path.read_text())
            if values.get("encoder", key) == key:
                return cls(torch.tensor(values["mean"]), torch.tensor(values["std"]))
        mean = torch.stack([feats.mean(0) for feats, _ in items]).mean(0)
        square = torch.stack([(feats**2).mean(0) for feats, _ in items]).mean(0)
        std = (square - mean**2).sqrt()
        partial = path.with_name(f"{path.name}.{os.getpid()}.new")
        partial.write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist(), "encoder": key}, indent=1))
        os.replace(partial, path)
        return cls(mean, std)
