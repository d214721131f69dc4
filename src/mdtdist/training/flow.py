"""Tasks: the flow teachers of the structure latent (dense) and of the structured latent (sparse)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.conditioning import PatchTokenEncoder
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
        image_encoder: arguments of a ``PatchTokenEncoder`` that is trained with the flow and exported beside it; only
            for the structure stage of a prepared folder. None takes a finished encoder, which stays as it is.
        time: "uniform" or "logit_normal".
        time_mean, time_std: parameters of "logit_normal" (TRELLIS: 1 and 1).
        p_uncond: share of samples trained with the negative condition.
        sigma_min: smallest noise of the path (TRELLIS: 1e-5).
        eval_steps, eval_w: Euler steps and guidance of the samples drawn at every evaluation.
    """

    data: StageData | TrellisData
    network: dict[str, Any]
    image_encoder: dict[str, Any] | None = None
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
        if self.image_encoder is not None:
            self._check_image_encoder()

    def _check_image_encoder(self) -> None:
        if not isinstance(self.data, StageData) or self.data.stage != "structure":
            raise InputError(
                f"image_encoder is a table, but data is of source '{self.data.source}' and stage '{self.data.stage}'; "
                "an encoder is trained in the structure stage of source 'prepared' alone, name that one for the others"
            )
        if self.data.image_encoder is not None:
            raise InputError(
                f"image_encoder is a table, for a new encoder, and data.image_encoder is {self.data.image_encoder}; "
                "remove one of them"
            )

    @property
    def time_distribution(self) -> TimeDistribution:
        return UniformTime() if self.time == "uniform" else LogitNormalTime(mean=self.time_mean, std=self.time_std)


NETWORK_NAMES = {"structure": "SparseStructureFlowModel", "latent": "SLatFlowModel"}


def make_batches(
    data: DataSource,
    *,
    seed: int,
    device: str,
    teacher: Path | None = None,
    encoder: PatchTokenEncoder | None = None,
) -> LatentBatches:
    """The batches of a stage.

    Args:
        data: where they come from.
        seed: of their order.
        device: torch device.
        teacher: model folder with the image encoder and the decoders, where ``data`` names none.
        encoder: of images, on that device, if the training moves it; only in the structure stage of a prepared folder.
    """
    if isinstance(data, StageData) and data.stage == "structure":
        return DenseBatches(data, seed=seed, device=device, encoder=encoder)
    if isinstance(data, StageData):
        return SparseBatches(data, seed=seed, device=device)
    model = data.model or teacher
    if model is None:
        raise InputError(f"nothing says which image encoder goes with {data.name}; add model to its table")
    if isinstance(data, TrellisData):
        return TrellisBatches(data, model=model, seed=seed, device=device)
    return ImageBatches(data, model=model, seed=seed, device=device)


class FlowTask(Task):
    """Flow matching: mean squared error between the network and ``(1 - sigma_min) z - x_0``, mean per sample.

    Where the image encoder is trained too, ``module`` holds both, as "flow" and "image_encoder".
    """

    def __init__(self, config: FlowConfig, *, seed: int, device: str) -> None:
        self.config = config
        encoder = None if config.image_encoder is None else _new_encoder(config.image_encoder, config.network, device)
        self.batches = make_batches(config.data, seed=seed, device=device, encoder=encoder)
        flow = build(NETWORK_NAMES[config.data.stage], **config.network).to(device)
        self.module: nn.Module = flow
        if encoder is not None:
            self.module = nn.ModuleDict({"flow": flow, "image_encoder": encoder})
        self.path = LinearPath(sigma_min=config.sigma_min)

    @property
    def flow(self) -> nn.Module:
        """The flow network."""
        return self.module["flow"] if isinstance(self.module, nn.ModuleDict) else self.module

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        batch = self.batches.train(draw)
        cond = drop_conditions(batch.cond, self.config.p_uncond, generator=draw.generator)
        return {"loss": self._errors(batch, cond, draw.generator).mean()}

    def _errors(self, batch: LatentBatch, cond: Tensor, generator: torch.Generator) -> Float[Tensor, "B"]:
        t = self.config.time_distribution.sample(batch.layout.num_samples, generator=generator).to(batch.x_0.device)
        self.last_draw = {"ids": batch.ids, "t": t}
        z = randn_like(batch.x_0, generator=generator)
        x_t = self.path.sample(batch.x_0, z, batch.layout.expand(t, batch.x_0))
        v = batch.field(self.flow, cond)(x_t, t)
        return batch.layout.mean((v.float() - self.path.velocity(batch.x_0, z)) ** 2)

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        errors = []
        for batch, generator in self.batches.validation():
            errors.append(self._errors(batch, batch.cond, generator))
        figures = {"loss": torch.cat(errors).mean().item()}
        sampler = EulerSampler(
            steps=self.config.eval_steps, rescale_t=3.0, guidance=Guidance(w=self.config.eval_w, interval=(0.5, 1.0))
        )
        return figures | self.batches.judge(self.flow, sampler, folder, step)

    def export(self, folder: Path) -> None:
        save(self.flow, folder / "flow")
        if isinstance(self.module, nn.ModuleDict):
            encoder = self.module["image_encoder"]
            assert isinstance(encoder, PatchTokenEncoder)
            encoder.save(folder / "image_encoder")


def _new_encoder(args: dict[str, Any], network: dict[str, Any], device: str) -> PatchTokenEncoder:
    """An untrained encoder that fits the flow."""
    encoder = PatchTokenEncoder.from_args(args, where="flow.image_encoder")
    if encoder.channels != network.get("cond_channels"):
        raise InputError(
            f"flow.image_encoder gives {encoder.channels} channels, but flow.network takes cond_channels = "
            f"{network.get('cond_channels')}; set them equal"
        )
    return encoder.to(device)
