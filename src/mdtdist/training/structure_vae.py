"""Task: the sparse-structure VAE, trained to reconstruct occupancy grids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mdtdist.data import PreparedFolder, files
from mdtdist.models import build, save
from mdtdist.models.sparse_structure_vae import sample_posterior
from mdtdist.training.task import Draw, EpochSampler, Task


@dataclass(frozen=True, kw_only=True)
class StructureVAEConfig:
    """Networks and losses of the structure VAE.

    Attributes:
        data: prepared folder.
        encoder: arguments of ``SparseStructureEncoder``.
        decoder: arguments of ``SparseStructureDecoder``.
        kl_weight: weight of the mean KL divergence per latent element (TRELLIS: 1e-3).
        bce_weight: weight of the binary cross entropy beside the dice loss (TRELLIS uses dice alone).
    """

    data: Path
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    kl_weight: float = 1e-3
    bce_weight: float = 1.0


def dice_loss(logits: Float[Tensor, "B ..."], target: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
    """``1 - (2 |p q| + 1) / (|p| + |q| + 1)`` per sample with soft predictions; defined when both are empty."""
    p, q = torch.sigmoid(logits).flatten(1), target.flatten(1)
    return 1 - (2 * (p * q).sum(1) + 1) / (p.sum(1) + q.sum(1) + 1)


def occupancy_iou(a: Bool[Tensor, "B ..."], b: Bool[Tensor, "B ..."]) -> Float[Tensor, "B"]:
    """Intersection over union of occupied voxels, per sample; 1 when both are empty."""
    a, b = a.flatten(1), b.flatten(1)
    union = (a | b).sum(1)
    return torch.where(union > 0, (a & b).sum(1) / union.clamp_min(1), torch.ones_like(union, dtype=torch.float32))


def random_symmetry(grid: Float[Tensor, "B 1 R R R"], generator: torch.Generator) -> Float[Tensor, "B 1 R R R"]:
    """One of the 8 symmetries of the grid that keep Z up, the same for the whole batch."""
    quarter_turns, flip = torch.randint(4, (), generator=generator).item(), torch.randint(2, (), generator=generator)
    grid = torch.rot90(grid, int(quarter_turns), dims=(2, 3))
    return grid.flip(2) if flip else grid


class StructureVAETask(Task):
    """Dice, cross entropy and KL on occupancy grids under random symmetries."""

    module: nn.ModuleDict

    def __init__(self, config: StructureVAEConfig, *, seed: int, device: str) -> None:
        self.config, self.device = config, device
        self.module = nn.ModuleDict(
            {
                "encoder": build("SparseStructureEncoder", **config.encoder),
                "decoder": build("SparseStructureDecoder", **config.decoder),
            }
        ).to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        # Start with a narrow posterior (standard deviation 0.14): the decoder then learns from a clean latent at once.
        encoder: Any = self.module["encoder"]
        nn.init.constant_(encoder.out_layer[-1].bias[config.encoder["latent_channels"] :], -4.0)
        data = PreparedFolder(config.data)
        self.ids = data.ids("train")
        self.train = torch.stack(list(files.in_threads(data.occupancy, self.ids)))
        self.val = torch.stack([data.occupancy(sha) for sha in data.ids("val")])
        self.batches = EpochSampler(len(self.train), seed)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        chosen = self.batches.draw(draw)
        self.last_draw = {"ids": [self.ids[i] for i in chosen]}
        grid = self.train[chosen].to(self.device)[:, None].float()
        grid = random_symmetry(grid, draw.generator)
        mean, logvar = self.module["encoder"](grid)
        mean, logvar = mean.float(), logvar.float().clamp(-30, 20)
        logits = self.module["decoder"](sample_posterior(mean, logvar, generator=draw.generator)).float()
        dice = dice_loss(logits, grid).mean()
        bce = F.binary_cross_entropy_with_logits(logits, grid)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        loss = dice + self.config.bce_weight * bce + self.config.kl_weight * kl
        return {"loss": loss, "dice": dice, "bce": bce, "kl": kl, "latent_std": mean.std()}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        ious = []
        for grids in self.val.split(8):
            mean, _ = self.module["encoder"](grids[:, None].float().to(self.device))
            ious.append(occupancy_iou(self.module["decoder"](mean)[:, 0].cpu() > 0, grids))
        values = torch.cat(ious)
        return {"iou": values.mean().item(), "iou_min": values.min().item()}

    def export(self, folder: Path) -> None:
        """Write both networks with latents rescaled to unit standard deviation per channel (`unit_latents`)."""
        with torch.no_grad():
            means = torch.cat(
                [self.module["encoder"](g[:, None].float().to(self.device))[0] for g in self.train.split(16)]
            )
        unit_latents(self.module["encoder"], self.module["decoder"], means.std(dim=(0, 2, 3, 4)))
        save(self.module["encoder"], folder / "ss_enc")
        save(self.module["decoder"], folder / "ss_dec")


@torch.no_grad()
def unit_latents(encoder: nn.Module, decoder: nn.Module, std: Float[Tensor, "C"]) -> None:
    """Divide the latent by ``std`` per channel inside the two networks; the reconstruction does not change.

    The flow model has no normalisation of the structure latent (TRELLIS neither), so the scale lives in the weights:
    the encoder's mean is divided, its log-variance shifted, the decoder's first convolution multiplied. A channel that
    never varies is left as it is.
    """
    std = torch.where(std > 1e-6, std, 1.0)
    output: Any = encoder.out_layer
    layer: Any = decoder.input_layer
    head, channels = output[-1], len(std)
    head.weight[:channels] /= std[:, None, None, None, None]
    head.bias[:channels] /= std
    head.bias[channels:] -= 2 * std.log()
    layer.weight *= std[None, :, None, None, None]
