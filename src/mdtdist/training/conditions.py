"""Image conditions of a split, in memory: projected tokens of every object, view and mirror image."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mdtdist.conditioning import ImageTokenEncoder, fit_projection
from mdtdist.data import PreparedFolder

_FIT_TOKENS = 200_000  # more than 200 per channel of the covariance; about 1 GB while it is fitted


def load_or_fit_image_encoder(data: PreparedFolder, path: Path) -> ImageTokenEncoder:
    """The image encoder at ``path`` (without suffix); when absent, its projection is fitted on the training split."""
    if path.with_name(path.name + ".json").is_file():  # written last
        return ImageTokenEncoder.load(path)
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


def drop_conditions(
    cond: Float[Tensor, "B L C"], p_uncond: float, *, generator: torch.Generator
) -> Float[Tensor, "B L C"]:
    """Replace a share ``p_uncond`` of the conditions by the negative condition, zeros."""
    keep = torch.rand(len(cond), generator=generator) >= p_uncond
    return cond * keep[:, None, None].to(cond.device)
