"""Mesh files read by libraries that know nothing of our writers."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A mesh in the axes of its file; ``uv`` counts v from the lower edge, colours are sRGB in [0, 1]."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray | None = None
    picture: np.ndarray | None = None
    vertex_colors: np.ndarray | None = None

    def colors(self) -> np.ndarray:
        """Colour in the middle of every face."""
        if self.vertex_colors is not None:
            return self.vertex_colors[self.faces].mean(1)
        height, width = self.picture.shape[:2]
        uv = self.uv[self.faces].mean(1)
        return self.picture[((1 - uv[:, 1]) * height).astype(int), (uv[:, 0] * width).astype(int)] / 255


def load(path: Path) -> Loaded:
    """Read a ``.glb``, ``.obj`` or ``.usdz``."""
    return _load_usdz(path) if path.suffix == ".usdz" else _load_trimesh(path)


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to display-referred sRGB."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def _load_trimesh(path: Path) -> Loaded:
    scene = trimesh.load_scene(path, process=False)
    (mesh,) = scene.geometry.values()
    np.testing.assert_array_equal(scene.graph.get(scene.graph.nodes_geometry[0])[0], np.eye(4))
    fields = {"vertices": mesh.vertices, "faces": mesh.faces, "normals": mesh.vertex_normals}
    if mesh.visual.kind == "vertex":
        return Loaded(**fields, vertex_colors=mesh.visual.vertex_colors[:, :3] / 255)
    if "color" in mesh.visual.vertex_attributes:  # of glTF, in linear light as the file has it
        return Loaded(**fields, vertex_colors=encode_srgb(mesh.visual.vertex_attributes["color"][:, :3]))
    material = mesh.visual.material
    picture = material.baseColorTexture if path.suffix == ".glb" else material.image
    return Loaded(**fields, uv=mesh.visual.uv, picture=np.asarray(picture.convert("RGB")))


def _load_usdz(path: Path) -> Loaded:
    pytest.importorskip("pxr", reason="the extra usdz is not installed")
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    (mesh,) = (UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh))
    assert set(mesh.GetFaceVertexCountsAttr().Get()) == {3} and mesh.GetSubdivisionSchemeAttr().Get() == "none"
    extent, points = np.array(mesh.GetExtentAttr().Get()), np.array(mesh.GetPointsAttr().Get())
    np.testing.assert_array_equal(extent, [points.min(0), points.max(0)])
    fields = {
        "vertices": points,
        "faces": np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3),
        "normals": np.array(mesh.GetNormalsAttr().Get()),
    }
    if mesh.GetDisplayColorAttr().HasAuthoredValue():
        return Loaded(**fields, vertex_colors=encode_srgb(np.array(mesh.GetDisplayColorAttr().Get())))
    with zipfile.ZipFile(path) as package:
        picture = np.asarray(Image.open(io.BytesIO(package.read("color.png"))))
    uv = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get())
    return Loaded(**fields, uv=uv, picture=picture)
