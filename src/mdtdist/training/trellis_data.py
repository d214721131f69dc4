"""Latents and condition views in the folders of TRELLIS's own data, as they were made for training its flows.

A root holds ``metadata.csv``, ``renders_cond/<sha256>/`` (``transforms.json`` and RGBA pictures) and, by stage,
``ss_latents/<model>/<sha256>.npz`` (``mean`` [C, r, r, r]) or ``latents/<model>/<sha256>.npz`` (``feats`` [N, C], not
normalised, and ``coords`` [N, 3]). Nothing but the table is kept in memory.
"""

import csv
import logging
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.flow import DenseLayout, PackedLayout, Sampler
from mdtdist.sparse import pack_coords
from mdtdist.training.digests import digest
from mdtdist.training.judges import judge_structures
from mdtdist.training.latent_batches import VALIDATION_DRAWS, LatentBatch, balance
from mdtdist.training.pictures import save_latent_grid
from mdtdist.training.structured_latents import LatentNormalization
from mdtdist.training.task import Draw, EpochSampler, step_generator
from mdtdist.training.teachers import open_model
from mdtdist.training.view_conditions import (
    ViewEncoder,
    last_by_hash,
    pick,
    read_render,
    split_by_hash,
    view_paths,
)

log = logging.getLogger(__name__)

_FOLDERS = {"structure": ("ss_latents", "ss_latent_"), "latent": ("latents", "latent_")}
_VALIDATION_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class TrellisData:
    """Data in TRELLIS's layout.

    Attributes:
        source: "trellis".
        stage: "structure" or "latent".
        roots: folders, one per source of objects.
        model: model folder that has the image encoder, the decoders and the normalisation; None for the teacher's.
        latent_model: which latents, a folder below ``ss_latents`` or ``latents``; None where there is one only.
        min_aesthetic_score: objects below are left out (TRELLIS: 4.5); a table without scores is taken whole.
        max_voxels: objects with more voxels are left out; only in the latent stage.
        num_validation: at most so many of the objects that are held out are used. Held out are those whose ``split``
            is "val" where the table says so, else those whose hash falls into the last hundredth.
        readers: threads that read files.
    """

    source: Literal["trellis"] = "trellis"
    stage: Literal["structure", "latent"]
    roots: tuple[Path, ...]
    model: Path | None = None
    latent_model: str | None = None
    min_aesthetic_score: float = 4.5
    max_voxels: int = 32768
    num_validation: int = 64
    readers: int = 8

    def __post_init__(self) -> None:
        if not self.roots:
            raise ValueError("roots is empty; expected at least one folder")
        if min(self.max_voxels, self.num_validation, self.readers) < 1:
            numbers = f"{self.max_voxels}, {self.num_validation} and {self.readers}"
            raise ValueError(f"max_voxels, num_validation and readers are {numbers}; expected at least 1 each")

    @property
    def name(self) -> str:
        """For messages."""
        return " and ".join(str(root) for root in self.roots)


@dataclass(frozen=True, kw_only=True)
class TrellisObject:
    """One object of the table: where its files are, and in the latent stage how many voxels it has."""

    sha256: str
    latent: Path
    views: Path
    num_voxels: int = 0


