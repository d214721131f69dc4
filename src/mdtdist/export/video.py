"""Pictures of Gaussians as files: turntable videos and previews."""

import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.render.turntable import preview, turntable
from mdtdist.representations import Gaussians


def video_suffix() -> str:
    """``.mp4`` where an H.264 encoder is installed (extra ``video``), else ``.gif``."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return ".gif"
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        get_ffmpeg_exe()
    except RuntimeError:  # the package is there without a program for this platform
        return ".gif"
    return ".mp4"


def write_turntable(
    gaussians: Gaussians,
    path: str | Path,
    *,
    num_frames: int = 36,
    size: int = 256,
    fps: int = 12,
) -> None:
    """Write one turn around the object as ``.mp4`` or ``.gif``, whichever the name ends in.

    Args:
        gaussians: what to show.
        path: file to write; it appears whole or not at all.
        num_frames: pictures of the full turn.
        size: side of the square picture, pixels; even for ``.mp4``.
        fps: frames per second.

    Raises:
        InputError: for another suffix, an odd size, an ``.mp4`` without the extra ``video``, or an unwritable file.
    """
    _require_encodable(Path(path), size)
    write_video(turntable(gaussians, num_frames=num_frames, size=size), path, fps=fps)


def write_video(frames: UInt8[np.ndarray, "F H W 3"], path: str | Path, *, fps: int = 12) -> None:
    """Write frames (sRGB) as H.264 (yuv420p, even sides) or as an endless GIF, by the suffix of ``path``.

    Raises:
        InputError: as ``write_turntable``.
    """
    suffix = _require_encodable(Path(path), *frames.shape[1:3])
    with appear_whole(path) as temporary:
        (_encode_mp4 if suffix == ".mp4" else _encode_gif)(frames, temporary, fps)


def write_preview(gaussians: Gaussians, path: str | Path, *, size: int = 512) -> None:
    """Write a PNG of the object on white, three-quarters from the front; arguments as for ``write_turntable``.

    Raises:
        InputError: if the file cannot be written.
    """
    pixels = preview(gaussians, size)
    with appear_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")


def _require_encodable(path: Path, *sides: int) -> str:
    """The suffix of ``path``, if a video of this size can be written there."""
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif"):
        raise InputError(f"video {path} ends in {suffix!r}; expected .mp4 or .gif")
    if suffix == ".mp4" and any(side % 2 for side in sides):
        raise InputError(f"video size {sides[0]} is odd; H.264 needs an even number of pixels, so use {sides[0] + 1}")
    if suffix == ".mp4" and video_suffix() != ".mp4":
        raise InputError(f"no encoder for {path}; write a .gif, or install the extra: pip install 'mdtdist[video]'")
    return suffix


def _encode_mp4(frames: UInt8[np.ndarray, "F H W 3"], path: Path, fps: int) -> None:
    """H.264 in yuv420p, which every browser plays, with the index in front."""
    from imageio_ffmpeg import write_frames

    height, width = frames.shape[1:3]
    writer = write_frames(
        str(path), (width, height), fps=fps, codec="libx264", pix_fmt_out="yuv420p", quality=8, macro_block_size=2,
        ffmpeg_log_level="error", output_params=["-movflags", "+faststart"],
    )  # fmt: skip
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def _encode_gif(frames: UInt8[np.ndarray, "F H W 3"], path: Path, fps: int) -> None:
    """An endless GIF with one palette per frame."""
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(path, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
