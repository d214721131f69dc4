"""A prepared folder in the real layout: cubes of three sizes on an 8^3 grid, seen from the cameras of the protocol."""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mdtdist.data import files
from mdtdist.data.views import NUM_COND_VIEWS, asset_cameras

RESOLUTION, SIZE = 8, 32
SPLITS = {"train": 5, "val": 2, "test": 3}


def write_prepared(root: Path) -> Path:
    """Write the folder; the tokens of a picture say how large its cube is."""
    rows, generator = [], np.random.default_rng(0)
    for split, count in SPLITS.items():
        for number in range(count):
            sha256 = hashlib.sha256(f"{split}{number}".encode()).hexdigest()
            side = 3 + number % 3
            rows.append({"sha256": sha256, "name": f"cube {side}", "split": split, "status": "ok"})
            indices = np.argwhere(np.ones((side, side, side))).astype(np.uint8) + 1
            files.write_npz(files.voxel_path(root, sha256), indices=indices)
            tokens = np.zeros((NUM_COND_VIEWS, 2, 49, 896), np.float16)
            tokens[..., :8] = side + 0.1 * generator.standard_normal((NUM_COND_VIEWS, 2, 1, 8))
            files.write_npz(files.cond_path(root, sha256), tokens=tokens)
            write_renders(files.render_folder(root, sha256), side, seed=number)
    files.write_csv(root / "metadata.csv", rows, columns=files.COLUMNS)
    return root


def write_renders(folder: Path, side: int, *, seed: int) -> None:
    """A coloured square per view, on a transparent background."""
    folder.mkdir(parents=True)
    frames = []
    for index, camera in enumerate(asset_cameras(seed)):
        image = Image.new("RGBA", (SIZE, SIZE))
        image.paste((40 * side, 15 * index, 90, 255), (16 - 2 * side, 16 - 2 * side, 16 + 2 * side, 16 + 2 * side))
        image.save(folder / f"{index:03d}.png")
        Image.fromarray(np.zeros((SIZE, SIZE), np.uint16)).save(folder / f"{index:03d}_depth.png")
        frames.append(
            {
                "file_path": f"{index:03d}.png",
                "depth_path": f"{index:03d}_depth.png",
                "depth_scale": 1e-4,
                "camera_angle_x": camera.fov,
                "transform_matrix": camera.camera_to_world.tolist(),
                "cond": index < NUM_COND_VIEWS,
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
