"""Views of an asset: where the cameras stand, and the files of a rendered folder."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from mdtdist.data.files import whole_file, write_json
from mdtdist.data.normalize import load_normalized
from mdtdist.data.sources import Asset
from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.render.ray_caster import RayCaster
from mdtdist.representations.triangles import TexturedTriangles

NUM_COND_VIEWS = 8
NUM_VIEWS = 12
SIZE = 128  # pixels
RADIUS = 2.0  # object units; more for an object that would not fit
FOV = math.radians(40)
FRONT_YAW = -math.pi / 2
COND_YAW_SPREAD = math.radians(80)
COND_PITCH = (math.radians(-5), math.radians(40))
# Yaw from the front and pitch, degrees: what the condition views leave unseen (back, both rear sides, top, below).
_OTHER_VIEWS = ((180.0, 20.0), (120.0, 0.0), (-120.0, 65.0), (150.0, -50.0))
_JITTER = math.radians(15)
_MAX_DEPTH = 4.0  # object units; farther surfaces take coarser steps
_DEPTH_SCALE = _MAX_DEPTH / 65535  # object units per step of the 16-bit depth pictures

ViewChoice = Literal["around"]


@dataclass(frozen=True, kw_only=True)
class View:
    """One rendered view.

    Attributes:
        rgba: straight alpha, sRGB.
        depth: distance of the nearest surface along the view axis; 0 where there is none.
        is_cond: whether it serves as an input image (seen from the front half, near eye level).
    """

    camera: Camera
    rgba: UInt8[np.ndarray, "H W 4"]
    depth: Float[np.ndarray, "H W"]
    is_cond: bool


def asset_cameras(seed: int, *, radius: float = RADIUS) -> list[Camera]:
    """Cameras of one asset: eight condition views, then four others.

    The yaws of the condition views are stratified over 160 degrees around the front, their pitch is uniform in
    [-5, 40] degrees. The others see the back, the top and the bottom.
    """
    generator = np.random.default_rng(seed)
    stratum = (np.arange(NUM_COND_VIEWS) + generator.random(NUM_COND_VIEWS)) / NUM_COND_VIEWS
    yaws = FRONT_YAW + COND_YAW_SPREAD * (2 * stratum - 1)
    pitches = generator.uniform(*COND_PITCH, size=NUM_COND_VIEWS)
    others = np.radians(_OTHER_VIEWS) + generator.uniform(-_JITTER, _JITTER, size=(len(_OTHER_VIEWS), 2))
    angles = [*zip(yaws, pitches, strict=True), *((FRONT_YAW + yaw, pitch) for yaw, pitch in others)]
    return [orbit_camera(float(yaw), float(pitch), radius=radius, fov=FOV) for yaw, pitch in angles]


def fitting_radius(triangles: TexturedTriangles, *, fov: float = FOV, least: float = RADIUS) -> float:
    """The least radius, or as far as it takes to see all of the object: a full cube would be cut off at 2."""
    reach = float(np.linalg.norm(triangles.vertices[triangles.faces.reshape(-1)], axis=1).max())
    return max(least, 1.01 * reach / math.sin(fov / 2))


def render_asset(asset: Asset, folder: Path) -> None:
    """Render all views of an asset into ``folder``, as :func:`write_views` writes them."""
    triangles = load_normalized(asset.path, rotation=asset.rotation)
    cameras = asset_cameras(int(asset.sha256[:16], 16), radius=fitting_radius(triangles))
    write_views(folder, _render(RayCaster(triangles), cameras))


def _render(caster: RayCaster, cameras: Sequence[Camera]) -> Iterator[View]:
    for index, camera in enumerate(cameras):
        picture = caster.render(camera, size=SIZE)
        yield View(camera=camera, rgba=picture.rgba, depth=picture.depth, is_cond=index < NUM_COND_VIEWS)


def write_views(folder: Path, views: Iterable[View]) -> None:
    """Write views as they come; ``transforms.json`` comes last and marks the folder complete.

    Raises:
        ValueError: if a view shows nothing.
    """
    frames = []
    for index, view in enumerate(views):
        if not view.rgba[..., 3].any():
            raise ValueError(f"view {index} shows nothing")
        frames.append(_write_view(folder, index, view))
    write_json(folder / "transforms.json", {"aabb": [[-0.5] * 3, [0.5] * 3], "frames": frames})


class ViewFolder:
    """The views of a rendered folder in their order, each read when it is asked for.

    Args:
        folder: of one asset.
        only: "around": without the condition views, which may have lights of their own. None for all.

    Raises:
        InputError: if the folder is not complete, or has no such view.
    """

    def __init__(self, folder: Path, *, only: ViewChoice | None = None) -> None:
        path = folder / "transforms.json"
        if not path.exists():
            raise InputError(f"{folder} has no transforms.json; run `mdtdist prepare` with the stage renders.")
        self._folder = folder
        self._frames = [f for f in json.loads(path.read_text())["frames"] if only is None or not f["cond"]]
        if not self._frames:
            raise InputError(f"{path} has no views beside those from the front; render it again, or take all views.")

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> View:
        return _read_view(self._folder, self._frames[index])

    def __iter__(self) -> Iterator[View]:
        return (self[index] for index in range(len(self)))


def read_views(folder: Path) -> list[View]:
    """All views of a rendered folder.

    Raises:
        InputError: if the folder is not complete.
    """
    return list(ViewFolder(folder))


def _write_view(folder: Path, index: int, view: View) -> dict[str, Any]:
    name, depth_name = f"{index:03d}.png", f"{index:03d}_depth.png"
    scale = _DEPTH_SCALE * max(1, math.ceil(view.depth.max() / _MAX_DEPTH))  # a narrow view is taken from afar
    steps = np.round(view.depth / scale).clip(0, 65535).astype(np.uint16)
    for file_name, pixels in ((name, view.rgba), (depth_name, steps)):
        with whole_file(folder / file_name) as file:
            Image.fromarray(pixels).save(file, format="PNG", compress_level=4)
    return {
        "file_path": name,
        "depth_path": depth_name,
        "depth_scale": scale,
        "camera_angle_x": view.camera.fov,
        "transform_matrix": view.camera.camera_to_world.tolist(),
        "cond": view.is_cond,
    }


def _read_view(folder: Path, frame: dict[str, Any]) -> View:
    camera = Camera(camera_to_world=torch.tensor(frame["transform_matrix"]), fov=frame["camera_angle_x"])
    depth = np.asarray(Image.open(folder / frame["depth_path"]), dtype=np.float32) * np.float32(frame["depth_scale"])
    rgba = np.array(Image.open(folder / frame["file_path"]))
    return View(camera=camera, rgba=rgba, depth=depth, is_cond=frame["cond"])
