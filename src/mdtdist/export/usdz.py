"""USDZ packages (extra ``usdz``)."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mdtdist.errors import InputError
from mdtdist.export.appearance import encode_png, linear_light, require_drawable
from mdtdist.export.axes import to_y_up
from mdtdist.export.normals import vertex_normals
from mdtdist.files import appear_whole
from mdtdist.representations import Mesh

_SCENE, _PICTURE = "object.usdc", "color.png"


def write_usdz(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh as one USDZ package: metres, Y up, front +Z, ``UsdPreviewSurface``.

    Preview surfaces have no unlit mode, so the colours are the diffuse colour and viewers add their own light. Vertex
    colours are written as ``displayColor`` in linear light; viewers on Apple devices do not show them, so a package
    for those needs a texture.

    Args:
        mesh: at least one triangle; a texture is shown instead of vertex colours, as in ``Mesh``.
        path: file to write; it appears whole or not at all.

    Raises:
        InputError: without the extra ``usdz``, if the mesh has no faces or is not finite, or if the file cannot be
            written.
    """
    require_drawable(mesh)
    try:
        from pxr import Sdf
    except ImportError as error:
        raise InputError(
            f"cannot write {path}: no USD library; install the extra: pip install 'mdtdist[usdz]'"
        ) from error
    with appear_whole(path) as temporary, tempfile.TemporaryDirectory() as folder:
        _write_scene(mesh, str(Path(folder) / _SCENE))
        names = [_SCENE]  # the scene comes first, as the format demands
        if mesh.texture is not None:
            (Path(folder) / _PICTURE).write_bytes(encode_png(mesh.texture))
            names.append(_PICTURE)
        with Sdf.ZipFileWriter.CreateNew(str(temporary)) as package:  # uncompressed, aligned to 64 bytes
            for name in names:
                package.AddFile(str(Path(folder) / name), name)


def _write_scene(mesh: Mesh, path: str) -> None:
    """The scene as a binary USD file that refers to the picture beside it."""
    from pxr import Kind, Usd, UsdGeom, UsdShade

    stage = Usd.Stage.CreateNew(path)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/object")
    stage.SetDefaultPrim(root.GetPrim())
    Usd.ModelAPI(root).SetKind(Kind.Tokens.component)
    geometry = _define_geometry(stage, mesh)
    material = _define_material(stage, mesh)
    UsdShade.MaterialBindingAPI.Apply(geometry.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()


def _define_geometry(stage: Any, mesh: Mesh) -> Any:
    """Polygons without subdivision, with their vertex attributes."""
    from pxr import Sdf, UsdGeom, Vt

    geometry = UsdGeom.Mesh.Define(stage, "/object/surface")
    positions = to_y_up(mesh.vertices).astype(np.float32)
    geometry.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(positions))
    geometry.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([positions.min(0), positions.max(0)])))
    geometry.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    geometry.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.astype(np.int32).reshape(-1)))
    geometry.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(to_y_up(vertex_normals(mesh)).astype(np.float32)))
    geometry.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    geometry.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    geometry.CreateDoubleSidedAttr(True)
    primvars = UsdGeom.PrimvarsAPI(geometry)
    if mesh.uv is not None:  # v from the lower edge, as ours
        uv = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
        uv.Set(Vt.Vec2fArray.FromNumpy(mesh.uv.astype(np.float32)))
    if mesh.vertex_colors is not None and mesh.texture is None:
        colors = geometry.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        colors.Set(Vt.Vec3fArray.FromNumpy(linear_light(mesh.vertex_colors).astype(np.float32)))
    return geometry


def _define_material(stage: Any, mesh: Mesh) -> Any:
    """A rough, not metallic surface whose diffuse colour is the texture, the vertex colours, or the default grey."""
    from pxr import Sdf, UsdShade

    types = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, "/object/material")
    surface = _define_shader(stage, "surface", "UsdPreviewSurface", roughness=(types.Float, 1.0))
    surface.CreateInput("metallic", types.Float).Set(0.0)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    if mesh.texture is not None:
        reader = _define_shader(stage, "uv", "UsdPrimvarReader_float2", varname=(types.String, "st"))
        source = _define_shader(
            stage, "color", "UsdUVTexture", file=(types.Asset, f"./{_PICTURE}"), sourceColorSpace=(types.Token, "sRGB"),
            wrapS=(types.Token, "clamp"), wrapT=(types.Token, "clamp"),
        )  # fmt: skip
        source.CreateInput("st", types.Float2).ConnectToSource(reader.CreateOutput("result", types.Float2))
        color = source.CreateOutput("rgb", types.Float3)
    elif mesh.vertex_colors is not None:
        source = _define_shader(stage, "color", "UsdPrimvarReader_float3", varname=(types.String, "displayColor"))
        color = source.CreateOutput("result", types.Float3)
    else:
        return material
    surface.CreateInput("diffuseColor", types.Color3f).ConnectToSource(color)
    return material


def _define_shader(stage: Any, name: str, kind: str, **inputs: tuple[Any, Any]) -> Any:
    """A shader of the material with the given inputs, each a type and a value."""
    from pxr import UsdShade

    shader = UsdShade.Shader.Define(stage, f"/object/material/{name}")
    shader.CreateIdAttr(kind)
    for input_name, (value_type, value) in inputs.items():
        shader.CreateInput(input_name, value_type).Set(value)
    return shader
