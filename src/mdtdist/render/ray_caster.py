"""Pictures of textured triangles by ray casting (Embree) with a mild fixed shading."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera
from mdtdist.representations.triangles import Material, TexturedTriangles

AMBIENT, DIFFUSE = 0.7, 0.3
MIN_ALBEDO = 0.04  # many models are painted in pure black, which nothing real is and which hides their shape
# From the front (-Y) and above; without an x component, so that the mirror image of an object is lit the same.
LIGHT = np.array([0.0, -1.0, 1.2]) / np.hypot(1.0, 1.2)
MAX_LAYERS = 16  # surfaces one ray passes through: leaves of a tree, panes of glass
STEP = 1e-4  # a ray goes on this far (object units) behind a surface it passed; beyond float32 noise
# Of a 128 px picture at two samples per pixel, radius 2; a texture need not have more texels per object unit.
SAMPLES_PER_UNIT = 180.0
CUTOUT_ALPHA = 0.5  # texels below are holes


@dataclass(frozen=True, kw_only=True)
class Light:
    """A distant lamp and light from everywhere: colours are multiplied by ``ambient + diffuse * max(0, n . l)``.

    Attributes:
        direction: l, towards the lamp, of length one; n is the unit normal of the side that is seen.
    """

    direction: tuple[float, float, float] = (float(LIGHT[0]), float(LIGHT[1]), float(LIGHT[2]))
    ambient: float = AMBIENT
    diffuse: float = DIFFUSE

    def factor(self, normals: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
        """Of the colour, per unit normal of a side that is seen."""
        return self.ambient + self.diffuse * np.einsum("nd,d->n", normals, np.asarray(self.direction)).clip(0)


USUAL_LIGHT = Light()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One view.

    Attributes:
        rgba: straight alpha, sRGB.
        depth: distance of the nearest surface along the view axis, object units; 0 where there is none.
    """

    rgba: UInt8[np.ndarray, "H W 4"]
    depth: Float[np.ndarray, "H W"]


class RayCaster:
    """Renders one model from any camera.

    Surfaces have two sides. Texels with alpha below one half are holes, exactly. Glass (opacity below one) tints what
    is behind it within the object and is opaque against the background, so that a bottle has a silhouette. Every
    sample is therefore either background or object; only supersampling makes soft edges.
    """

    def __init__(self, triangles: TexturedTriangles, *, samples_per_unit: float = SAMPLES_PER_UNIT) -> None:
        """Prepare a model; textures are shrunk to about ``samples_per_unit`` texels per object unit."""
        self._triangles = triangles
        textures = fitting_textures(triangles, samples_per_unit=samples_per_unit)
        self._materials = [MaterialSampler(*pair) for pair in zip(triangles.materials, textures, strict=True)]
        self._scene = _embree_scene(triangles.triangles)
        self._normals = face_normals(triangles)

    def render(self, camera: Camera, *, size: int = 128, supersampling: int = 2, light: Light = USUAL_LIGHT) -> Picture:
        """A square picture; ``supersampling`` rays per pixel and axis, averaged with premultiplied alpha."""
        origins, directions = camera_rays(camera, size * supersampling)
        color, hit, depth = self.cast(origins, directions, light=light)
        shape = (size, supersampling, size, supersampling)
        coverage = hit.reshape(shape).mean(axis=(1, 3))
        rgb = (color * hit[:, None]).reshape(*shape, 3).mean(axis=(1, 3)) / coverage.clip(1e-9)[..., None]
        rgba = np.concatenate([rgb, coverage[..., None]], axis=-1)
        nearest = np.where(hit, depth, np.inf).reshape(shape).min(axis=(1, 3))
        return Picture(
            rgba=np.round(rgba.clip(0, 1) * 255).astype(np.uint8),
            depth=np.where(np.isfinite(nearest), nearest, 0.0).astype(np.float32),
        )

    def cast(
        self, origins: Float[np.ndarray, "N 3"], directions: Float[np.ndarray, "N 3"], *, light: Light = USUAL_LIGHT
    ) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
        """Shaded colour, hit (0 or 1), and distance to the first surface in units of the direction's length."""
        color, weight = np.zeros((len(origins), 3)), np.zeros(len(origins))
        depth, travelled = np.zeros(len(origins)), np.zeros(len(origins))
        active = np.arange(len(origins))
        for _ in range(MAX_LAYERS):
            starts = origins[active] + travelled[active, None] * directions[active]
            face, distance, u, v = _intersect(self._scene, starts, directions[active])
            is_hit = face >= 0
            active, face = active[is_hit], face[is_hit]
            if not len(active):
                break
            travelled[active] += distance[is_hit]
            surface, opacity = self._shade(face, u[is_hit], v[is_hit], directions[active], light)
            depth[active] = np.where((depth[active] == 0) & (opacity > 0), travelled[active], depth[active])
            share = (1 - weight[active]) * opacity
            color[active] += share[:, None] * surface
            weight[active] += share
            travelled[active] += STEP
            active = active[weight[active] < 0.99]
        # What glass left over is glass: the weights of a sample that met any surface are scaled up to one.
        return color / weight.clip(1e-9)[:, None], (weight > 0).astype(np.float64), depth

    def _shade(
        self,
        face: Int[np.ndarray, "N"],
        u: np.ndarray,
        v: np.ndarray,
        directions: Float[np.ndarray, "N 3"],
        light: Light,
    ) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
        mesh = self._triangles
        weights = np.stack([1 - u - v, u, v], axis=1)
        corners = mesh.faces[face]
        uv = np.einsum("nc,ncd->nd", weights, mesh.uv[corners])
        color = np.einsum("nc,ncd->nd", weights, mesh.vertex_colors[corners])
        opacity = np.ones(len(face))
        material_index = mesh.face_material[face]
        for index in np.unique(material_index):
            chosen = material_index == index
            surface, alpha = self._materials[index].sample(uv[chosen])
            color[chosen] *= surface
            opacity[chosen] = alpha
        normal = self._normals[face]
        towards_viewer = -np.sign(np.einsum("nd,nd->n", normal, directions))
        albedo = MIN_ALBEDO + (1 - MIN_ALBEDO) * color
        return albedo * light.factor(towards_viewer[:, None] * normal)[:, None], opacity