class TrellisBatches:
    """Batches of objects in the order of the epochs, each with one random view.

    Raises:
        InputError: if no object can be used, or a file that the table promises is missing or damaged.
    """

    def __init__(self, data: TrellisData, *, model: Path, seed: int, device: str) -> None:
        self.data, self.device = data, device
        self.model = open_model(model, device=device)
        self.objects = find_objects(data)
        self.normalization = LatentNormalization(
            torch.tensor(self.model.config.slat_mean), torch.tensor(self.model.config.slat_std)
        )
        self.encoder = ViewEncoder(self.model, readers=data.readers)
        self.epochs = EpochSampler(len(self.objects["train"]), seed)

    def train(self, draw: Draw) -> LatentBatch:
        chosen = [self.objects["train"][i] for i in self.epochs.batch(draw.position, draw.batch_size)]
        if self.data.stage == "structure":
            return self._batch(draw.part(chosen), draw.generator)
        shards = balance([item.num_voxels for item in chosen], draw.num_shards)
        return self._batch([chosen[i] for i in shards[draw.shard]], draw.generator)

    def validation(self) -> Iterator[tuple[LatentBatch, torch.Generator]]:
        held = self.objects["val"]
        for draw in range(VALIDATION_DRAWS):
            for start in range(0, len(held), _VALIDATION_BATCH):
                generator = step_generator(99, draw * len(held) + start)
                yield self._batch(held[start : start + _VALIDATION_BATCH], generator), generator

    @torch.no_grad()
    def judge(self, network: torch.nn.Module, sampler: Sampler, folder: Path, step: int) -> dict[str, float]:
        batch, generator = next(iter(self.validation()))
        sampled, path = batch.sample(network, sampler, generator), folder / f"samples_{step:07d}.png"
        if batch.coords is None:
            occupied, truth = ((self.model.decode_structure(x) > 0).cpu() for x in (sampled, batch.x_0))
            return judge_structures(path, occupied, truth)
        if "slat_decoder_gs" not in self.model.config.models:
            return {}
        rows = [self.normalization.denormalize(feats) for feats in (batch.x_0, sampled)]
        return save_latent_grid(path, self.model.network("slat_decoder_gs"), batch.coords, rows)

    def _batch(self, objects: Sequence[TrellisObject], generator: torch.Generator) -> LatentBatch:
        positions = torch.rand(len(objects), generator=generator).tolist()
        size = self.model.encoder_source.image_size

        def crop(item: tuple[TrellisObject, float]) -> Float[Tensor, "4 S S"]:
            return read_render(pick(view_paths(item[0].views), item[1]), size=size)

        cond = self.encoder.encode(self.encoder.read(crop, zip(objects, positions, strict=True)))
        paths = [item.latent for item in objects]
        if self.data.stage == "structure":
            latents = self.encoder.read(read_structure, paths)
            _check_same([str(tuple(latent.shape)) for latent in latents], paths)
            x_0, coords = torch.stack(latents), None
            layout: DenseLayout | PackedLayout = DenseLayout(len(x_0))
        else:
            items = self.encoder.read(read_structured, paths)
            channels = [len(self.normalization.mean), *(feats.shape[1] for feats, _ in items)]
            _check_same([f"{number} channels" for number in channels], [self.model.model_id, *paths])
            x_0 = self.normalization.normalize(torch.cat([feats for feats, _ in items]))
            coords = pack_coords([voxels for _, voxels in items]).to(self.device)
            layout = PackedLayout(tuple(len(feats) for feats, _ in items))
        return LatentBatch(
            x_0=x_0.to(self.device),
            cond=cond.tokens,
            layout=layout,
            time_scale=self.model.config.time_scale,
            coords=coords,
            key=digest(*cond.keys),
            ids=tuple(item.sha256 for item in objects),
        )


def read_structure(path: Path) -> Float[Tensor, "C r r r"]:
    """The posterior mean of one structure."""
    return torch.from_numpy(_arrays(path, "mean")["mean"]).float()


def read_structured(path: Path) -> tuple[Float[Tensor, "_ C"], Int[Tensor, "_ 3"]]:
    """The posterior mean of one structured latent, not normalised, and its voxels; every item has its own N."""
    arrays = _arrays(path, "feats", "coords")
    return torch.from_numpy(arrays["feats"]).float(), torch.from_numpy(arrays["coords"]).int()


def _arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in names}
    except FileNotFoundError as err:
        raise InputError(
            f"metadata.csv lists {path.stem}, but {path} is missing; encode it, or mend the table"
        ) from err
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        expected = " and ".join(names)
        raise InputError(f"{path} holds no latent ({err}); expected the arrays {expected}: encode it again") from err


def _check_same(shapes: Sequence[str], owners: Sequence[Path | str]) -> None:
    for shape, owner in zip(shapes, owners, strict=True):
        if shape != shapes[0]:
            raise InputError(
                f"{owner} has latents of {shape}, {owners[0]} of {shapes[0]}; expected those of one encoder"
            )


# ------------------------------------------------------------------------------------------------------- the table


