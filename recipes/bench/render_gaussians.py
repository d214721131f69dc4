"""Time to render 500 assets of Gaussians from 4 views at 256 px, extrapolated from a few, on a CPU and on CUDA.

    python recipes/bench/render_gaussians.py [--assets 4] [--splats 300000] [--size 256] [--json]

Two kinds of assets: those of the shipped model (generated from the pictures in ``examples/``) and synthetic ones of the
size that TRELLIS makes, bumpy shells of 300 000 splats. Each is rendered as ``mdtdist evaluate`` does it, pictures,
depths and normals, with one thread. Bar: 15 minutes for 2000 views on 2 cores, which is 0.9 CPU seconds per view. CPU
seconds (``time.process_time``) do not depend on what else the machine does, apart from its caches; two cores halve
them when two processes share the assets. On CUDA the time is that of the clock, transfers included.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

import mdtdist
from mdtdist.evaluation.assets.pictures import render_views
from mdtdist.evaluation.assets.reading import asset_of_gaussians
from mdtdist.render import orbit_camera, render_gaussians
from mdtdist.representations import Gaussians

ASSETS, VIEWS, BAR = 500, 4, 15 * 60
_EXAMPLES = Path(__file__).parents[2] / "examples"
_CAMERAS = [orbit_camera(math.radians(yaw), math.radians(30)) for yaw in (0, 90, 180, 270)]


def shipped_assets(count: int) -> list[Gaussians]:
    """What the shipped model makes of the example pictures."""
    pipe = mdtdist.ImageTo3D.from_pretrained("mini")
    paths = sorted(_EXAMPLES.glob("*.png"))[:count]
    return [pipe(Image.open(path), steps=1, seed=0).gaussians for path in paths]


def shell(num_splats: int, *, seed: int) -> Gaussians:
    """A bumpy sphere one voxel of 64^3 thick."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(num_splats, 3, generator=generator), dim=1)
    thickness = (torch.rand(num_splats, generator=generator) - 0.5) / 64
    radius = 0.4 + 0.03 * torch.sin(20 * directions).prod(1) + thickness
    return Gaussians(
        means=directions * radius[:, None],
        scales=0.003 * torch.exp(0.5 * torch.randn(num_splats, 3, generator=generator)),
        rotations=torch.randn(num_splats, 4, generator=generator),
        opacities=torch.sigmoid(2 * torch.randn(num_splats, generator=generator) + 1),
        sh=torch.randn(num_splats, 1, 3, generator=generator),
    )


def seconds(render: Callable[[Gaussians], object], scenes: list[Gaussians], clock: Callable[[], float]) -> float:
    """Per view; the first asset is rendered once before, unmeasured."""
    render(scenes[0])
    start = clock()
    for scene in scenes:
        render(scene)
    return (clock() - start) / (len(scenes) * VIEWS)


def measure(scenes: list[Gaussians], *, size: int, device: str) -> dict[str, float | int | str | bool]:
    """Seconds per view, and minutes for all assets."""
    if device == "cpu":

        def render(scene: Gaussians) -> object:
            return render_views(asset_of_gaussians(scene), _CAMERAS, size=size)

        per_view = seconds(render, scenes, time.process_time)
    else:

        def render(scene: Gaussians) -> object:
            on_device = scene.to(device)
            return [render_gaussians(on_device, camera, size=size).color.cpu() for camera in _CAMERAS]

        with torch.no_grad():
            per_view = seconds(render, scenes, time.perf_counter)
    cores = 2 if device == "cpu" else 1
    total = per_view * ASSETS * VIEWS / cores
    return {
        "device": device,
        "splats": round(sum(len(scene) for scene in scenes) / len(scenes)),
        "seconds_per_view": round(per_view, 4),
        f"minutes_for_{ASSETS}x{VIEWS}": round(total / 60, 2),
        "cores": cores,
        "within_bar": total < BAR,
    }


def main() -> None:
    """Print a line per kind of assets and device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=4)
    parser.add_argument("--splats", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {
        "shipped model": shipped_assets(args.assets),
        "synthetic": [shell(args.splats, seed=seed) for seed in range(args.assets)],
    }
    for kind, scenes in kinds.items():
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            row = {"assets": kind, **measure(scenes, size=args.size, device=device)}
            print(json.dumps(row) if args.json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
