"""Pinhole cameras with a square image."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera with a square image and the principal point in its middle.

    Attributes:
        camera_to_world: rigid transform, Blender axes: the camera looks along its -z, its +y is up in the image.
        fov: full opening angle across the image, radians.
    """

    camera_to_world: Float[Tensor, "4 4"]
    fov: float

    def focal(self, size: int) -> float:
        """Focal length in pixels of an image ``size`` pixels wide."""
        return size / (2 * math.tan(self.fov / 2))

    @property
    def rotation(self) -> Float[Tensor, "3 3"]:
        """Object directions to camera axes: x right, y down, z forward."""
        return self.camera_to_world[:3, :3].mT * self.camera_to_world.new_tensor([[1.0], [-1.0], [-1.0]])

    def to_camera(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Object space to camera axes: x right, y down, z forward (depth along the view axis)."""
        return (points - self.camera_to_world[:3, 3].to(points)) @ self.rotation.to(points).mT

    def project(self, points: Float[Tensor, "N 3"], size: int) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N"]]:
        """Pixel positions (x right, y down; pixel centres at half-integers) and depths along the view axis."""
        x, y, depth = self.to_camera(points).unbind(-1)
        return torch.stack([x, y], -1) / depth[:, None] * self.focal(size) + size / 2, depth


def orbit_camera(yaw: float, pitch: float, *, radius: float = 2.0, fov: float = math.radians(40)) -> Camera:
    """A camera at ``radius (cos yaw cos pitch, sin yaw cos pitch, sin pitch)`` that looks at the origin, Z up.

    Angles in radians. The front of an object is -Y, so the front view has yaw -pi / 2.
    """
    backward = torch.tensor(
        [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)], dtype=torch.float64
    )
    # The derivative of the position with respect to yaw; unlike a cross product it stays defined at the poles.
    right = torch.tensor([-math.sin(yaw), math.cos(yaw), 0.0], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(backward, right), backward], dim=1)
    pose[:3, 3] = radius * backward
    return Camera(camera_to_world=pose.float(), fov=fov)
