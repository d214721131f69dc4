"""From an image file to the picture of one object that the image encoder sees.

Read and check (:func:`load_image`), crop by the TRELLIS rule (:func:`crop_to_object`). Training views go through the
same crop, so training and use see the same framing.
"""

import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from mdtdist.conditioning.foreground import estimate_alpha
from mdtdist.errors import InputError

MAX_SIDE = 4096  # pixels
MAX_BYTES = 32 * 2**20
CROP_SIZE = 128  # pixels
MIN_OBJECT = 8  # pixels; a smaller object carries no shape

# Readers without external programs (Pillow would run Ghostscript for EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_OPAQUE_ALPHA = 204  # 0.8 * 255, the TRELLIS threshold of the object's box

ImageSource = str | os.PathLike[str] | bytes | Image.Image


def load_image(source: ImageSource, *, background: str = "border") -> Image.Image:
    """Read an image of one object and find what is object.

    An image with transparency is used as it is. For an opaque one the foreground is estimated, with a warning.

    Args:
        source: path, encoded bytes (PNG, JPEG, WebP, GIF, BMP or TIFF) or an open image.
        background: how to find the foreground of an opaque image: "border" compares with the colour of the image
            border, "rembg" uses the optional background remover (extra ``background``).

    Returns:
        RGBA image, straight alpha, with at least one pixel whose alpha is above 0.8.

    Raises:
        InputError: if the source is no image, is cut off, has more than 4096 px a side or 32 MB, is fully
            transparent, or shows no object.
    """
    name = _describe(source)
    image = _to_8_bit(source if isinstance(source, Image.Image) else _decode(_read(source), name), name)
    alpha = np.asarray(image.getchannel("A"))
    if alpha.max() == 0:
        raise InputError(f"{name} is fully transparent; expected a visible object on a transparent or plain background")
    if alpha.min() == 255:
        image = _cut_out(image.convert("RGB"), name, background)
    elif alpha.max() <= _OPAQUE_ALPHA:
        raise InputError(
            f"{name} has no pixel with alpha above {_OPAQUE_ALPHA} (the most opaque has {alpha.max()}); "
            "expected a solid object, please save it without partial transparency"
        )
    return image


def object_box(alpha: np.ndarray) -> tuple[float, float, float, float]:
    """The square crop (left, top, right, bottom, pixels) of the TRELLIS rule.

    The box of the pixels with alpha above 0.8, centred, with 1.2 times its longer side.

    Args:
        alpha: uint8 [H, W].

    Raises:
        InputError: if the object is smaller than 8 pixels.
    """
    rows, columns = np.nonzero(alpha > _OPAQUE_ALPHA)
    if len(rows) == 0:
        raise InputError("the image has no foreground (no alpha above 0.8); expected one solid object")
    left, right, top, bottom = (int(v) for v in (columns.min(), columns.max(), rows.min(), rows.max()))
    extent = max(right - left, bottom - top)
    if extent < MIN_OBJECT:
        raise InputError(
            f"the object in the image is {right - left + 1} x {bottom - top + 1} pixels; "
            f"expected at least {MIN_OBJECT}, please use a larger picture of it"
        )
    centre_x, centre_y, half = (left + right) / 2, (top + bottom) / 2, int(1.2 * extent) // 2
    return centre_x - half, centre_y - half, centre_x + half, centre_y + half


def crop_to_object(image: Image.Image, *, size: int = CROP_SIZE) -> Float[Tensor, "4 S S"]:
    """Crop an RGBA image (straight alpha) to its object and premultiply it on black, bit for bit as TRELLIS does.

    Returns:
        RGB times alpha, and alpha, in [0, 1], display-referred. Pillow resamples the premultiplied colours (Lanczos),
        so that colours hidden under transparent pixels do not bleed into the edge, and gives back straight ones.

    Raises:
        InputError: if there is no object, or one smaller than 8 pixels.
    """
    box = object_box(np.asarray(image.getchannel("A")))
    left, top, right, bottom = (round(edge) for edge in box)
    resized = image.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.LANCZOS)
    crop = np.asarray(resized, np.float32) / 255
    # The published encoder saw 8-bit colours that were cut off, not rounded, in float32.
    crop[..., :3] = (crop[..., :3] * crop[..., 3:] * 255).astype(np.uint8).astype(np.float32) / 255
    return torch.from_numpy(crop).permute(2, 0, 1).contiguous()


