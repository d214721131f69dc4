"""Run by ``cycles.py`` in a process with Blender's package bpy: draws the views of one json file.

Lights as TRELLIS has them: a point light, a huge area light above and an area light below, on no background.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

# Kind, watts, place, scale. An area light shines along its own -z, so the lower one lights what is below it, as there.
_LIGHTS = (
    ("POINT", 1000.0, (4.0, 1.0, 6.0), 1.0),
    ("AREA", 10000.0, (0.0, 0.0, 10.0), 100.0),
    ("AREA", 1000.0, (0.0, 0.0, -10.0), 1.0),
)


def draw(bpy: Any, job: dict[str, Any]) -> None:
    """Write ``000.png`` ... into ``job["out"]``."""
    from mathutils import Matrix

    bpy.ops.wm.read_factory_settings(use_empty=True)
    _import_model(bpy, job["model"])
    _fit(bpy, Matrix(job["to_cube"]))
    for kind, power, place, scale in _LIGHTS:
        light = bpy.data.objects.new("light", bpy.data.lights.new("light", type=kind))
        light.data.energy, light.location, light.scale = power, place, (scale,) * 3
        bpy.context.collection.objects.link(light)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.context.collection.objects.link(camera)
    _set_up(bpy, camera, size=job["size"], samples=job["samples"])
    for index, view in enumerate(job["views"]):
        camera.data.angle = view["fov"]
        camera.matrix_world = Matrix(view["camera_to_world"])
        bpy.context.scene.render.filepath = str(Path(job["out"]) / f"{index:03d}.png")
        bpy.ops.render.render(write_still=True)


def _import_model(bpy: Any, path: str) -> None:
    importers = {
        ".glb": bpy.ops.import_scene.gltf,
        ".gltf": bpy.ops.import_scene.gltf,
        ".obj": bpy.ops.wm.obj_import,
        ".ply": bpy.ops.wm.ply_import,
        ".stl": bpy.ops.wm.stl_import,
    }
    importers[Path(path).suffix.lower()](filepath=path)
    # What a model file has of cameras and lights is not the object.
    for item in [item for item in bpy.data.objects if item.type in ("CAMERA", "LIGHT")]:
        bpy.data.objects.remove(item)


def _fit(bpy: Any, to_cube: Any) -> None:
    for item in bpy.data.objects:
        if item.parent is None:
            item.matrix_world = to_cube @ item.matrix_world
    bpy.context.view_layer.update()


def _set_up(bpy: Any, camera: Any, *, size: int, samples: int) -> None:
    scene = bpy.context.scene
    scene.camera, scene.render.engine = camera, "CYCLES"
    camera.data.sensor_width = camera.data.sensor_height = 32
    camera.data.clip_start, camera.data.clip_end = 0.01, 4 * math.sqrt(3) / math.sin(math.radians(5))
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.cycles.samples, scene.cycles.use_denoising = samples, True
    scene.cycles.diffuse_bounces = scene.cycles.glossy_bounces = 1
    scene.cycles.transparent_max_bounces = scene.cycles.transmission_bounces = 3
    # Filmic was Blender's own setting when that data was made; newer versions start with another.
    scene.view_settings.view_transform = "Filmic"


if __name__ == "__main__":
    import bpy as blender

    draw(blender, json.loads(Path(sys.argv[1]).read_text()))
