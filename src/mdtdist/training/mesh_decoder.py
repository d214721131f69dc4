"""Task: the mesh decoder of structured latents, trained against the fused depth and colour of the views."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.data import PreparedFolder, files
from mdtdist.data.depth_fusion import DepthViews
from mdtdist.data.views import View, ViewChoice
from mdtdist.errors import InputError
from mdtdist.models import build, load, sample_posterior, save
from mdtdist.render.mesh_rasterizer import render_mesh
from mdtdist.representations import Mesh
from mdtdist.representations.flexicubes import ExtractedMesh, mesh_from_cubes
from mdtdist.sparse import SparseTensor, pack_coords
from mdtdist.training.pictures import save_image_grid
from mdtdist.training.task import Draw, EpochSampler, Task

_REACH = 3.0  # cells at which signed distances are cut off
_NUM_EVALUATED, _NUM_PICTURES = 16, 8


@dataclass(frozen=True, kw_only=True)
class MeshDecoderConfig:
    """Network and losses of the mesh decoder.

    TRELLIS compares rendered depth, normals and colours, which takes a rasteriser with gradients at silhouettes, and
    adds a truncated signed distance. Here that distance is the main loss, and depth, normals and colours are compared
    at the vertices of the mesh instead of at pixels.

    Attributes:
        data: prepared folder.
        encoder: frozen ``SLatEncoder``, the one that the latents of the flow were made with.
        decoder: arguments of ``SLatMeshDecoder``, with colours.
        max_voxels: assets with more are left out, which bounds memory and the seconds of a step.
        views: pictures and depths that are compared: "around" leaves out the condition views, where these have lights
            of their own; None for all.
        num_points: grid vertices, and as many mesh vertices, compared per asset and step.
        surface_weight: weight of the mean absolute distance of the mesh vertices from the seen surface, in units of
            the cut-off, beside the mean squared error of the grid's distances in the same units.
        color_weight: weight of the mean absolute colour difference at mesh vertices.
        normal_weight: weight of the same for normals.
        regularizer_weight: weight of the regulariser of FlexiCubes.
    """

    data: Path
    encoder: Path
    decoder: dict[str, Any]
    max_voxels: int = 2000
    views: ViewChoice | None = None
    num_points: int = 16384
    surface_weight: float = 0.5
    color_weight: float = 1.0
    normal_weight: float = 0.2
    regularizer_weight: float = 0.1


class MeshDecoderTask(Task):
    """Encode image features on voxels, decode a mesh, compare its field and its vertices with what the views show.

    Raises:
        InputError: if the decoder has no colours, or no asset of a split has at most ``max_voxels`` voxels.
    """

    def __init__(self, config: MeshDecoderConfig, *, seed: int, device: str) -> None:
        self.config, self.device = config, device
        if not config.decoder.get("representation_config", {}).get("use_color"):
            raise InputError("representation_config.use_color is not true; expected it, because colours are compared")
        self.encoder = load(config.encoder, device=device).eval().requires_grad_(False)
        self.module: Any = build("SLatMeshDecoder", **config.decoder).to(device)
        self.data = PreparedFolder(config.data)
        self.ids = {split: self.data.small_enough(split, config.max_voxels) for split in ("train", "val")}
        self.epochs = EpochSampler(len(self.ids["train"]), seed)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        ids = [self.ids["train"][i] for i in self.epochs.draw(draw)]
        self.last_draw = {"ids": ids}
        x = self._voxel_features(ids)
        mean, logvar = self.encoder(x)
        z = sample_posterior(mean.float(), logvar.float().clamp(-30, 20), generator=draw.generator)
        raw = self.module.cubes(x.replace(z))
        with torch.autocast(self.device.split(":")[0], enabled=False):
            meshes = self.module.to_meshes(raw)
            parts = [self._compare(sha, mesh, draw.generator) for sha, mesh in zip(ids, meshes, strict=True)]
        losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        config = self.config
        loss = losses["field"] + config.regularizer_weight * losses["regularizer"]
        loss = loss + config.surface_weight * losses["surface"]
        loss = loss + config.color_weight * losses["color"] + config.normal_weight * losses["normal"]
        return {"loss": loss, **losses}

    def _voxel_features(self, ids: list[str]) -> SparseTensor:
        items = list(files.in_threads(self.data.features, ids))
        # Widened one by one: what autocast makes of a concatenation on a CPU takes no float16.
        feats = torch.cat([feats.to(self.device).float() for _, feats in items])
        return SparseTensor(feats, pack_coords([coords for coords, _ in items]).to(self.device))

    def _compare(self, sha: str, mesh: ExtractedMesh, generator: torch.Generator) -> dict[str, Tensor]:
        views = DepthViews.from_views(self._views(sha), device=self.device)
        cell = 1 / (4 * self.module.resolution)
        reach = _REACH * cell
        terms, attributes = mesh.training, mesh.attributes
        assert terms is not None and attributes is not None
        chosen = self._choose(len(terms.grid_sdf), generator)
        positions = terms.grid_positions.detach()[chosen]
        with torch.no_grad():
            truth = closed_in_cube(views.sample(positions, reach=reach).distance, positions, cell=cell)
        vertices = self._choose(len(mesh.vertices), generator)
        samples = views.sample(mesh.vertices[vertices], reach=reach)
        seen = samples.seen.float()
        count = seen.sum().clamp_min(1)
        color, normal = attributes[vertices].split(3, dim=1)
        return {
            "field": ((terms.grid_sdf[chosen] - truth / reach) ** 2).mean(),
            "surface": (samples.distance.abs() / reach * seen).sum() / count,
            "color": ((color - samples.color.detach()).abs().mean(1) * seen).sum() / count,
            "normal": ((2 * normal - 1 - samples.normal.detach()).abs().mean(1) * seen).sum() / count,
            "regularizer": terms.regularizer,
        }

    def _views(self, sha: str) -> list[View]:
        views = self.data.open_views(sha, only=self.config.views)
        return list(files.in_threads(views.__getitem__, range(len(views))))

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        figures: list[dict[str, float]] = []
        pictures: list[tuple[Tensor, Tensor]] = []
        for sha in self.ids["val"][:_NUM_EVALUATED]:
            x = self._voxel_features([sha])
            mean, _ = self.encoder(x)
            raw = self.module.cubes(x.replace(mean))
            generator = torch.Generator().manual_seed(0)
            training = mesh_from_cubes(
                raw.feats, raw.coords[:, 1:], resolution=4 * self.module.resolution, training=True
            )
            parts = self._compare(sha, training, generator)
            figures.append({name: float(value) for name, value in parts.items()})
            if len(pictures) < _NUM_PICTURES:
                pictures.append(_compare_pictures(self.module.to_meshes(raw)[0].to_mesh(), self._views(sha)[0]))
        save_image_grid(folder / f"samples_{step:07d}.png", [list(row) for row in zip(*pictures, strict=True)])
        means = {name: sum(figure[name] for figure in figures) / len(figures) for name in figures[0]}
        return {"field_rmse_cells": _REACH * means["field"] ** 0.5, "surface_cells": _REACH * means["surface"]} | {
            name: means[name] for name in ("color", "normal")
        }

    def export(self, folder: Path) -> None:
        save(self.module, folder / "slat_dec_mesh")

    def _choose(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randint(max(num, 1), (min(num, self.config.num_points),), generator=generator).to(self.device)


def closed_in_cube(distance: Float[Tensor, "N"], points: Float[Tensor, "N 3"], *, cell: float) -> Float[Tensor, "N"]:
    """Signed distances of the object cut by the unit cube less half a cell.

    An object fills the cube along its longest side. A surface on the very border of the grid would stay open, because
    FlexiCubes has no cubes beyond.
    """
    return torch.maximum(distance, points.abs().amax(1) - 0.5 + cell / 2)


def _compare_pictures(mesh: Mesh, view: View) -> tuple[Tensor, Tensor]:
    """The object and the mesh over white, from one camera."""
    pixels = np.stack([view.rgba, render_mesh(mesh, view.camera, size=len(view.depth))])
    rgba = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    truth, picture = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
    return truth, picture
