"""Image conditions of a split: projected tokens of every object, view and mirror image in memory, or pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mdtdist.conditioning import ImageTokenEncoder, PatchTokenEncoder, fit_projection
from mdtdist.data import PreparedFolder
from mdtdist.errors import InputError
from mdtdist.models.registry import NetworkFiles
from mdtdist.training.augment import Augmentation
from mdtdist.training.picture_conditions import PictureBank

_FIT_TOKENS = 200_000  # more than 200 per channel of the covariance; about 1 GB while it is fitted


class ConditionSource(Protocol):
    """The image conditions of a split."""

    def draw(
        self, objects: Sequence[int], mirrored: Bool[Tensor, "B"], *, generator: torch.Generator
    ) -> Float[Tensor, "B L C"]:
        """Tokens of one random view of each object, mirrored in x where asked."""
        ...

    def key(self, objects: Sequence[int], mirrored: Bool[Tensor, "B"], *, generator: torch.Generator) -> str:
        """The ``LatentBatch.key`` of what ``draw`` would give with the generator as it is, which is left so."""
        ...


def open_conditions(
    data: PreparedFolder,
    ids: Mapping[str, Sequence[str]],
    encoder: Path | PatchTokenEncoder | None,
    *,
    augmentation: Augmentation | None = None,
    device: str = "cpu",
) -> dict[str, ConditionSource]:
    """The conditions of each split; only the training pictures are changed by ``augmentation``.

    Args:
        data: prepared folder, with the tokens or the renders that the encoder takes.
        ids: objects by split.
        encoder: path of a trained one, see :func:`load_or_fit_image_encoder`; or one on ``device`` that the training
            moves.
        augmentation: for encoders of pictures.
        device: of the encoder.

    Raises:
        InputError: if there is no encoder, or it does not work on pictures and these should be changed.
    """
    if encoder is None:
        raise InputError("nothing says which image encoder is used; add image_encoder, its path without suffix")
    if isinstance(encoder, PatchTokenEncoder):
        return _picture_banks(data, ids, encoder, augmentation, is_trained=True)
    found = load_or_fit_image_encoder(data, encoder)
    if isinstance(found, PatchTokenEncoder):
        frozen = found.to(device).eval().requires_grad_(False)
        return _picture_banks(data, ids, frozen, augmentation, is_trained=False)
    if augmentation is not None:
        raise InputError(f"augment changes pictures, but {encoder} takes tokens that are stored; remove augment")
    return {split: ConditionBank(data, ids[split], found) for split in ids}


def _picture_banks(
    data: PreparedFolder,
    ids: Mapping[str, Sequence[str]],
    encoder: PatchTokenEncoder,
    augmentation: Augmentation | None,
    *,
    is_trained: bool,
) -> dict[str, ConditionSource]:
    changes = {"train": augmentation}
    return {
        split: PictureBank(data, ids[split], encoder, augmentation=changes.get(split), is_trained=is_trained)
        for split in ids
    }


def load_or_fit_image_encoder(data: PreparedFolder, path: Path) -> ImageTokenEncoder | PatchTokenEncoder:
    """The image encoder at ``path`` (without suffix); when absent, a projection is fitted on the training split."""
    files = NetworkFiles.at(path)
    if files.config.is_file():  # written last
        is_patch = files.read_config()["name"] == PatchTokenEncoder.__name__
        return PatchTokenEncoder.load(path) if is_patch else ImageTokenEncoder.load(path)
    ids = data.ids("train")
    total = data.condition_tokens(ids[0]).shape[:3].numel() * len(ids)
    stride = max(1, total // _FIT_TOKENS)
    tokens = torch.cat([data.condition_tokens(sha).flatten(0, 2)[i % stride :: stride] for i, sha in enumerate(ids)])
    encoder = ImageTokenEncoder.with_projection(*fit_projection(tokens.float()))
    encoder.save(path)
    return encoder


class ConditionBank:
    """Tokens ``[objects, views, 2, L, C]`` in float16; the third axis is plain and mirrored in x."""

    def __init__(self, data: PreparedFolder, ids: Sequence[str], encoder: ImageTokenEncoder) -> None:
        self.tokens = torch.stack([encoder.project(data.condition_tokens(sha).float()).half() for sha in ids])

    @property
    def num_views(self) -> int:
        return self.tokens.shape[1]

    @property
    def channels(self) -> int:
        return self.tokens.shape[-1]

    def draw(
        self, objects: Sequence[int], mirrored: Bool[Tensor, "B"], *, generator: torch.Generator
    ) -> Float[Tensor, "B L C"]:
        """One random view of each object."""
        views = torch.randint(self.num_views, (len(objects),), generator=generator)
        return self.tokens[torch.tensor(objects), views, mirrored.long()].float()

    def key(self, objects: Sequence[int], mirrored: Bool[Tensor, "B"], *, generator: torch.Generator) -> str:
        """None: stored tokens are the same whenever they are drawn."""
        return ""


def drop_conditions(
    cond: Float[Tensor, "B L C"], p_uncond: float, *, generator: torch.Generator
) -> Float[Tensor, "B L C"]:
    """Replace a share ``p_uncond`` of the conditions by the negative condition, zeros."""
    keep = torch.rand(len(cond), generator=generator) >= p_uncond
    return cond * keep[:, None, None].to(cond.device)
