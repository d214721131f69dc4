"""The per-channel normalisation of structured latents, kept beside their encoder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.data.latents import LatentItem, latent_statistics
from mdtdist.files import appear_whole


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
        weights = encoder_path.with_name(encoder_path.name + ".safetensors").read_bytes()
        path, key = encoder_path.with_name("slat_normalization.json"), hashlib.sha256(weights).hexdigest()[:16]
        if path.is_file():
            values = json.loads(path.read_text())
            if values.get("encoder", key) == key:
                return cls(torch.tensor(values["mean"]), torch.tensor(values["std"]))
        mean, std = latent_statistics([feats[0] for feats, _ in items])
        with appear_whole(path) as partial:
            partial.write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist(), "encoder": key}, indent=1))
        return cls(mean, std)
