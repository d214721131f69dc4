"""Time of the condition views of one asset: 24 views of 1024 px, drawn, compressed and written.

    python recipes/bench/render_views.py [MODEL.glb ...] [--renderer raster] [--threads 2] [--views 24] [--size 1024]

Without a model a bumpy sphere of 20 480 faces with a 1024 px texture is drawn, which covers more of the pictures than
most objects do. Bar: 5 s on 2 cores, which is 10 s of processor time; that number, unlike the seconds, does not depend
on what else the machine does. A first short view compiles the loops and is not counted. ``--check`` compares every view
with the plain ray caster.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh

from mdtdist.data.normalize import fit_to_cube
from mdtdist.data.sources import Asset, hash_file
from mdtdist.data.trellis import TrellisSettings
from mdtdist.data.trellis.normalization import NormalizedAsset, load_normalized_asset
from mdtdist.data.trellis.renders import draw_views, open_renderer
from mdtdist.data.trellis.view_law import condition_cameras
from mdtdist.representations.triangles import Material, TexturedTriangles

BAR = 10.0  # seconds of processor time


def bumpy_sphere() -> NormalizedAsset:
    """20 480 faces, a texture of noise, longitude and latitude as its coordinates."""
    sphere = trimesh.creation.icosphere(subdivisions=5)
    x, y, z = sphere.vertices.T
    vertices = sphere.vertices * (1 + 0.05 * np.sin(12 * x) * np.sin(12 * y) * np.sin(12 * z))[:, None]
    texture = np.random.default_rng(0).integers(0, 256, (1024, 1024, 4), dtype=np.uint8)
    texture[..., 3] = 255
    triangles = TexturedTriangles(
        vertices=vertices,
        faces=np.asarray(sphere.faces, dtype=np.int64),
        uv=np.stack([np.arctan2(y, x) / (2 * np.pi) + 0.5, np.arccos(z.clip(-1, 1)) / np.pi], axis=1),
        vertex_colors=np.ones_like(vertices),
        face_material=np.zeros(len(sphere.faces), dtype=np.int64),
        materials=(Material(color=(1.0, 1.0, 1.0), texture=texture),),
    )
    asset = Asset(source_id="bumpy sphere", sha256="0" * 64, path=Path("bumpy sphere"), name="sphere")
    return NormalizedAsset(asset=asset, triangles=fit_to_cube(triangles), scale=1.0, offset=(0.0, 0.0, 0.0))


def measure(normalized: NormalizedAsset, settings: TrellisSettings) -> dict[str, object]:
    """Seconds and processor seconds of all views of one model."""
    cameras = condition_cameras(normalized.asset.sha256, count=settings.num_cond_views)
    open_renderer(normalized, cameras, 16, settings).render(cameras[0], size=16, supersampling=1)
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        renderer = open_renderer(normalized, cameras, settings.cond_size, settings)
        draw_views(
            renderer,
            cameras,
            Path(folder),
            size=settings.cond_size,
            supersampling=settings.supersampling,
            threads=settings.threads,
        )
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        megabytes = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    return {
        "model": str(normalized.asset.path),
        "faces": len(normalized.triangles.faces),
        "renderer": settings.renderer,
        "threads": settings.threads,
        "views": settings.num_cond_views,
        "size": settings.cond_size,
        "seconds": round(wall, 2),
        "processor_seconds": round(processor, 2),
        "megabytes": round(megabytes, 1),
    }


def difference(normalized: NormalizedAsset, settings: TrellisSettings) -> dict[str, float]:
    """Shares of pixels that differ from the ray caster's, over all views."""
    cameras = condition_cameras(normalized.asset.sha256, count=settings.num_cond_views)
    twins = [
        open_renderer(normalized, cameras, settings.cond_size, replace(settings, renderer=name))
        for name in ("raster", "rays")
    ]
    gaps = []
    for camera in cameras:
        pair = [t.render(camera, size=settings.cond_size, supersampling=settings.supersampling).rgba for t in twins]
        gaps.append(np.abs(pair[0].astype(int) - pair[1].astype(int)).max(axis=-1))
    gap = np.stack(gaps)
    return {"differ": float((gap > 0).mean()), "differ_by_more_than_2": float((gap > 2).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--renderer", choices=("raster", "rays"), default="raster")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    settings = TrellisSettings(
        num_cond_views=options.views, cond_size=options.size, renderer=options.renderer, threads=options.threads
    )
    assets = [Asset(source_id=str(p), sha256=hash_file(p), path=p, name=p.stem) for p in options.models]
    for normalized in [load_normalized_asset(asset) for asset in assets] or [bumpy_sphere()]:
        result = measure(normalized, settings)
        if options.check:
            result |= difference(normalized, settings)
        print(json.dumps(result | {"bar": BAR}), flush=True)


if __name__ == "__main__":
    main()
