"""Views by Blender's path tracer Cycles, which made TRELLIS's published data: soft light, reflections, minutes a set.

Blender (``pip install 'mdtdist[blender]'``, GPL) runs in a process of its own and reads the model file itself, with all
its materials; it gets the cameras, and the transform into the cube, as a json file.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mdtdist.data.normalize import Y_UP_SUFFIXES
from mdtdist.data.trellis import blender_script
from mdtdist.data.trellis.normalization import NormalizedAsset
from mdtdist.data.trellis.renders import write_picture
from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera

SUFFIXES = (*Y_UP_SUFFIXES, ".ply", ".stl")
_Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def render_cycles(
    normalized: NormalizedAsset,
    cameras: Sequence[Camera],
    folder: Path,
    *,
    size: int,
    samples: int,
    python: str = sys.executable,
) -> None:
    """Write ``000.png`` ... of a model as :func:`~mdtdist.data.trellis.renders.draw_views` does.

    Args:
        size: pixels a side.
        samples: rays per pixel.
        python: interpreter that has the package bpy.

    Raises:
        InputError: if bpy is missing or Blender cannot read the kind of file.
        ValueError: if Blender fails, or a view shows nothing.
    """
    path = normalized.asset.path
    if python == sys.executable and importlib.util.find_spec("bpy") is None:
        raise InputError(
            "the renderer cycles needs Blender: pip install 'mdtdist[blender]' (bpy 5.0 is for Python 3.11 only), "
            "or choose the renderer raster."
        )
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} cannot be read by Blender; expected {', '.join(SUFFIXES)}, or the renderer raster.")
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch) / "job.json"
        job.write_text(json.dumps(_job(normalized, cameras, Path(scratch), size=size, samples=samples)))
        # -P: without it the folder of the script comes first, and Blender's own module "cycles" is not found but this.
        _run([python, "-P", blender_script.__file__, str(job)])
        for index in range(len(cameras)):
            with Image.open(Path(scratch) / f"{index:03d}.png") as image:
                rgba = np.array(image.convert("RGBA"))
            if not rgba[..., 3].any():
                raise ValueError(f"view {index} shows nothing")
            write_picture(folder / f"{index:03d}.png", rgba)


def _job(
    normalized: NormalizedAsset, cameras: Sequence[Camera], folder: Path, *, size: int, samples: int
) -> dict[str, Any]:
    """What the script is told."""
    return {
        "model": str(normalized.asset.path.absolute()),
        "to_cube": to_cube(normalized).tolist(),
        "views": [{"fov": camera.fov, "camera_to_world": camera.camera_to_world.tolist()} for camera in cameras],
        "size": size,
        "samples": samples,
        "out": str(folder),
    }


def to_cube(normalized: NormalizedAsset) -> np.ndarray:
    """4x4: a model as Blender imports it, which is already Z up, to the unit cube.

    The rotation of an asset is meant in the axes of its file and comes first.
    """
    turn = np.eye(3)
    if normalized.asset.rotation is not None:
        rotation = np.asarray(normalized.asset.rotation, dtype=np.float64).reshape(3, 3)
        is_y_up = normalized.asset.path.suffix.lower() in Y_UP_SUFFIXES
        turn = _Y_UP_TO_Z_UP @ rotation @ _Y_UP_TO_Z_UP.T if is_y_up else rotation
    matrix = np.eye(4)
    matrix[:3, :3] = normalized.scale * turn
    matrix[:3, 3] = normalized.offset
    return matrix


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"Blender failed: {(done.stderr or done.stdout).strip()[-300:]}")
