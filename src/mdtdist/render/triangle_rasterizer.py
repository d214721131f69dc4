"""Pictures of textured triangles by filling each triangle: what :class:`RayCaster` shows, many times as fast.

A ray caster asks which face a sample sees; this asks which samples a face covers, in compiled loops (numba). For the
million pixels of a training view that takes tenths of a second on one core.
"""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera
from mdtdist.render.ray_caster import (
    MAX_LAYERS,
    MIN_ALBEDO,
    SAMPLES_PER_UNIT,
    STEP,
    USUAL_LIGHT,
    Light,
    Picture,
    face_normals,
    fitting_textures,
)
from mdtdist.representations.triangles import TexturedTriangles


class TriangleRasterizer:
    """Renders one model from any camera; materials, light and glass as in :class:`RayCaster`.

    A face with a corner behind the camera is left out. Needs numba (extra ``data``).
    """

    def __init__(self, triangles: TexturedTriangles, *, samples_per_unit: float = SAMPLES_PER_UNIT) -> None:
        """Prepare a model; textures are shrunk to about ``samples_per_unit`` texels per object unit."""
        self._kernels = _load_kernels()
        self._vertices = torch.from_numpy(np.asarray(triangles.vertices, dtype=np.float64))
        self._first_corners = triangles.vertices[triangles.faces[:, 0]]
        self._normals = face_normals(triangles)
        self._surface = _pack(self._kernels, triangles, samples_per_unit)

    def render(self, camera: Camera, *, size: int = 128, supersampling: int = 2, light: Light = USUAL_LIGHT) -> Picture:
        """A square picture; ``supersampling`` samples per pixel and axis, averaged with premultiplied alpha."""
        rgba, depth = np.zeros((size, size, 4), dtype=np.uint8), np.zeros((size, size), dtype=np.float32)
        projected = self._project(camera, size * supersampling)
        rows, columns = _window(projected[self._surface.faces.reshape(-1)], size, supersampling)
        if rows.start < rows.stop and columns.start < columns.stop:
            projected[:, :2] -= np.array([columns.start, rows.start]) * supersampling
            height, width = ((part.stop - part.start) * supersampling for part in (rows, columns))
            samples = self._draw(projected, self._light(camera, light), height, width)
            self._kernels.resolve(samples, supersampling, rgba[rows, columns], depth[rows, columns])
        return Picture(rgba=rgba, depth=depth)

    def _draw(self, projected: Float[np.ndarray, "V 3"], light: Float[np.ndarray, "F"], height: int, width: int) -> Any:
        """All samples of a window, layer by layer from the front until none sees through its surface."""
        shape = (height, width)
        samples = self._kernels.Samples(
            face=np.full(shape, -1, dtype=np.int32),
            inverse=np.zeros(shape, dtype=np.float32),
            limit=np.full(shape, np.inf, dtype=np.float32),
            color=np.zeros((*shape, 3), dtype=np.float32),
            weight=np.zeros(shape, dtype=np.float32),
            depth=np.zeros(shape, dtype=np.float32),
        )
        for _ in range(MAX_LAYERS):
            self._kernels.find_nearest(projected, self._surface, samples)
            if not self._kernels.add_layer(projected, self._surface, light, MIN_ALBEDO, STEP, samples):
                break
        return samples

    def _project(self, camera: Camera, size: int) -> Float[np.ndarray, "V 3"]:
        """Position in the picture, samples, and inverse depth of every vertex."""
        pixels, depth = camera.project(self._vertices, size)
        return torch.cat([pixels, 1 / depth[:, None]], dim=1).numpy()

    def _light(self, camera: Camera, light: Light) -> Float[np.ndarray, "F"]:
        """Factor of every face's colour; of its two sides the camera sees one."""
        eye = camera.camera_to_world[:3, 3].double().numpy()
        towards_eye = np.sign(np.einsum("fd,fd->f", self._normals, eye - self._first_corners))
        return light.factor(towards_eye[:, None] * self._normals)


def _window(projected: Float[np.ndarray, "N 3"], size: int, supersampling: int) -> tuple[slice, slice]:
    """Rows and columns of pixels outside of which nothing is seen."""
    in_front = projected[projected[:, 2] > 0, :2] / supersampling
    if not len(in_front):
        return slice(0, 0), slice(0, 0)
    low = np.floor(in_front.min(axis=0)).clip(0, size).astype(int)
    high = np.ceil(in_front.max(axis=0)).clip(0, size).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _pack(kernels: ModuleType, triangles: TexturedTriangles, samples_per_unit: float) -> Any:
    """The model in the arrays of the kernels."""
    texels, texture, used = [np.zeros((0, 4), dtype=np.uint8)], [], 0
    for image in fitting_textures(triangles, samples_per_unit=samples_per_unit):
        texture.append((-1, 0, 0, 0) if image is None else (used, *image.shape[:2], (image[..., 3] < 128).any()))
        if image is not None:
            texels.append(image.reshape(-1, 4))
            used += len(texels[-1])
    return kernels.Surface(
        faces=triangles.faces.astype(np.int32),
        uv=triangles.uv.astype(np.float64),
        colors=triangles.vertex_colors.astype(np.float64),
        material=triangles.face_material.astype(np.int32),
        texels=np.concatenate(texels),
        texture=np.array(texture, dtype=np.int64),
        tint=np.array([(*material.color, material.opacity) for material in triangles.materials], dtype=np.float64),
    )


def _load_kernels() -> ModuleType:
    try:
        from mdtdist.render import raster_kernels
    except ImportError as err:
        raise InputError("fast rendering of models needs the package numba; install mdtdist[data].") from err
    return raster_kernels