def prepare_image(source: ImageSource, *, background: str = "border", size: int = CROP_SIZE) -> Float[Tensor, "4 S S"]:
    """:func:`load_image` and :func:`crop_to_object`; errors name the source."""
    image = load_image(source, background=background)
    try:
        return crop_to_object(image, size=size)
    except InputError as err:
        raise InputError(f"{_describe(source)}: {err}") from err


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files of a folder (by suffix, not recursive), sorted by name.

    Raises:
        InputError: if there is none.
    """
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"the folder {str(folder)!r} has no images; expected files ending in {', '.join(SUFFIXES)}")
    return paths


def _describe(source: ImageSource) -> str:
    if isinstance(source, bytes):
        return f"the image ({len(source)} bytes)"
    return "the image" if isinstance(source, Image.Image) else f"the image {os.fspath(source)!r}"


def _read(source: str | os.PathLike[str] | bytes) -> bytes:
    """The bytes of a file or the bytes themselves, checked for size before anything is decoded."""
    if isinstance(source, bytes):
        num_bytes = len(source)
    elif not os.path.isfile(source):
        kind = "is a folder" if os.path.isdir(source) else "does not exist"
        raise InputError(f"{_describe(source)} {kind}; expected the path of an image file")
    else:
        num_bytes = os.path.getsize(source)
    if num_bytes > MAX_BYTES:
        raise InputError(
            f"{_describe(source)} has {num_bytes / 2**20:.0f} MB; expected at most {MAX_BYTES // 2**20} MB, "
            "please save it smaller"
        )
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as err:
        raise InputError(f"{_describe(source)} cannot be read ({err.strerror}); check its permissions") from err


def _decode(data: bytes, name: str) -> Image.Image:
    """Decode completely, so that a cut-off file is noticed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own notes on size and metadata; the checks below say it clearer
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as err:
            raise InputError(f"{name} is huge; expected at most {MAX_SIDE} px a side, please scale it down") from err
        except Exception as err:  # decoders raise whatever their format makes them
            raise InputError(
                f"{name} is not an image that can be read; expected PNG, JPEG, WebP, GIF, BMP or TIFF"
            ) from err
        _check_side(image, name)
        try:
            image.load()
        except Exception as err:
            raise InputError(f"{name} is truncated or damaged; expected a complete file, please save it again") from err
        return ImageOps.exif_transpose(image)


def _check_side(image: Image.Image, name: str) -> None:
    if max(image.size) > MAX_SIDE:
        raise InputError(
            f"{name} is {image.width} x {image.height} pixels; expected at most {MAX_SIDE} a side, please scale it down"
        )


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """RGBA with 8 bits per channel from any mode that the readers produce."""
    _check_side(image, name)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise InputError(f"{name} has floating-point pixels; expected 8 or 16 bits a channel, please save it as PNG")
    return image.convert("RGBA")


def _cut_out(image: Image.Image, name: str, background: str) -> Image.Image:
    """Give an opaque image the alpha of its estimated foreground."""
    longest = max(image.size)
    if longest > 1024:
        # As TRELLIS does it, rounding errors of the factor included: the size decides which pixels the crop takes.
        image = image.resize([max(1, int(s * (1024 / longest))) for s in image.size], Image.Resampling.LANCZOS)
    if background == "rembg":
        image = _remove_background(image)
    elif background == "border":
        warnings.warn(
            f"{name} has no transparency: the object was cut out by the colour of the image border; a picture with a "
            "transparent background, or the extra 'background', gives better results",
            stacklevel=3,
        )
        image.putalpha(Image.fromarray(estimate_alpha(np.asarray(image))))
    else:
        raise InputError(f"background is {background!r}; expected 'border' or 'rembg'")
    if np.asarray(image.getchannel("A")).max() <= _OPAQUE_ALPHA:
        raise InputError(f"{name} shows no foreground; expected one object that differs from the background")
    return image


def _remove_background(image: Image.Image) -> Image.Image:
    try:
        import rembg
    except (ImportError, SystemExit) as err:  # without its runtime it leaves the program
        raise InputError(
            "background='rembg' needs an extra; install it with: pip install 'mdtdist[background]'"
        ) from err
    return rembg.remove(image, session=_background_session()).convert("RGBA")


@cache
def _background_session() -> Any:
    """The network "u2net" that TRELLIS uses; rembg downloads it (176 MB) when it is first made."""
    import rembg

    try:
        return rembg.new_session("u2net")
    except Exception as err:  # whatever the download meets
        raise InputError(
            f"the background remover could not load its network ({err}); "
            "give a picture with a transparent background instead"
        ) from err
