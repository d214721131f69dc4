"""Conditions computed when they are needed: pictures read by threads, tokens from the image encoder of a model."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.pipelines.image_to_3d import ImageTo3D
from mdtdist.training.digests import digest, module_digest

T = TypeVar("T")
R = TypeVar("R")

HELD_OUT = 0.01  # share of the objects that validate


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Condition tokens of a batch, and a name for what each was made of: the crop and the encoder."""

    tokens: Float[Tensor, "B L C"]
    keys: tuple[str, ...]


class ViewEncoder:
    """The image encoder of a model over crops that are read in parallel.

    Args:
        model: whose encoder it is.
        readers: threads that read and crop; Pillow and zlib leave the interpreter to others meanwhile.
    """

    def __init__(self, model: ImageTo3D, *, readers: int) -> None:
        self.model = model
        self._pool = ThreadPoolExecutor(max_workers=readers)

    def read(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``function`` of every item, in their order; the first error is raised."""
        return list(self._pool.map(function, items))

    @torch.no_grad()
    def encode(self, crops: Sequence[Float[Tensor, "4 S S"]]) -> Conditions:
        """Tokens in float32 whatever the precision of the training: the teacher was trained on such."""
        keys = self.read(lambda crop: digest(self._encoder_key, crop), crops)
        with torch.autocast(self.model.device.type, enabled=False):
            return Conditions(tokens=self.model.encode(torch.stack(list(crops))), keys=tuple(keys))

    @cached_property
    def _encoder_key(self) -> str:
        return module_digest(self.model.encoder)


def render_box(alpha: UInt8[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    """The crop (left, top, right, bottom, pixels) of a condition render.

    Unlike ``object_box`` it takes every pixel that is not fully transparent for the object, and cuts the corners off
    toward zero, so that it need not be square.

    Raises:
        InputError: if there is no object, or one of a single pixel.
    """
    rows, columns = np.nonzero(alpha)
    if len(rows) == 0:
        raise InputError("it is fully transparent; render it again")
    left, right, top, bottom = (int(v) for v in (columns.min(), columns.max(), rows.min(), rows.max()))
    x, y, half = (left + right) / 2, (top + bottom) / 2, 1.2 * (max(right - left, bottom - top) / 2)
    box = (int(x - half), int(y - half), int(x + half), int(y + half))
    if box[2] <= box[0] or box[3] <= box[1]:
        raise InputError("its object is a single pixel; render it again")
    return box


def crop_render(image: Image.Image, *, size: int) -> Float[Tensor, "4 S S"]:
    """The crop of a condition render that TRELLIS trains its flows on; ``crop_to_object`` is that of an input picture.

    Args:
        image: RGBA, straight alpha.
        size: pixels a side of the result.

    Returns:
        RGB times alpha, and alpha, in [0, 1], display-referred.

    Raises:
        InputError: if there is no object, or one of a single pixel.
    """
    box = render_box(np.asarray(image.getchannel("A")))
    crop = np.array(image.crop(box).resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255
    crop[..., :3] *= crop[..., 3:]
    return torch.from_numpy(crop).permute(2, 0, 1).contiguous()


def read_render(path: Path, *, size: int) -> Float[Tensor, "4 S S"]:
    """``crop_render`` of a file.

    Raises:
        InputError: if it cannot be read, has no alpha channel or shows nothing; names the file.
    """
    try:
        with Image.open(path) as image:
            if image.mode != "RGBA":
                raise InputError(
                    f"it has the mode {image.mode}, expected RGBA; render it with a transparent background"
                )
            return crop_render(image, size=size)
    except InputError as err:
        raise InputError(f"the view {path} cannot be used: {err}") from err
    except (OSError, ValueError, SyntaxError) as err:  # as the readers of Pillow have it
        raise InputError(f"the view {path} cannot be read ({err}); render it again") from err


def view_paths(folder: Path) -> list[Path]:
    """The condition views of a rendered object: all frames of ``transforms.json``, or those marked ``cond``.

    Raises:
        InputError: if there are none.
    """
    path = folder / "transforms.json"
    try:
        frames = json.loads(path.read_text())["frames"]
        paths = [folder / frame["file_path"] for frame in frames if frame.get("cond", True)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(
            f"metadata.csv lists an object whose views cannot be read from {path} ({type(err).__name__}: {err}); "
            "render its views, or take it out of the table"
        ) from err
    if not paths:
        raise InputError(f"{path} lists no views; render them, or take the object out of metadata.csv")
    return paths


def pick(views: Sequence[T], position: float) -> T:
    """The view at ``position`` in [0, 1): one random number a view, however many views an object has."""
    return views[min(int(position * len(views)), len(views) - 1)]


def split_by_hash(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for training, and those held out: the ones whose hash falls into the last hundredth.

    An object stays where it is when others come or go. Where none falls there, none is held out.
    """
    held = {name for name in names if _fraction(name) >= 1 - HELD_OUT}
    return [name for name in names if name not in held], [name for name in names if name in held]


def last_by_hash(names: Sequence[str]) -> str:
    """The name that is nearest to being held out."""
    return max(names, key=_fraction)


def _fraction(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
