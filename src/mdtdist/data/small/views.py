"""Pictures of an item: a few as a person would take them from the front, and others all around."""

import math
from collections.abc import Iterator

import numpy as np

from mdtdist.data.views import FOV, FRONT_YAW, View, fitting_radius
from mdtdist.render.cameras import Camera, orbit_camera
from mdtdist.render.ray_caster import USUAL_LIGHT, Light
from mdtdist.render.triangle_rasterizer import TriangleRasterizer
from mdtdist.representations.triangles import TexturedTriangles

NUM_COND_VIEWS, COND_SIZE = 4, 256  # size in pixels
NUM_OTHER_VIEWS, OTHER_SIZE = 10, 192
COND_PITCH = (math.radians(-10), math.radians(45))
COND_FOV = (math.radians(20), math.radians(60))
# The lamp of a condition view, as seen from the object: to both sides of the front, and above the horizon.
LIGHT_SIDE = math.radians(75)
LIGHT_PITCH = (math.radians(15), math.radians(80))
LIGHT_AMBIENT = (0.45, 0.85)
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_SAMPLES_PER_UNIT = 300.0  # of the pictures, at two samples a pixel: 260 around, 240 to 370 from the front


def render_views(triangles: TexturedTriangles, *, seed: int) -> Iterator[View]:
    """All views: condition views, each under its own light, then the others under the usual one.

    Args:
        triangles: in the unit cube, as the item stands.
        seed: decides cameras and lights.
    """
    generator = np.random.default_rng(seed)
    rasterizer = TriangleRasterizer(triangles, samples_per_unit=_SAMPLES_PER_UNIT)
    shots = [(camera, COND_SIZE, condition_light(generator)) for camera in condition_cameras(triangles, generator)]
    shots += [(camera, OTHER_SIZE, USUAL_LIGHT) for camera in other_cameras(triangles, generator)]
    for index, (camera, size, light) in enumerate(shots):
        picture = rasterizer.render(camera, size=size, light=light)
        yield View(camera=camera, rgba=picture.rgba, depth=picture.depth, is_cond=index < NUM_COND_VIEWS)


def condition_cameras(triangles: TexturedTriangles, generator: np.random.Generator) -> list[Camera]:
    """Cameras straight in front; pitch and field of view vary, and the distance is that at which the object fits.

    With the field of view (20 to 60 degrees) goes the perspective of the picture, from far to near.
    """
    pitches = generator.uniform(*COND_PITCH, size=NUM_COND_VIEWS)
    fovs = generator.uniform(*COND_FOV, size=NUM_COND_VIEWS)
    return [
        orbit_camera(FRONT_YAW, pitch, radius=fitting_radius(triangles, fov=fov, least=0.0), fov=fov)
        for pitch, fov in zip(pitches.tolist(), fovs.tolist(), strict=True)
    ]


def other_cameras(triangles: TexturedTriangles, generator: np.random.Generator) -> list[Camera]:
    """Cameras spread evenly over the sphere, on a golden spiral that starts at a random yaw."""
    start, radius = generator.uniform(-math.pi, math.pi), fitting_radius(triangles)
    heights = 1 - (2 * np.arange(NUM_OTHER_VIEWS) + 1) / NUM_OTHER_VIEWS
    return [
        orbit_camera(start + index * _GOLDEN_ANGLE, math.asin(height), radius=radius, fov=FOV)
        for index, height in enumerate(heights.tolist())
    ]


def condition_light(generator: np.random.Generator) -> Light:
    """A lamp somewhere before and above the object; lamp and surroundings share the brightness of 1."""
    yaw = FRONT_YAW + generator.uniform(-LIGHT_SIDE, LIGHT_SIDE)
    pitch, ambient = generator.uniform(*LIGHT_PITCH), generator.uniform(*LIGHT_AMBIENT)
    direction = (math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch))
    return Light(direction=direction, ambient=ambient, diffuse=1 - ambient)
