"""Compare the two surfaces of mini, the learned mesh decoder and marching cubes, on held-out objects.

    python recipes/mini/compare_meshes.py [--data runs/data] [--out docs/results] [--objects 24]

Each is made twice: of the object's own voxels and encoded latents (what the decoder can do), and of what the student
generates in one step per flow from a picture (what a user gets). Colours are vertex colours, from the decoder itself or
from the Gaussians. Figures are means over the twelve rendered views of every object: intersection over union of the
silhouettes, and mean absolute colour difference over white.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from mdtdist import ImageTo3D
from mdtdist.data import PreparedFolder
from mdtdist.data.views import View
from mdtdist.evaluation.metrics.bootstrap import bootstrap_mean
from mdtdist.export import extract_surface, finish_mesh
from mdtdist.files import appear_whole
from mdtdist.models import load
from mdtdist.render import render_mesh
from mdtdist.representations import Gaussians, Mesh
from mdtdist.sparse import SparseTensor, pack_coords

SHOWN = 8
CERTAIN = 5.0  # logit of a voxel that is known
TITLES = {
    "encoded": "own voxels, encoded latents",
    "generated": "generated, 1 step per flow",
}
SURFACES = ("learned", "marching cubes")
Figures = dict[tuple[str, str], list[tuple[float, float]]]


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Straight RGBA to colours in [0, 1]."""
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] / 255 * alpha + 1 - alpha


def marching_cubes(logits: torch.Tensor, gaussians: Gaussians) -> Mesh:
    """The mesh of a model without mesh decoder."""
    return finish_mesh(extract_surface(logits), gaussians, faces=None, texture_size=None).mesh


def compare(mesh: Mesh, views: list[View]) -> tuple[float, float]:
    """Silhouette IoU and colour difference, means over the views."""
    figures = []
    for view in views:
        rgba = render_mesh(mesh, view.camera, size=len(view.depth))
        a, b = rgba[..., 3] > 127, view.rgba[..., 3] > 127
        figures.append(((a & b).sum() / (a | b).sum(), np.abs(over_white(rgba) - over_white(view.rgba)).mean()))
    return tuple(np.mean(figures, axis=0).tolist())


@torch.no_grad()
def surfaces(pipe: ImageTo3D, data: PreparedFolder, sha: str, encoder: torch.nn.Module) -> dict[tuple[str, str], Mesh]:
    """All four meshes of an object."""
    voxels, features = data.features(sha)
    latents, _ = encoder(SparseTensor(features.float(), pack_coords([voxels])))
    z = SparseTensor(latents, pack_coords([voxels]))
    logits = torch.where(data.occupancy(sha), CERTAIN, -CERTAIN)
    asset = pipe(Image.fromarray(data.views(sha)[3].rgba), decoders=("gs", "mesh"))
    return {
        ("encoded", "learned"): pipe.network("slat_decoder_mesh")(z)[0].to_mesh(),
        ("encoded", "marching cubes"): marching_cubes(logits, pipe.network("slat_decoder_gs")(z)[0]),
        ("generated", "learned"): asset.surface,
        ("generated", "marching cubes"): marching_cubes(asset.logits, asset.gaussians),
    }


def report(figures: Figures, num_objects: int) -> str:
    """The table."""
    lines = [
        "# Two surfaces of `mini`",
        "",
        f"{num_objects} held-out test objects, 12 views of 128 px each, one seed; made by",
        "`python recipes/mini/compare_meshes.py`. IoU of silhouettes (higher is better), mean absolute colour",
        "difference over white (lower is better). Differences are learned minus marching cubes with 95 % bootstrap",
        "intervals over the objects.",
        "",
        "| made of | surface | silhouette IoU | colour difference |",
        "|---|---|---:|---:|",
    ]
    for source, title in TITLES.items():
        rows = {surface: np.array(figures[source, surface]) for surface in SURFACES}
        for surface, values in rows.items():
            iou, color = values.mean(0)
            lines.append(f"| {title} | {surface} | {iou:.3f} | {color:.4f} |")
        cells = []
        for column, digits in ((0, 3), (1, 4)):
            learned, plain = (rows[surface][:, column] for surface in SURFACES)
            gap = bootstrap_mean(learned - plain)
            cells.append(f"{gap.value:+.{digits}f} [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]")
        lines.append(f"| {title} | *difference* | {cells[0]} | {cells[1]} |")
    lines += ["", "Rows: the object; learned and marching cubes of its own voxels; the same two of what was generated."]
    return "\n".join([*lines, "", "![both surfaces of held-out objects](mini_meshes.png)", ""])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--objects", type=int, default=24)
    args = parser.parse_args()
    data, pipe = PreparedFolder(args.data), ImageTo3D.from_pretrained("mini")
    encoder = load(pipe.config.files("slat_encoder")).eval()
    ids = data.ids("test")
    figures: Figures = {}
    columns = []
    for sha in tqdm(ids[:: max(1, len(ids) // args.objects)][: args.objects]):
        views = data.views(sha)
        made = surfaces(pipe, data, sha, encoder)
        for key, mesh in made.items():
            figures.setdefault(key, []).append(compare(mesh, views))
        pictures = [views[3].rgba, *(render_mesh(mesh, views[3].camera, size=128) for mesh in made.values())]
        columns.append(np.concatenate([over_white(picture) for picture in pictures]))
    with appear_whole(args.out / "mini_meshes.md") as partial:
        partial.write_text(report(figures, len(columns)))
    picture = (255 * np.concatenate(columns[:SHOWN], axis=1)).round().astype(np.uint8)
    with appear_whole(args.out / "mini_meshes.png") as partial:
        Image.fromarray(picture).save(partial, "PNG")


if __name__ == "__main__":
    main()