def camera_rays(camera: Camera, size: int) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Rays through the pixel centres, row by row; their direction has length one along the view axis."""
    pose = camera.camera_to_world.double().numpy()
    offset = (np.arange(size) + 0.5 - size / 2) / camera.focal(size)
    y, x = np.meshgrid(-offset, offset, indexing="ij")
    local = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3)
    # einsum, because BLAS would start threads for so small a matrix and worker processes already fill the cores.
    return np.broadcast_to(pose[:3, 3], local.shape), np.einsum("nj,ij->ni", local, pose[:3, :3])


def sample_texture(texture: Float[np.ndarray, "H W C"], uv: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N C"]:
    """Bilinear texture lookup with repeat; v = 1 is the upper edge of row 0."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, down = (x - column)[:, None], (y - row)[:, None]
    columns, rows = (column % width, (column + 1) % width), (row % height, (row + 1) % height)
    upper = texture[rows[0], columns[0]] * (1 - right) + texture[rows[0], columns[1]] * right
    lower = texture[rows[1], columns[0]] * (1 - right) + texture[rows[1], columns[1]] * right
    return upper * (1 - down) + lower * down


def fitting_textures(
    triangles: TexturedTriangles, *, samples_per_unit: float
) -> list[UInt8[np.ndarray, "H W 4"] | None]:
    """The texture of every material with premultiplied colour, shrunk to what the samples of a picture resolve.

    Premultiplied, so that the colour of holes does not bleed into their rims; shrunk as a mip map would be, because a
    finer texture turns into noise that differs between views.

    Args:
        samples_per_unit: samples per object unit where the picture is finest.
    """
    shrunk: list[UInt8[np.ndarray, "H W 4"] | None] = []
    for material, texels in zip(triangles.materials, _texels_per_unit(triangles), strict=True):
        if material.texture is None:
            shrunk.append(None)
            continue
        image = Image.fromarray(material.texture).convert("RGBa")
        shrink = min(1.0, samples_per_unit / max(texels, 1e-9))
        size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
        shrunk.append(np.asarray(image.resize(size, Image.Resampling.BOX)))
    return shrunk


def face_normals(triangles: TexturedTriangles) -> Float[np.ndarray, "F 3"]:
    """Of length one; zero for a face without area."""
    corners = triangles.triangles
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-20)


class MaterialSampler:
    """Colour and opacity of a material at texture coordinates; its texture is one of :func:`fitting_textures`."""

    def __init__(self, material: Material, texture: UInt8[np.ndarray, "H W 4"] | None) -> None:
        self._color, self._opacity = np.asarray(material.color), material.opacity
        self._texture = None if texture is None else texture.astype(np.float32) / 255.0

    def sample(self, uv: Float[np.ndarray, "N 2"]) -> tuple[np.ndarray, np.ndarray]:
        """Colour and opacity; opacity 0 marks a hole."""
        if self._texture is None:
            return np.broadcast_to(self._color, (len(uv), 3)), np.full(len(uv), self._opacity)
        texel = sample_texture(self._texture, uv)
        alpha = texel[:, 3]
        color = (texel[:, :3] / alpha.clip(1e-3)[:, None]).clip(0, 1)
        return self._color * color, np.where(alpha >= CUTOUT_ALPHA, self._opacity, 0.0)


def _texels_per_unit(triangles: TexturedTriangles) -> list[float]:
    """Per material: linear density of the texture on the surface, texels per object unit."""
    corners, uv = triangles.triangles, triangles.uv[triangles.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    (a, b), (c, d) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    area_uv = np.abs(a * d - b * c)
    count = len(triangles.materials)
    surface = np.bincount(triangles.face_material, weights=area, minlength=count)
    covered = np.bincount(triangles.face_material, weights=area_uv, minlength=count)
    texels = [0 if m.texture is None else m.texture.shape[0] * m.texture.shape[1] for m in triangles.materials]
    return list(np.sqrt(covered * texels / surface.clip(1e-12)))


def _embree_scene(corners: Float[np.ndarray, "F 3 3"]) -> Any:
    try:
        from embreex import rtcore_scene
        from embreex.mesh_construction import TriangleMesh
    except ImportError as err:
        raise InputError("rendering models needs the package embreex; install mdtdist[data].") from err
    scene = rtcore_scene.EmbreeScene()
    vertices = np.ascontiguousarray(corners.reshape(-1, 3), dtype=np.float32)
    TriangleMesh(scene, vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3))
    return scene


def _intersect(scene: Any, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Face (-1 for none), distance, and barycentric weights of corners 1 and 2."""
    hits = scene.run(origins.astype(np.float32), directions.astype(np.float32), query="INTERSECT", output=1)
    return hits["primID"], hits["tfar"].astype(np.float64), hits["u"], hits["v"]
