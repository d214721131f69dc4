"""The layout ``small``: turned objects of a bundle, voxels on 64^3, pictures from the front and around, attributes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from mdtdist.data import files
from mdtdist.data.layouts import Layout, Row, Stage, first_view
from mdtdist.data.sources import Asset
from mdtdist.representations.triangles import TexturedTriangles

RESOLUTION = 64
_LONGEST_EDGE = 4.0  # of a part, voxels: shorter ones are more parts, longer ones have larger boxes
FEATURES = "surface_attributes"
_COLUMNS = (
    *("sha256", "name", "category", "source_id", "creator", "license", "object", "yaw", "split", "status", "reason"),
    *("num_voxels", "num_faces", "voxelized", "rendered", f"feature_{FEATURES}"),
)


def small_layout() -> Layout:
    """The folder of the model ``small``; assets are those of :func:`mdtdist.data.small.turned`."""
    return Layout(
        name="small",
        stages=(
            _stage("voxels", make_voxels, ()),
            _stage("renders", make_renders, ()),
            _stage("attributes", make_attributes, ("voxels", "renders")),
        ),
        columns=_COLUMNS,
        picture=first_view,
        has_separate_latents=True,
        carried=("object", "yaw", "split"),
        contents=files.Contents(layout="small", resolution=RESOLUTION, features=FEATURES),
    )


def make_voxels(asset: Asset, out: Path) -> None:
    """Surface voxels of an item."""
    from mdtdist.data.small.turns import load_turned

    triangles = load_turned(asset)
    indices = surface_voxels(triangles, resolution=RESOLUTION)
    files.write_npz(files.voxel_path(out, asset.sha256), indices=indices, num_faces=len(triangles.faces))


def make_renders(asset: Asset, out: Path) -> None:
    """Views of an item."""
    from mdtdist.data.small.turns import load_turned
    from mdtdist.data.small.views import render_views
    from mdtdist.data.views import write_views

    views = render_views(load_turned(asset), seed=_seed(asset))
    write_views(files.render_folder(out, asset.sha256), views)


def make_attributes(asset: Asset, out: Path) -> None:
    """Surface attributes on the voxels of an item, by its views, and what mirroring does to them."""
    from mdtdist.data.small.attributes import mirror_rule, voxel_attributes
    from mdtdist.data.small.turns import load_turned
    from mdtdist.data.views import read_views

    with np.load(files.voxel_path(out, asset.sha256)) as data:
        indices = data["indices"]
    views = read_views(files.render_folder(out, asset.sha256))
    values = voxel_attributes(indices, load_turned(asset), views, resolution=RESOLUTION, seed=_seed(asset))
    order, sign = mirror_rule()
    files.write_npz(
        files.feature_path(out, asset.sha256, features=FEATURES),
        indices=indices,
        patchtokens=values.astype(np.float16),
        mirror_order=order,
        mirror_sign=sign,
    )


def surface_voxels(triangles: TexturedTriangles, *, resolution: int) -> UInt8[np.ndarray, "N 3"]:
    """What :func:`mdtdist.data.voxelize.voxelize_surface` finds, a tenth of the work for large faces askew.

    A face is tested against all voxels of its box, which for a wall that was turned are those of the whole cube; the
    boxes of its parts hold few. See-through faces are sampled and stay whole.
    """
    from mdtdist.data.voxelize import occupancy_grid, triangle_voxels, voxelize_surface

    is_sampled = np.array([material.has_holes for material in triangles.materials])[triangles.face_material]
    parts = _parts(triangles.triangles[~is_sampled], longest=_LONGEST_EDGE / resolution)
    faces, material = triangles.faces[is_sampled], triangles.face_material[is_sampled]
    sampled = voxelize_surface(replace(triangles, faces=faces, face_material=material), resolution=resolution)
    found = np.concatenate([triangle_voxels(parts, resolution=resolution), sampled])
    return np.argwhere(occupancy_grid(found, resolution=resolution)).astype(np.uint8)


def _parts(corners: Float[np.ndarray, "F 3 3"], *, longest: float) -> Float[np.ndarray, "P 3 3"]:
    """Triangles in quarters until no edge is longer."""
    small = []
    while len(corners):
        middles = (corners + np.roll(corners, -1, axis=1)) / 2  # of the edges after corner 0, 1 and 2
        is_small = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2).max(axis=1) <= longest
        small.append(corners[is_small])
        tips = np.stack([corners, middles, np.roll(middles, 1, axis=1)], axis=2)[~is_small]  # [F, tip, corner, xyz]
        corners = np.concatenate([tips.reshape(-1, 3, 3), middles[~is_small]])
    return np.concatenate([np.zeros((0, 3, 3)), *small])


@dataclass(frozen=True)
class _IsDone:
    """Whether the last file of a stage is there."""

    stage: str

    def __call__(self, out: Path, sha256: str) -> bool:
        return files.is_done(out, self.stage, sha256, features=FEATURES)


@dataclass(frozen=True)
class _Columns:
    """What ``metadata.csv`` says of an item after a stage."""

    stage: str

    def __call__(self, out: Path, sha256: str) -> Row:
        is_done = _IsDone(self.stage)(out, sha256)
        flag = {"voxels": "voxelized", "renders": "rendered"}.get(self.stage, f"feature_{FEATURES}")
        row: Row = {flag: is_done}
        if self.stage == "voxels" and is_done:
            with np.load(files.voxel_path(out, sha256)) as data:
                row |= {"num_voxels": len(data["indices"]), "num_faces": int(data["num_faces"])}
        return row


def _stage(name: str, run: Callable[[Asset, Path], None], needs: tuple[str, ...]) -> Stage:
    return Stage(name=name, run=run, is_done=_IsDone(name), needs=needs, columns=_Columns(name))


def _seed(asset: Asset) -> int:
    return int(asset.sha256[:16], 16)
