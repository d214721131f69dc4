"""Image conditions of a split, computed when they are drawn: pictures in memory, changed at random, then encoded."""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from mdtdist.conditioning import PatchTokenEncoder, crop_to_object
from mdtdist.conditioning.patch_tokens import INPUT_SIZE
from mdtdist.data import PreparedFolder, files
from mdtdist.errors import InputError
from mdtdist.training.augment import Augmentation, augment
from mdtdist.training.digests import digest, module_digest
from mdtdist.training.view_conditions import view_paths

log = logging.getLogger(__name__)

_CHUNK = 128  # pictures that the encoder takes at once
_REPORT = 10.0  # seconds between reports


class PictureBank:
    """The condition views of a split as 8-bit crops in memory, and the encoder that makes tokens of those drawn.

    Args:
        data: prepared folder, with renders.
        ids: objects of the split.
        encoder: on the device of the training.
        augmentation: how drawn pictures are changed before they are encoded; None leaves them as they are.
        is_trained: whether the training moves the encoder, whose tokens then carry gradients and are computed in the
            precision of the training. Those of a frozen one are float32 throughout, as in use.

    Attributes:
        pictures: [objects, views, 4, 224, 224], premultiplied.

    Raises:
        InputError: if views are missing or damaged, or objects have different numbers of them.
    """

    def __init__(
        self,
        data: PreparedFolder,
        ids: Sequence[str],
        encoder: PatchTokenEncoder,
        *,
        augmentation: Augmentation | None = None,
        is_trained: bool = False,
    ) -> None:
        self.encoder, self.augmentation, self.is_trained = encoder, augmentation, is_trained
        self.pictures, self._names = read_pictures(data, ids)

    @property
    def num_views(self) -> int:
        return self.pictures.shape[1]

    @property
    def channels(self) -> int:
        return self.encoder.channels

    def draw(
        self, objects: Sequence[int], mirrored: Bool[Tensor, "B"], *, generator: torch.Generator
    ) -> Float[Tensor, "B 196 C"]:
        """One random view of each object, mirrored where asked, on the device of the encoder."""
        with torch.no_grad(), torch.autocast(self.encoder.pixels.device.type, enabled=False):
            crops = self._crops(objects, mirrored, generator)
            if not self.is_trained:
                return self._encode(crops)
        return self._encode(crops)

    def key(self, objects: Sequence[int], mirrored: Bool[Tensor, "B"], *, generator: torch.Generator) -> str:
        """Names what ``draw`` would give now: encoder, pictures, how they are changed, and the state of the generator.

        The tokens themselves would not do: with another number of threads they are rounded differently. Those of an
        encoder that is trained have no name.
        """
        if self.is_trained:
            return ""
        names = [self._names[item] for item in objects]
        return digest(self._encoder_name, repr(self.augmentation), mirrored, generator.get_state(), *names)

    def _crops(self, objects: Sequence[int], mirrored: Tensor, generator: torch.Generator) -> Float[Tensor, "B 4 S S"]:
        views = torch.randint(self.num_views, (len(objects),), generator=generator)
        crops = self.pictures[torch.tensor(objects), views].to(self.encoder.pixels.device).float() / 255
        crops = torch.where(mirrored.to(crops.device)[:, None, None, None], crops.flip(-1), crops)
        return crops if self.augmentation is None else augment(crops, self.augmentation, generator=generator)

    def _encode(self, crops: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B 196 C"]:
        return torch.cat([self.encoder(part) for part in crops.split(_CHUNK)])

    @cached_property
    def _encoder_name(self) -> str:
        return module_digest(self.encoder)


def read_pictures(
    data: PreparedFolder, ids: Sequence[str]
) -> tuple[UInt8[Tensor, "objects views 4 S S"], Sequence[str]]:
    """The condition views of objects, cropped to 224 px, premultiplied; and for each object a name for its pictures.

    Raises:
        InputError: if a view is missing or damaged, or objects have different numbers of them.
    """
    paths = [view_paths(files.render_folder(data.path, sha)) for sha in ids]
    for sha, views in zip(ids, paths, strict=True):
        if len(views) != len(paths[0]):
            raise InputError(
                f"{sha} has {len(views)} condition views and {ids[0]} has {len(paths[0])} in {data.path}; "
                "render all objects with one setting"
            )
    pictures = torch.empty(len(ids), len(paths[0]), 4, INPUT_SIZE, INPUT_SIZE, dtype=torch.uint8)
    read = files.in_threads(lambda pair: _read_into(*pair), list(zip(pictures, paths, strict=True)))
    names = list(_reported(read, len(ids), data.path))
    return pictures, names


def _read_into(target: UInt8[Tensor, "views 4 S S"], paths: Sequence[Path]) -> str:
    for picture, path in zip(target, paths, strict=True):
        picture.copy_(read_picture(path))
    return digest(target)


def read_picture(path: Path) -> UInt8[Tensor, "4 S S"]:
    """``crop_to_object`` of a file, at 224 px.

    Raises:
        InputError: if it cannot be read or shows no object; names the file.
    """
    try:
        with Image.open(path) as image:
            crop = crop_to_object(image.convert("RGBA"), size=INPUT_SIZE)
    except InputError as err:
        raise InputError(f"the view {path} cannot be used: {err}; render it again") from err
    except (OSError, ValueError, SyntaxError) as err:  # as the readers of Pillow have it
        raise InputError(f"the view {path} cannot be read ({err}); render it again") from err
    return (255 * crop).round().to(torch.uint8)


def _reported(items: Iterator[str], total: int, folder: Path) -> Iterator[str]:
    """The items, with a line in the log now and then."""
    start = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last > _REPORT:
            last, left = now, (now - start) / number * (total - number)
            log.info("%s: pictures of %d of %d objects read, about %.0f s left", folder, number, total, left)
