"""The networks of this package at toy size, with random weights in every layer."""

from typing import Any

import torch
from torch import nn

from mdtdist.models import build

REPRESENTATION = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 4,
    "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 9e-4,
    "scaling_bias": 4e-3,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}
_TRANSFORMER = {"resolution": 8, "model_channels": 24, "num_blocks": 2, "num_heads": 2, "mlp_ratio": 2}
_FLOW = {**_TRANSFORMER, "in_channels": 4, "out_channels": 4, "cond_channels": 10, "qk_rms_norm": True}
_VAE = {"latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1}

CONFIGS: dict[str, dict[str, Any]] = {
    "SparseStructureEncoder": {**_VAE, "in_channels": 1, "channels": [4, 8]},
    "SparseStructureDecoder": {**_VAE, "out_channels": 1, "channels": [8, 4]},
    "SparseStructureFlowModel": {**_FLOW, "resolution": 4, "patch_size": 2},
    "SLatEncoder": {**_TRANSFORMER, "in_channels": 6, "latent_channels": 4, "window_size": 4},
    "SLatGaussianDecoder": {
        **_TRANSFORMER,
        "latent_channels": 4,
        "window_size": 4,
        "representation_config": REPRESENTATION,
    },
    "SLatRadianceFieldDecoder": {
        **_TRANSFORMER,
        "latent_channels": 4,
        "window_size": 4,
        "representation_config": {"rank": 2, "dim": 3},
    },
    "SLatFlowModel": {**_FLOW, "patch_size": 2, "io_block_channels": [8]},
}


def tiny(name: str, *, seed: int = 0, **changes: Any) -> nn.Module:
    """A toy network in float64, evaluation mode."""
    network = build(name, **{**CONFIGS[name], **changes}).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return network
