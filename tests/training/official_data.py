"""A data set in the folders of TRELLIS, with made-up objects that fit the models of ``tests.pipelines.tiny``."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.pipelines.tiny import RESOLUTION

SS_MODEL = "ss_enc_conv3d_16l8_fp16"
SLAT_MODEL = "dinov2_vitl14_reg_slat_enc_swin8_B_64l8_fp16"
SIZE, NUM_VIEWS = 24, 3


def sha(number: int) -> str:
    return hashlib.sha256(b"object %d" % number).hexdigest()


def write_data(root: Path, *, num_objects: int = 5, channels: int = 8, **columns: dict[int, Any]) -> Path:
    """The table, both latents and the condition views.

    Args:
        root: made.
        num_objects: how many.
        channels: of both latents.
        columns: more columns, or other values, by the number of the object.
    """
    rows = []
    for number in range(num_objects):
        name, rng = sha(number), np.random.default_rng(number)
        voxels = np.argwhere(rng.random((RESOLUTION,) * 3) < 0.02 * (number + 1)).astype(np.uint8)
        write_npz(root / "ss_latents" / SS_MODEL / f"{name}.npz", mean=rng.normal(size=(channels, 4, 4, 4)))
        write_npz(
            root / "latents" / SLAT_MODEL / f"{name}.npz", feats=rng.normal(size=(len(voxels), channels)), coords=voxels
        )
        write_views(root / "renders_cond" / name, number)
        row = {
            "sha256": name,
            "file_identifier": f"https://example.org/{number}",
            "aesthetic_score": 5.0 + number / 10,
            "captions": json.dumps(["a thing, made up", "another"]),
            "cond_rendered": True,
            "num_voxels": len(voxels),
            f"ss_latent_{SS_MODEL}": True,
            f"latent_{SLAT_MODEL}": True,
        }
        rows.append(row | {key: values[number] for key, values in columns.items() if number in values})
    write_table(root, rows)
    return root


def write_table(root: Path, rows: list[dict[str, Any]]) -> None:
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(root: Path) -> list[dict[str, Any]]:
    with (root / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_views(folder: Path, number: int) -> None:
    """Rectangles whose colour tells the object (red) and the view (green)."""
    folder.mkdir(parents=True)
    frames = []
    for view in range(NUM_VIEWS):
        pixels = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
        pixels[4:16, 6 : 14 + number] = (40 * number + 15, 60 * view + 30, 90, 255)
        Image.fromarray(pixels).save(folder / f"{view:03d}.png")
        frames.append({"file_path": f"{view:03d}.png", "camera_angle_x": 0.7, "transform_matrix": np.eye(4).tolist()})
    (folder / "transforms.json").write_text(json.dumps({"aabb": [[-0.5] * 3, [0.5] * 3], "frames": frames}))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: array if array.dtype == np.uint8 else array.astype(np.float32) for name, array in arrays.items()}
    np.savez_compressed(path, **kept)