def find_objects(data: TrellisData) -> dict[str, list[TrellisObject]]:
    """The usable objects of the splits "train" and "val", neither empty.

    Raises:
        InputError: if there is none; says how many were left out for which reason.
    """
    latent_model = data.latent_model or _only_latent_model(data)
    objects: dict[str, TrellisObject] = {}
    splits: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for root in data.roots:
        for row in read_table(root):
            found = _object_of(row, root, data, latent_model)
            if isinstance(found, str):
                left_out[found] += 1
            else:
                objects[found.sha256] = found
                splits[found.sha256] = row.get("split") or "train"
    if not objects:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise InputError(f"{data.name} has no object for the {data.stage} stage: {reasons or 'the tables are empty'}")
    log.info("%s: %d objects, left out: %s", data.name, len(objects), dict(left_out))
    train, held = divide(splits)
    if not train:
        raise InputError(f"{data.name} has no object for the {data.stage} stage in the split train of its table")
    return {"train": [objects[sha] for sha in train], "val": [objects[sha] for sha in held[: data.num_validation]]}


def divide(splits: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Names for training and for validation, from name -> split; see ``TrellisData.num_validation``."""
    train = [name for name, split in splits.items() if split == "train"]
    held = [name for name, split in splits.items() if split == "val"]
    if held or not train:
        return train, held
    train, held = split_by_hash(train)
    if not held or not train:
        names = train or held
        held = [last_by_hash(names)]
        train = [name for name in names if name not in held] or held  # a single object does both
    return train, held


def read_table(root: Path) -> Iterator[dict[str, str]]:
    """The rows of ``metadata.csv``.

    Raises:
        InputError: if it is missing or has no column ``sha256``.
    """
    path = root / "metadata.csv"
    csv.field_size_limit(2**31 - 1)  # lists of captions can be long
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if "sha256" not in (reader.fieldnames or ()):
                raise InputError(f"{path} has no column sha256; expected the table of a TRELLIS data set")
            yield from reader
    except OSError as err:
        raise InputError(f"{path} cannot be read ({err.strerror}); expected the root of a TRELLIS data set") from err


def _object_of(row: Mapping[str, str], root: Path, data: TrellisData, latent_model: str) -> TrellisObject | str:
    """The object of a row, or why it is left out."""
    folder, prefix = _FOLDERS[data.stage]
    latent, views = root / folder / latent_model / f"{row['sha256']}.npz", root / "renders_cond" / row["sha256"]
    if not _flag(row, prefix + latent_model, latent):
        return f"without latents in {folder}/{latent_model}"
    if not _flag(row, "cond_rendered", views / "transforms.json"):
        return "without views in renders_cond"
    if "aesthetic_score" in row and not _number(row["aesthetic_score"]) >= data.min_aesthetic_score:
        return f"with an aesthetic score below {data.min_aesthetic_score}"
    num_voxels = _num_voxels(row, latent) if data.stage == "latent" else 0
    if num_voxels > data.max_voxels:
        return f"with more than max_voxels = {data.max_voxels} voxels"
    return TrellisObject(sha256=row["sha256"], latent=latent, views=views, num_voxels=num_voxels)


def _flag(row: Mapping[str, str], column: str, path: Path) -> bool:
    """What the table says; whether the file is there where the table says nothing."""
    return row[column].strip().lower() in ("true", "1", "1.0") if row.get(column) is not None else path.is_file()


def _number(text: str) -> float:
    """NaN, which is below everything, for an empty cell."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _num_voxels(row: Mapping[str, str], latent: Path) -> int:
    """What the table says; the length of the file where the table says nothing."""
    return int(float(row["num_voxels"])) if row.get("num_voxels") else len(_arrays(latent, "coords")["coords"])


def _only_latent_model(data: TrellisData) -> str:
    folder = _FOLDERS[data.stage][0]
    names = sorted({path.name for root in data.roots for path in root.glob(f"{folder}/*") if path.is_dir()})
    if not names:
        raise InputError(
            f"{data.name} has no latents for the {data.stage} stage of the teacher: {folder}/<model>/<sha256>.npz is "
            "missing; encode the objects first"
        )
    if len(names) > 1:
        raise InputError(f"{data.name} has latents of {', '.join(names)} in {folder}; name one as latent_model")
    return names[0]
