"""Views of an asset as TRELLIS stores them: RGBA pictures, and ``transforms.json`` that comes last."""

import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from mdtdist.data.files import whole_file, write_json
from mdtdist.data.sources import Asset
from mdtdist.data.trellis.normalization import NormalizedAsset, load_normalized_asset
from mdtdist.data.trellis.paths import cond_folder, renders_folder
from mdtdist.data.trellis.ply import write_mesh
from mdtdist.data.trellis.settings import TrellisSettings
from mdtdist.data.trellis.view_law import condition_cameras, feature_cameras
from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera
from mdtdist.render.ray_caster import Picture, RayCaster
from mdtdist.render.triangle_rasterizer import TriangleRasterizer

# Level 1 takes half the time of Pillow's 6 for files a tenth larger: most pixels are empty.
_COMPRESS_LEVEL = 1
_RENDERERS: dict[str, type[RayCaster] | type[TriangleRasterizer]] = {"raster": TriangleRasterizer, "rays": RayCaster}


class Renderer(Protocol):
    """Draws one model from any camera."""

    def render(self, camera: Camera, *, size: int, supersampling: int) -> Picture: ...


def render_condition_views(asset: Asset, out: Path, settings: TrellisSettings) -> None:
    """``renders_cond/<sha256>/``: the views that serve as input images.

    Raises:
        ValueError: if the model cannot be used, or a view shows nothing.
    """
    cameras = condition_cameras(asset.sha256, count=settings.num_cond_views)
    _render(load_normalized_asset(asset), cameras, cond_folder(out, asset.sha256), settings.cond_size, settings)


def render_feature_views(asset: Asset, out: Path, settings: TrellisSettings) -> None:
    """``renders/<sha256>/``: the views that image features are taken from, and the normalised model.

    Raises:
        ValueError: if the model cannot be used, or a view shows nothing.
    """
    cameras = feature_cameras(asset.sha256, count=settings.num_feature_views)
    normalized, folder = load_normalized_asset(asset), renders_folder(out, asset.sha256)
    write_mesh(folder / "mesh.ply", normalized.triangles)
    _render(normalized, cameras, folder, settings.feature_size, settings)


def open_renderer(normalized: NormalizedAsset, cameras: Sequence[Camera], size: int, settings: TrellisSettings) -> Any:
    """The renderer of the settings ("raster" or "rays"), its textures as fine as the finest of the views can show."""
    width = min(2 * math.tan(camera.fov / 2) * float(camera.camera_to_world[:3, 3].norm()) for camera in cameras)
    samples_per_unit = size * settings.supersampling / width
    return _RENDERERS[settings.renderer](normalized.triangles, samples_per_unit=samples_per_unit)


def draw_views(
    renderer: Renderer, cameras: Sequence[Camera], folder: Path, *, size: int, supersampling: int, threads: int = 1
) -> None:
    """Write ``000.png`` ...: RGBA, straight alpha, sRGB.

    Args:
        threads: views at the same time; drawing and compressing leave the interpreter to others meanwhile.

    Raises:
        ValueError: if a view shows nothing.
    """

    def draw(index: int) -> None:
        rgba = renderer.render(cameras[index], size=size, supersampling=supersampling).rgba
        if not rgba[..., 3].any():
            raise ValueError(f"view {index} shows nothing")
        write_picture(folder / f"{index:03d}.png", rgba)

    if threads == 1:
        for index in range(len(cameras)):
            draw(index)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, range(len(cameras))))


def write_picture(path: Path, rgba: UInt8[np.ndarray, "H W 4"]) -> None:
    """A PNG, whole; compressed for speed."""
    with whole_file(path) as file:
        Image.fromarray(rgba).save(file, format="PNG", compress_level=_COMPRESS_LEVEL)


def write_transforms(folder: Path, cameras: Sequence[Camera], normalized: NormalizedAsset) -> None:
    """``transforms.json``: marks the folder complete."""
    frames = [
        {
            "file_path": f"{index:03d}.png",
            "camera_angle_x": camera.fov,
            "transform_matrix": camera.camera_to_world.tolist(),
        }
        for index, camera in enumerate(cameras)
    ]
    head = {"aabb": [[-0.5] * 3, [0.5] * 3], "scale": normalized.scale, "offset": list(normalized.offset)}
    write_json(folder / "transforms.json", head | {"frames": frames})


def read_transforms(folder: Path) -> list[tuple[Path, Camera]]:
    """Picture and camera of every frame.

    Raises:
        InputError: if the folder is not complete.
    """
    path = folder / "transforms.json"
    try:
        frames = json.loads(path.read_text())["frames"]
        return [(folder / frame["file_path"], _camera(frame)) for frame in frames]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise InputError(
            f"the views of {path} cannot be read ({type(err).__name__}: {err}); render them again."
        ) from err


def _camera(frame: dict[str, Any]) -> Camera:
    return Camera(camera_to_world=torch.tensor(frame["transform_matrix"]), fov=float(frame["camera_angle_x"]))


def _render(
    normalized: NormalizedAsset, cameras: Sequence[Camera], folder: Path, size: int, settings: TrellisSettings
) -> None:
    if settings.renderer == "cycles":
        from mdtdist.data.trellis.cycles import render_cycles

        python = str(settings.blender_python or sys.executable)
        render_cycles(normalized, cameras, folder, size=size, samples=settings.cycles_samples, python=python)
    else:
        renderer = open_renderer(normalized, cameras, size, settings)
        draw_views(renderer, cameras, folder, size=size, supersampling=settings.supersampling, threads=settings.threads)
    write_transforms(folder, cameras, normalized)
