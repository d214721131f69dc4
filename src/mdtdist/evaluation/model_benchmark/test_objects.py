"""What is measured on: the held-out objects, one input picture of each, and pictures from four other sides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from mdtdist.conditioning import crop_to_object
from mdtdist.data import PreparedFolder
from mdtdist.data.views import FRONT_YAW, View
from mdtdist.evaluation.metrics.geometry import chamfer_distance, downsample_grid, surface_f1, voxel_iou
from mdtdist.render.cameras import Camera, orbit_camera

# The input is the condition view nearest to this direction: three-quarters from the front, a little from above.
_INPUT_YAW, _INPUT_PITCH = FRONT_YAW + math.radians(30), math.radians(20)
# Front left, right, back, and rear left from above; see data.views.asset_cameras. Never the input view, which lies
# within 30 degrees of the direction above.
EVALUATION_VIEWS = (1, 7, 8, 10)
# The same for views that stand elsewhere: yaw from the front and pitch, degrees.
_SIDES = ((-50.0, 20.0), (80.0, 15.0), (180.0, 20.0), (-130.0, 50.0))


@dataclass(frozen=True, kw_only=True)
class TestObject:
    """One held-out object.

    Attributes:
        sha256: its identity in the prepared folder.
        name: what it is.
        crop: the input picture as the image encoder takes it.
        occupancy: the true surface voxels.
        cameras: of the evaluation views.
        pictures: true renders from these cameras, sRGB on white.
    """

    __test__ = False  # no test case, whatever its name

    sha256: str
    name: str
    crop: Float[Tensor, "4 S S"]
    occupancy: Bool[Tensor, "R R R"]
    cameras: tuple[Camera, ...]
    pictures: Float[Tensor, "V 3 H W"]


def load_test_objects(data: PreparedFolder, *, split: str = "test", limit: int | None = None) -> list[TestObject]:
    """The objects of a split by order of id; with ``limit`` the first so many.

    The order of the ids (hashes of the files) is a fixed shuffle, so any prefix is a fair sample.
    """
    ids = sorted(data.ids(split))[:limit]
    return [load_test_object(data, sha256) for sha256 in ids]


def load_test_object(data: PreparedFolder, sha256: str) -> TestObject:
    """Read one object."""
    views = data.views(sha256)
    chosen = EVALUATION_VIEWS if data.layout == "mini" else views_around(views)
    shown = [views[index] for index in chosen]
    return TestObject(
        sha256=sha256,
        name=data.rows[sha256]["name"],
        crop=crop_to_object(Image.fromarray(views[input_view(views)].rgba)),
        occupancy=data.occupancy(sha256),
        cameras=tuple(view.camera for view in shown),
        pictures=torch.stack([on_white(view.rgba) for view in shown]),
    )


def input_view(views: Sequence[View]) -> int:
    """Index of the condition view that looks most nearly three-quarters from the front."""
    wanted = orbit_camera(_INPUT_YAW, _INPUT_PITCH).camera_to_world[:3, 2]
    agreement = [float(view.camera.camera_to_world[:3, 2] @ wanted) if view.is_cond else -math.inf for view in views]
    return int(np.argmax(agreement))


def views_around(views: Sequence[View]) -> tuple[int, ...]:
    """For each evaluated side the view nearest to it of those that are no condition views; none is taken twice."""
    chosen: list[int] = []
    for yaw, pitch in _SIDES:
        wanted = orbit_camera(FRONT_YAW + math.radians(yaw), math.radians(pitch)).camera_to_world[:3, 2]
        free = [i for i, view in enumerate(views) if not view.is_cond and i not in chosen]
        chosen.append(max(free, key=lambda i: float(views[i].camera.camera_to_world[:3, 2] @ wanted)))
    return tuple(chosen)


def on_white(rgba: np.ndarray) -> Float[Tensor, "3 H W"]:
    """A straight-alpha RGBA picture (uint8 [H, W, 4]) over white, in [0, 1]."""
    pixels = torch.from_numpy(rgba).permute(2, 0, 1).float() / 255
    return pixels[:3] * pixels[3:] + 1 - pixels[3:]


def object_noise(sha256: str, *, seed: int, channels: int, resolution: int) -> Float[Tensor, "C r r r"]:
    """Noise that depends on the object, the seed and its size alone; drawn on the CPU."""
    generator = torch.Generator().manual_seed((int(sha256[:12], 16) + 1_000_003 * seed) % 2**63)
    return torch.randn(channels, *[resolution] * 3, generator=generator)


def noise_at(noises: Sequence[Float[Tensor, "C R R R"]], coords: Int[Tensor, "N 4"]) -> Float[Tensor, "N C"]:
    """Noise of the latent flow, taken from one grid per object.

    So two structures of one object get the same noise at the voxels they share, and a latent flow can be compared
    between methods although their structures differ.
    """
    batch, x, y, z = coords.long().cpu().unbind(1)
    return torch.stack(list(noises))[batch, :, x, y, z].to(coords.device)


def structure_scores(predicted: Bool[Tensor, "R R R"], truth: Bool[Tensor, "R R R"]) -> dict[str, float]:
    """Agreement of two structures.

    Returns:
        ``iou``, ``f1`` (at a distance of one voxel), ``iou16`` (at half the resolution), ``chamfer`` (object units).
    """
    predicted, truth = predicted.cpu(), truth.cpu()
    return {
        "iou": voxel_iou(predicted, truth),
        "f1": surface_f1(predicted, truth),
        "iou16": voxel_iou(downsample_grid(predicted), downsample_grid(truth)),
        "chamfer": chamfer_distance(predicted, truth),
    }
