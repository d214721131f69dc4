"""Distillation without 3D data: conditions from images alone, voxels from a structure flow, latents from nowhere.

What stands in for the latents are samples of the teacher (``distil.trajectories`` with ``as_data``); the batches here
have zeros in their place, which give the shape.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.conditioning.image import list_images
from mdtdist.errors import InputError
from mdtdist.flow import DenseLayout, PackedLayout, Sampler
from mdtdist.pipelines.config import flow_role
from mdtdist.sparse import pack_coords
from mdtdist.training.digests import digest
from mdtdist.training.judges import judge_structures
from mdtdist.training.latent_batches import VALIDATION_DRAWS, LatentBatch
from mdtdist.training.pictures import save_latent_grid
from mdtdist.training.structure_source import StructureSource
from mdtdist.training.structured_latents import LatentNormalization
from mdtdist.training.task import Draw, EpochSampler, step_generator
from mdtdist.training.teachers import open_model
from mdtdist.training.trellis_data import divide, read_table
from mdtdist.training.view_conditions import Conditions, ViewEncoder, pick, split_by_hash, view_paths

_VALIDATION_BATCH = 8
_MAX_VALIDATION = 64


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images of single objects.

    Attributes:
        source: "images".
        stage: "structure" or "latent".
        images: a folder of pictures; or a data set, TRELLIS's or our own, of which the condition views are used and
            nothing else.
        model: model folder that has the image encoder and the decoders; None for the teacher's.
        structure: only in the latent stage, the structure student whose voxels are used: a checkpoint without suffix,
            a file, or a model folder; None for the teacher's structure flow.
        structure_steps: Euler steps of the structure flow; None for what its model says, which is 1 for a student.
        structure_guidance: weight of its guidance; None for what its model says, which is 0 for a student.
        num_structures: structures per image, from different noises.
        max_voxels: structures with more voxels are drawn again.
        cache: folder in which structures are kept for later runs; None keeps them in memory.
        background: how the object of an opaque picture is found, see ``load_image``.
        readers: threads that read pictures.
    """

    source: Literal["images"] = "images"
    stage: Literal["structure", "latent"]
    images: Path
    model: Path | None = None
    structure: Path | None = None
    structure_steps: int | None = None
    structure_guidance: float | None = None
    num_structures: int = 1
    max_voxels: int = 32768
    cache: Path | None = None
    background: str = "border"
    readers: int = 8

    def __post_init__(self) -> None:
        if min(self.num_structures, self.max_voxels, self.readers) < 1:
            numbers = f"{self.num_structures}, {self.max_voxels} and {self.readers}"
            raise ValueError(f"num_structures, max_voxels and readers are {numbers}; expected at least 1 each")
        if self.stage == "structure" and self.structure is not None:
            raise ValueError(f"structure is {self.structure}, but the stage is structure; it is for the latent stage")

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.images)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One object that there are pictures of: a file, or a folder of views."""

    name: str
    path: Path

    def views(self) -> list[Path]:
        return view_paths(self.path) if self.path.is_dir() else [self.path]


class ImageBatches:
    """Batches of images in the order of the epochs; ``x_0`` is zero.

    Images whose hash falls into the last hundredth validate. Where there are none, all do, under noises that are not
    those of the training.

    Raises:
        InputError: if there are no images, or one of them cannot be used.
    """

    def __init__(self, data: ImageData, *, model: Path, seed: int, device: str) -> None:
        self.data, self.device = data, device
        self.model = open_model(model, device=device, student=data.structure)
        self.subjects = find_subjects(data.images)
        self.encoder = ViewEncoder(self.model, readers=data.readers)
        self.epochs = EpochSampler(len(self.subjects["train"]), seed)
        self.structures = self._structure_source() if data.stage == "latent" else None

    def _structure_source(self) -> StructureSource:
        return StructureSource(
            self.model,
            flows="teacher" if self.data.structure is None else "student",
            steps=self.data.structure_steps,
            guidance=self.data.structure_guidance,
            max_voxels=self.data.max_voxels,
            cache=self.data.cache,
        )

    def train(self, draw: Draw) -> LatentBatch:
        chosen = self.epochs.draw(draw)
        variants = torch.randint(self.data.num_structures, (len(chosen),), generator=draw.generator).tolist()
        return self._batch([self.subjects["train"][i] for i in chosen], variants, draw.generator)

    def validation(self) -> Iterator[tuple[LatentBatch, torch.Generator]]:
        held = self.subjects["val"]
        for draw in range(VALIDATION_DRAWS):
            for start in range(0, len(held), _VALIDATION_BATCH):
                generator = step_generator(99, draw * len(held) + start)
                some = held[start : start + _VALIDATION_BATCH]
                # Structures that no training batch has.
                yield self._batch(some, [self.data.num_structures + draw] * len(some), generator), generator

    @torch.no_grad()
    def judge(self, network: torch.nn.Module, sampler: Sampler, folder: Path, step: int) -> dict[str, float]:
        """A picture; there is no truth to measure against."""
        batch, generator = next(iter(self.validation()))
        sampled, path = batch.sample(network, sampler, generator), folder / f"samples_{step:07d}.png"
        if batch.coords is None:
            return judge_structures(path, (self.model.decode_structure(sampled) > 0).cpu())
        if "slat_decoder_gs" in self.model.config.models:
            config = self.model.config
            normalization = LatentNormalization(torch.tensor(config.slat_mean), torch.tensor(config.slat_std))
            decoder = self.model.network("slat_decoder_gs")
            save_latent_grid(path, decoder, batch.coords, [normalization.denormalize(sampled)])
        return {}

    def _batch(self, subjects: Sequence[Subject], variants: list[int], generator: torch.Generator) -> LatentBatch:
        positions = torch.rand(len(subjects), generator=generator).tolist()
        paths = [pick(subject.views(), position) for subject, position in zip(subjects, positions, strict=True)]
        prepare = partial(self.model.prepare, background=self.data.background)
        cond = self.encoder.encode(self.encoder.read(prepare, paths))
        x_0, layout, coords = (
            self._structure_latents(len(paths))
            if self.structures is None
            else self._latents(self.structures, cond, variants, [str(path) for path in paths])
        )
        return LatentBatch(
            x_0=x_0,
            cond=cond.tokens,
            layout=layout,
            time_scale=self.model.config.time_scale,
            coords=coords,
            key=digest(*cond.keys),
            ids=tuple(subject.name for subject in subjects),
        )

    def _structure_latents(self, num: int) -> tuple[Float[Tensor, "B C r r r"], DenseLayout, None]:
        args = self.model.config.files(flow_role("structure", "teacher")).read_config()["args"]
        shape = (num, args["in_channels"], *[args["resolution"]] * 3)
        return torch.zeros(shape, device=self.device), DenseLayout(num), None

    def _latents(
        self, structures: StructureSource, cond: Conditions, variants: list[int], names: list[str]
    ) -> tuple[Float[Tensor, "N C"], PackedLayout, Tensor]:
        voxels = structures.voxels(cond, variants, names)
        coords = pack_coords(voxels).to(self.device)
        channels = len(self.model.config.slat_mean)
        layout = PackedLayout(tuple(len(part) for part in voxels))
        return torch.zeros(len(coords), channels, device=self.device), layout, coords


def find_subjects(images: Path) -> dict[str, list[Subject]]:
    """What there are pictures of, for the splits "train" and "val".

    Raises:
        InputError: if the folder is missing, or has no pictures.
    """
    if not images.is_dir():
        raise InputError(f"images is {images}, which is no folder; expected one of pictures, or a data set")
    if not (images / "metadata.csv").is_file():
        subjects = {path.name: Subject(name=path.name, path=path) for path in list_images(images)}
        train, held = split_by_hash(list(subjects))
        train = train or held
    else:
        rows = [row for row in read_table(images) if row.get("status", "ok") == "ok"]
        folder = next((name for name in ("renders_cond", "renders") if (images / name).is_dir()), None)
        if folder is None:
            raise InputError(f"{images} has a metadata.csv but no views in renders_cond or renders; render them first")
        places = {row["sha256"]: images / folder / row["sha256"] for row in rows}
        rendered = [row for row in rows if (places[row["sha256"]] / "transforms.json").is_file()]
        subjects = {row["sha256"]: Subject(name=row["sha256"], path=places[row["sha256"]]) for row in rendered}
        train, held = divide({row["sha256"]: row.get("split") or "train" for row in rendered})
        if not train:
            raise InputError(f"{images} has no training objects with views in {folder} among {len(rows)} usable ones")
    held = held or train
    return {"train": [subjects[n] for n in train], "val": [subjects[n] for n in held[:_MAX_VALIDATION]]}
