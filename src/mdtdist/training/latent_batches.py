"""Batches of latents with image conditions: one interface for the dense structure and the sparse latent stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdtdist.conditioning import PatchTokenEncoder
from mdtdist.data import PreparedFolder
from mdtdist.data.latents import LatentItem, mirror_coords, structure_latents, structured_latents
from mdtdist.errors import InputError
from mdtdist.flow import DenseLayout, EulerSampler, Layout, PackedLayout, Sampler, VelocityField, randn_like
from mdtdist.models import load, network_args, sparse_velocity_field, velocity_field
from mdtdist.sparse import pack_coords
from mdtdist.training.augment import Augmentation
from mdtdist.training.conditions import open_conditions
from mdtdist.training.judges import judge_structures
from mdtdist.training.pictures import save_latent_grid
from mdtdist.training.structured_latents import LatentNormalization
from mdtdist.training.task import Draw, EpochSampler, step_generator

VALIDATION_DRAWS = 4  # noises and times per validation object; the same ones at every evaluation


@dataclass(frozen=True, kw_only=True)
class StageData:
    """Where the latents and conditions of a stage come from: a folder that ``mdtdist prepare`` made.

    Attributes:
        source: "prepared".
        stage: "structure" or "latent".
        prepared: prepared folder.
        image_encoder: path of the image encoder without suffix. A ``PatchTokenEncoder`` takes the pictures of the
            folder; an ``ImageTokenEncoder`` its stored tokens, and is fitted and written there when absent. None only
            where the encoder is trained with the flow.
        encoder: path of the VAE encoder of the stage, without suffix.
        decoder: path of the VAE decoder of the stage, without suffix, for judging samples.
        time_scale: network time at pure noise.
        max_voxels: objects with more voxels are left out, as TRELLIS does; only in the latent stage.
        augment: how the training pictures are changed; only for an encoder that takes pictures.
    """

    source: Literal["prepared"] = "prepared"
    stage: Literal["structure", "latent"]
    prepared: Path
    image_encoder: Path | None = None
    encoder: Path
    decoder: Path
    time_scale: float = 1000.0
    max_voxels: int = 32768
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        if self.stage not in ("structure", "latent"):
            raise ValueError(f"stage is '{self.stage}'; expected structure or latent")
        if self.max_voxels < 1:
            raise ValueError(f"max_voxels is {self.max_voxels}; expected at least 1")

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.prepared)


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """Data latents with their conditions; ``coords`` only for the sparse stage.

    ``key`` names what the conditions were made of where they are computed anew for every batch, so that rounding does
    not make them others. ``ids`` names the objects, where the data has names.
    """

    x_0: Float[Tensor, "..."]
    cond: Float[Tensor, "B L C"]
    layout: Layout
    time_scale: float
    coords: Int[Tensor, "N 4"] | None = None
    key: str = ""
    ids: tuple[str, ...] = ()

    def field(self, network: nn.Module, cond: Float[Tensor, "B L C"] | None = None) -> VelocityField:
        """The velocity field of ``network`` on this batch, under its own condition unless another is given."""
        cond = self.cond if cond is None else cond
        if self.coords is None:
            return velocity_field(network, cond, time_scale=self.time_scale)
        return sparse_velocity_field(network, cond, self.coords, time_scale=self.time_scale)

    def sample(self, network: nn.Module, sampler: Sampler, generator: torch.Generator) -> Tensor:
        """Latents sampled under the conditions of the batch."""
        noise = randn_like(self.x_0, generator=generator)
        negative = self.field(network, torch.zeros_like(self.cond))
        num_samples = self.layout.num_samples
        field = self.field(network)
        return sampler.sample(field, noise, num_samples=num_samples, negative=negative, generator=generator).x


@runtime_checkable
class LatentBatches(Protocol):
    """The training and validation data of a stage, and a judge of samples."""

    def train(self, draw: Draw) -> LatentBatch: ...

    def validation(self) -> Iterator[tuple[LatentBatch, torch.Generator]]: ...

    def judge(self, network: nn.Module, sampler: EulerSampler, folder: Path, step: int) -> dict[str, float]:
        """Sample the validation objects, write a picture, return figures."""
        ...


class DenseBatches:
    """Structure latents; objects and images are mirrored in x half of the time.

    Args:
        data: where they come from.
        seed: of their order.
        device: torch device.
        encoder: of images, on that device, if it is trained; None takes the one that ``data`` names.
    """

    def __init__(self, data: StageData, *, seed: int, device: str, encoder: PatchTokenEncoder | None = None) -> None:
        self.data, self.device = data, device
        self.prepared = PreparedFolder(data.prepared)
        self.ids = ids = {split: self.prepared.ids(split) for split in ("train", "val")}
        self.conditions = open_conditions(
            self.prepared, ids, encoder or data.image_encoder, augmentation=data.augment, device=device
        )
        self.latents = {
            split: structure_latents(self.prepared, ids[split], data.encoder, device=device) for split in ids
        }
        self.truth = torch.stack([self.prepared.occupancy(sha) for sha in ids["val"]])
        self.decoder = load(data.decoder, device=device)
        self.epochs = EpochSampler(len(ids["train"]), seed)

    def train(self, draw: Draw) -> LatentBatch:
        objects = self.epochs.draw(draw)
        mirrored = torch.rand(len(objects), generator=draw.generator) < 0.5
        key = self.conditions["train"].key(objects, mirrored, generator=draw.generator)
        cond = self.conditions["train"].draw(objects, mirrored, generator=draw.generator)
        batch = self._batch(self.latents["train"][torch.tensor(objects), mirrored.long()], cond)
        return replace(batch, key=key, ids=tuple(self.ids["train"][i] for i in objects))

    def validation(self) -> Iterator[tuple[LatentBatch, torch.Generator]]:
        latents = self.latents["val"][:, 0]
        for draw in range(VALIDATION_DRAWS):
            generator = step_generator(99, draw)
            plain = torch.zeros(len(latents), dtype=torch.bool)
            cond = self.conditions["val"].draw(range(len(latents)), plain, generator=generator)
            yield self._batch(latents, cond), generator

    def judge(self, network: nn.Module, sampler: EulerSampler, folder: Path, step: int) -> dict[str, float]:
        batch, generator = next(iter(self.validation()))
        logits = self.decoder(batch.sample(network, sampler, generator))[:, 0].cpu()
        return judge_structures(folder / f"samples_{step:07d}.png", logits > 0, self.truth)

    def _batch(self, x_0: Tensor, cond: Tensor) -> LatentBatch:
        return LatentBatch(
            x_0=x_0.to(self.device),
            cond=cond.to(self.device),
            layout=DenseLayout(len(x_0)),
            time_scale=self.data.time_scale,
        )


class SparseBatches:
    """Structured latents, normalised per channel, on the true voxels; half of the time all is mirrored in x."""

    def __init__(self, data: StageData, *, seed: int, device: str) -> None:
        self.data, self.device = data, device
        self.prepared = PreparedFolder(data.prepared)
        ids = {split: self.prepared.ids(split) for split in ("train", "val")}
        items = {split: structured_latents(self.prepared, ids[split], data.encoder, device=device) for split in ids}
        # Over all objects: what normalises the latents of an encoder must not hang on a limit of one training.
        self.normalization = LatentNormalization.load_or_fit(data.encoder, items["train"])
        kept = {split: _small_enough(items[split], data.max_voxels, split) for split in ids}
        self.items = {split: [items[split][i] for i in kept[split]] for split in ids}
        self.ids = {split: [ids[split][i] for i in kept[split]] for split in ids}
        self.conditions = open_conditions(
            self.prepared, self.ids, data.image_encoder, augmentation=data.augment, device=device
        )
        self.decoder = load(data.decoder, device=device)
        self.resolution = int(network_args(self.decoder)["resolution"])
        self.epochs = EpochSampler(len(self.items["train"]), seed)

    def train(self, draw: Draw) -> LatentBatch:
        objects = self.epochs.batch(draw.position, draw.batch_size)
        shards = balance([self.items["train"][i][0].shape[1] for i in objects], draw.num_shards)
        objects = [objects[i] for i in shards[draw.shard]]
        mirrored = torch.rand(len(objects), generator=draw.generator) < 0.5
        key = self.conditions["train"].key(objects, mirrored, generator=draw.generator)
        cond = self.conditions["train"].draw(objects, mirrored, generator=draw.generator)
        batch = self._batch("train", objects, mirrored, cond)
        return replace(batch, key=key, ids=tuple(self.ids["train"][i] for i in objects))

    def validation(self) -> Iterator[tuple[LatentBatch, torch.Generator]]:
        for draw in range(VALIDATION_DRAWS):
            generator = step_generator(99, draw)
            for objects in torch.arange(len(self.items["val"])).split(8):
                plain = torch.zeros(len(objects), dtype=torch.bool)
                cond = self.conditions["val"].draw(objects.tolist(), plain, generator=generator)
                yield self._batch("val", objects.tolist(), plain, cond), generator

    def judge(self, network: nn.Module, sampler: EulerSampler, folder: Path, step: int) -> dict[str, float]:
        batch, generator = next(iter(self.validation()))
        assert batch.coords is not None
        sampled = batch.sample(network, sampler, generator)
        figures = save_latent_grid(
            folder / f"samples_{step:07d}.png",
            self.decoder,
            batch.coords,
            [self.normalization.denormalize(feats) for feats in (batch.x_0, sampled)],
        )
        return figures

    def _batch(self, split: str, objects: list[int], mirrored: Tensor, cond: Tensor) -> LatentBatch:
        feats, coords = [], []
        for i, flip in zip(objects, mirrored.tolist(), strict=True):
            both, voxels = self.items[split][i]
            feats.append(both[int(flip)])
            coords.append(mirror_coords(voxels, self.resolution) if flip else voxels)
        return LatentBatch(
            x_0=self.normalization.normalize(torch.cat(feats)).to(self.device),
            cond=cond.to(self.device),
            layout=PackedLayout(tuple(len(part) for part in feats)),
            time_scale=self.data.time_scale,
            coords=pack_coords(coords).to(self.device),
        )


def balance(lengths: Sequence[int], num_shards: int) -> list[list[int]]:
    """Divide samples so that shards have equally many of them and about equally many tokens.

    The longest are dealt first, each to the shard with the fewest tokens that still has a place, the first of equals.

    Args:
        lengths: tokens of each sample; as many as ``num_shards`` divides.
        num_shards: at least 1.

    Returns:
        Indices of the samples of each shard, rising.

    Raises:
        ValueError: if the samples cannot be divided evenly.
    """
    if num_shards < 1 or len(lengths) % num_shards:
        raise ValueError(f"{len(lengths)} samples cannot be divided evenly into {num_shards} shards")
    shards: list[list[int]] = [[] for _ in range(num_shards)]
    tokens = [0] * num_shards
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        open_shards = [k for k in range(num_shards) if len(shards[k]) < len(lengths) // num_shards]
        lightest = min(open_shards, key=lambda k: tokens[k])
        shards[lightest].append(i)
        tokens[lightest] += lengths[i]
    return [sorted(shard) for shard in shards]


def _small_enough(items: list[LatentItem], max_voxels: int, split: str) -> list[int]:
    """Indices of the objects with at most ``max_voxels`` voxels."""
    kept = [i for i, (feats, _) in enumerate(items) if feats.shape[1] <= max_voxels]
    if not kept:
        least = min(feats.shape[1] for feats, _ in items)
        raise InputError(f"max_voxels is {max_voxels}, but every object of split {split} has {least} or more; raise it")
    return kept
