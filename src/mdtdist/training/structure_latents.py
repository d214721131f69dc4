"""Structure latents of a split, plain and mirrored, encoded once and kept on disk."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdtdist.data import PreparedFolder
from mdtdist.models import load


def mirror(grid: Tensor) -> Tensor:
    """Mirror grids ``[..., R, R, R]`` in x."""
    return grid.flip(-3)


@torch.no_grad()
def structure_latents(
    data: PreparedFolder, ids: Sequence[str], encoder_path: Path, *, device: str
) -> Float[Tensor, "objects 2 C r r r"]:
    """Posterior means of every object and its mirror image.

    The cache beside the encoder is keyed by the encoder's weights and the ids, so it can never be stale.
    """
    weights = encoder_path.with_name(encoder_path.name + ".safetensors").read_bytes()
    key = hashlib.sha256(weights + "".join(ids).encode()).hexdigest()[:16]
    cache = encoder_path.with_name(f"latents_{key}.safetensors")
    if cache.is_file():
        return load_file(cache)["mean"].float()
    encoder = load(encoder_path, device=device)
    grids: Bool[Tensor, "objects R R R"] = torch.stack([data.occupancy(sha) for sha in ids])
    pairs = torch.stack([grids, mirror(grids)], dim=1).flatten(0, 1)
    means = torch.cat([encoder(part[:, None].float().to(device))[0].cpu() for part in pairs.split(16)])
    means = means.unflatten(0, (len(ids), 2))
    partial = f"{cache}.{os.getpid()}.new"  # two runs may meet here
    save_file({"mean": means.half().contiguous()}, partial)
    os.replace(partial, cache)
    return means.half().float()
