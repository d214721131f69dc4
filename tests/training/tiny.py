"""A prepared folder of a few made-up objects, toy networks for it, and TOML configs that use them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mdtdist import models
from mdtdist.conditioning import ImageTokenEncoder
from mdtdist.data import PreparedFolder, files
from mdtdist.data.views import View, _write_view
from mdtdist.data.voxelize import voxel_centers
from mdtdist.render.cameras import orbit_camera

FEATURES, COND_CHANNELS, SIZE = 6, 12, 16
SPLITS = {"train": 5, "val": 2, "test": 1}

REPRESENTATION = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 2,
    "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 1.8e-3,
    "scaling_bias": 1e-2,
    "opacity_bias": 0.4,
    "scaling_activation": "softplus",
}
_VAE = {"latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1}
_SLAT = {"resolution": 32, "model_channels": 12, "latent_channels": 4, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 1}
_FLOW = {
    **{"in_channels": 4, "out_channels": 4, "model_channels": 12, "cond_channels": COND_CHANNELS},
    **{"num_blocks": 1, "num_heads": 2, "mlp_ratio": 1, "patch_size": 2},
}
ENCODERS = {
    "structure": ("SparseStructureEncoder", {**_VAE, "in_channels": 1, "channels": [2, 4, 8]}),
    "latent": ("SLatEncoder", {**_SLAT, "in_channels": FEATURES}),
}
DECODERS = {
    "structure": ("SparseStructureDecoder", {**_VAE, "out_channels": 1, "channels": [8, 4, 2]}),
    "latent": ("SLatGaussianDecoder", {**_SLAT, "representation_config": REPRESENTATION}),
}
MESH_DECODER = (
    "SLatMeshDecoder",
    {**_SLAT, "model_channels": 256, "representation_config": {"use_color": True}},
)
FLOWS = {
    "structure": ("SparseStructureFlowModel", {**_FLOW, "resolution": 8}),
    "latent": ("SLatFlowModel", {**_FLOW, "resolution": 32, "num_io_res_blocks": 1, "io_block_channels": [8]}),
}
STAGES = ("structure", "latent")


def write_prepared(folder: Path) -> PreparedFolder:
    """Slabs with a bump on one side, so that no two objects and no mirror images are equal."""
    rng = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(split for split, count in SPLITS.items() for _ in range(count)):
        sha = f"{number:064x}"
        grid = np.zeros((32, 32, 32), dtype=bool)
        grid[8:20, 10 : 13 + number, 6] = True
        grid[8:10, 10, 7 : 10 + number] = True
        indices = np.argwhere(grid).astype(np.uint8)
        tokens = rng.normal(size=(2, 2, 49, 896)).astype(np.float16)
        features = rng.normal(size=(len(indices), FEATURES)).astype(np.float16)
        files.write_npz(files.voxel_path(folder, sha), indices=indices, num_faces=12, flatness=0.5)
        files.write_npz(files.feature_path(folder, sha), indices=indices, patchtokens=features)
        files.write_npz(files.cond_path(folder, sha), tokens=tokens)
        _write_renders(files.render_folder(folder, sha), indices)
        rows.append({"sha256": sha, "name": f"slab {number}", "split": split, "status": "ok"})
    files.write_csv(folder / "metadata.csv", rows, columns=files.COLUMNS)
    return PreparedFolder(folder)


def _write_renders(folder: Path, indices: np.ndarray) -> None:
    """Two orange silhouettes of the voxel centres."""
    centers = torch.from_numpy(voxel_centers(indices)).float()
    frames = []
    for number, yaw in enumerate((-1.6, 0.4)):
        camera = orbit_camera(yaw, 0.3)
        pixels, _ = camera.project(centers, SIZE)
        column, row = pixels.long().clamp(0, SIZE - 1).unbind(-1)
        rgba = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
        rgba[row, column] = (240, 130, 20, 255)
        depth = np.where(rgba[..., 3] > 0, np.float32(2), np.float32(0))
        frames.append(_write_view(folder, number, View(camera=camera, rgba=rgba, depth=depth, is_cond=number == 0)))
    files.write_json(folder / "transforms.json", {"frames": frames})


def randomized(name: str, args: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """A network with random values in every layer, also where training starts from zero."""
    network = models.build(name, **args)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            scale = 0.7 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network


def write_models(folder: Path) -> Path:
    """``<stage>_enc``, ``_dec`` and ``_flow`` of both stages, and ``image_encoder``."""
    for stage in STAGES:
        for seed, (suffix, table) in enumerate((("enc", ENCODERS), ("dec", DECODERS), ("flow", FLOWS))):
            name, args = table[stage]
            # One folder per stage: latents and their normalisation are kept beside the encoder.
            models.save(randomized(name, args, seed=seed), folder / stage / suffix)
    generator = torch.Generator().manual_seed(0)
    components = torch.randn(896, COND_CHANNELS, generator=generator) / 30
    ImageTokenEncoder.with_projection(torch.zeros(896), components).save(folder / "image_encoder")
    return folder


def stage_values(stage: str, prepared: Path, networks: Path) -> dict[str, Any]:
    """The table ``data`` of a stage."""
    return {
        "stage": stage,
        "prepared": str(prepared),
        "image_encoder": str(networks / "image_encoder"),
        "encoder": str(networks / stage / "enc"),
        "decoder": str(networks / stage / "dec"),
        "time_scale": 60.0,
    }


def write_toml(path: Path, values: Mapping[str, Any]) -> Path:
    """Write nested tables as TOML."""
    path.write_text("\n".join(_lines(values, "")) + "\n")
    return path


def _lines(values: Mapping[str, Any], prefix: str) -> list[str]:
    plain = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    tables = {f"{prefix}{json.dumps(key)}": value for key, value in values.items() if isinstance(value, dict)}
    return plain + [line for key, value in tables.items() for line in [f"[{key}]", *_lines(value, f"{key}.")]]
