"""Small objects to export."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from mdtdist.export.bake import rasterize_uv
from mdtdist.export.unwrap import unwrap
from mdtdist.representations import SH_C0, Gaussians, Mesh


def make_gaussians(means: np.ndarray, colors: np.ndarray, scale: float = 0.02) -> Gaussians:
    """Round, nearly opaque Gaussians of the given sRGB colours."""
    count = len(means)
    return Gaussians(
        means=torch.tensor(means, dtype=torch.float32),
        scales=torch.full((count, 3), scale),
        rotations=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        opacities=torch.full((count,), 0.9),
        sh=(torch.tensor(colors, dtype=torch.float32)[:, None] - 0.5) / SH_C0,
    )


def shell_logits(solid: np.ndarray, noise: float = 0.0) -> torch.Tensor:
    """Logits as the structure decoder gives them: +4 on the surface voxels of a solid, -4 elsewhere."""
    padded = np.pad(solid, 1)
    core = np.ones_like(solid)
    for axis in range(3):
        for shift in (-1, 1):
            core &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
    rng = np.random.default_rng(0)
    return torch.tensor(np.where(solid & ~core, 4.0, -4.0) + noise * rng.normal(size=solid.shape), dtype=torch.float32)


@pytest.fixture
def gaussians() -> Gaussians:
    """Twenty of every shape, direction and colour."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return Gaussians(
        means=0.2 * draw(20, 3),
        scales=(0.5 * draw(20, 3) - 4).exp(),
        rotations=torch.nn.functional.normalize(draw(20, 4), dim=-1),
        opacities=draw(20).sigmoid(),
        sh=draw(20, 1, 3),
    )


@pytest.fixture(scope="session")
def table() -> np.ndarray:
    """Solid voxels of a table on a 32^3 grid: a top 3 voxels thick on four legs of one voxel that reach z = 2."""
    solid = np.zeros((32, 32, 32), bool)
    solid[5:27, 8:24, 20:23] = True
    for x in (5, 26):
        for y in (8, 23):
            solid[x, y, 2:20] = True
    return solid


@pytest.fixture(scope="session")
def marked_box() -> tuple[torch.Tensor, Gaussians]:
    """Logits and Gaussians of a box, 16 x 12 x 8 voxels: top (+Z) red, front (-Y) green, right (+X) blue, rest grey."""
    solid = np.zeros((32, 32, 32), bool)
    solid[8:24, 10:22, 12:20] = True
    means = (np.argwhere(shell_logits(solid).numpy() > 0) + 0.5) / 32 - 0.5
    colors = np.full((len(means), 3), 0.5)
    colors[means[:, 0] > 0.22] = [0.1, 0.1, 0.9]
    colors[means[:, 1] < -0.16] = [0.1, 0.9, 0.1]
    colors[means[:, 2] > 0.10] = [0.9, 0.1, 0.1]
    return shell_logits(solid), make_gaussians(means, colors)


@pytest.fixture
def quad() -> Mesh:
    """A square in the plane z = 0.25 facing +Z; texture red at the upper left (u = 0, v = 1), else blue."""
    texture = np.full((8, 8, 3), (0, 0, 255), np.uint8)
    texture[:4, :4] = (255, 0, 0)
    uv = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    vertices = np.concatenate([uv - 0.5, np.full((4, 1), 0.25)], axis=1)
    return Mesh(vertices=vertices, faces=np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, texture=texture)


@pytest.fixture(scope="session", params=["texture", "vertex colours"])
def painted_box(request: pytest.FixtureRequest) -> Mesh:
    """A box off the middle with three different sides; the colour of a surface point is its position plus a half."""
    box = trimesh.creation.box((0.8, 0.5, 0.3)).subdivide()
    box.apply_translation((0.05, -0.1, 0.2))
    mesh = Mesh(vertices=np.asarray(box.vertices), faces=np.asarray(box.faces))
    if request.param == "vertex colours":
        return dataclasses.replace(mesh, vertex_colors=mesh.vertices + 0.5)
    mesh = unwrap(mesh, texture_size=256)
    rows, columns, faces, weights = rasterize_uv(mesh.uv[mesh.faces], 256)
    positions = np.einsum("tc,tcd->td", weights, mesh.vertices[mesh.faces[faces]])
    texture = np.zeros((256, 256, 3), np.uint8)
    texture[rows, columns] = np.rint(255 * (positions + 0.5))
    return dataclasses.replace(mesh, texture=texture)
