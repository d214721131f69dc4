"""Tasks: the flow teachers of the structure latent (dense) and of the structured latent (sparse)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler, Guidance, LinearPath, LogitNormalTime, TimeDistribution, UniformTime, randn_like
from mdtdist.models import build, save
from mdtdist.training.conditions import drop_conditions
from mdtdist.training.image_data import ImageBatches, ImageData
from mdtdist.training.latent_batches import DenseBatches, LatentBatch, LatentBatches, SparseBatches, StageData
from mdtdist.training.task import Draw, Task
from mdtdist.training.trellis_data import TrellisBatches, TrellisData

DataSource = StageData | TrellisData | ImageData


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """A flow teacher.

    Attributes:
        data: what it is trained on.
        network: arguments of the official flow class of the stage.
        time: "uniform" or "logit_normal".
        time_mean, time_std: parameters of "logit_normal" (TRELLIS: 1 and 1).
        p_uncond: share of samples trained with the negative condition.
        sigma_min: smallest noise of the path (TRELLIS: 1e-5).
        eval_steps, eval_w: Euler steps and guidance of the samples drawn at every evaluation.
    """

    data: StageData | TrellisData
    network: dict[str, Any]
    time: str = "logit_normal"
    time_mean: float = 1.0
    time_std: float = 1.0
    p_uncond: float = 0.1
    sigma_min: float = 1e-5
    eval_steps: int = 12
    eval_w: float = 1.0

    def __post_init__(self) -> None:
        if self.time not in ("uniform", "logit_normal"):
            raise ValueError(f"time is '{self.time}'; expected uniform or logit_normal")

    @property
    def time_distribution(self) -> TimeDistribution:
        return UniformTime() if self.time == "uniform" else LogitNormalTime(mean=self.time_mean, std=self.time_std)


NETWORK_NAMES = {"structure": "SparseStructureFlowModel", "latent": "SLatFlowModel"}


def make_batches(data: DataSource, *, seed: int, device: str, teacher: Path | None = None) -> LatentBatches:
    """The batches of a stage.

    Args:
        data: where they come from.
        seed: of their order.
        device: torch device.
        teacher: model folder with the image encoder and the decoders, where ``data`` names none.
    """
    if isinstance(data, StageData):
        return (DenseBatches if data.stage == "structure" else SparseBatches)(data, seed=seed, device=device)
    model = data.model or teacher
    if model is None:
        raise InputError(f"nothing says which image encoder goes with {data.name}; add model to its table")
    if isinstance(data, TrellisData):
        return TrellisBatches(data, model=model, seed=seed, device=device)
    return ImageBatches(data, model=model, seed=seed, device=device)


class FlowTask(Task):
    """Flow matching: mean squared error between the network and ``(1 - sigma_min) z - x_0``, mean per sample."""

    def __init__(self, config: FlowConfig, *, seed: int, device: str) -> None:
        self.config = config
        self.batches = make_batches(config.data, seed=seed, device=device)
        self.module: nn.Module = build(NETWORK_NAMES[config.data.stage], **config.network).to(device)
        self.path = LinearPath(sigma_min=config.sigma_min)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        batch = self.batches.train(draw)
        cond = drop_conditions(batch.cond, self.config.p_uncond, generator=draw.generator)
        return {"loss": self._errors(batch, cond, draw.generator).mean()}

    def _errors(self, batch: LatentBatch, cond: Tensor, generator: torch.Generator) -> Float[Tensor, "B"]:
        t = self.config.time_distribution.sample(batch.layout.num_samples, generator=generator).to(batch.x_0.device)
        self.last_draw = {"ids": batch.ids, "t": t}
        z = randn_like(batch.x_0, generator=generator)
        x_t = self.path.sample(batch.x_0, z, batch.layout.expand(t, batch.x_0))
        v = batch.field(self.module, cond)(x_t, t)
        return batch.layout.mean((v.float() - self.path.velocity(batch.x_0, z)) ** 2)

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        errors = []
        for batch, generator in self.batches.validation():
            errors.append(self._errors(batch, batch.cond, generator))
        figures = {"loss": torch.cat(errors).mean().item()}
        sampler = EulerSampler(
            steps=self.config.eval_steps, rescale_t=3.0, guidance=Guidance(w=self.config.eval_w, interval=(0.5, 1.0))
        )
        return figures | self.batches.judge(self.module, sampler, folder, step)

    def export(self, folder: Path) -> None:
        save(self.module, folder / "flow")
