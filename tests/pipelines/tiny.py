"""A pipeline folder in the official layout with tiny networks of random weights."""

import json
from pathlib import Path

import torch
from torch import nn

from mdtdist import models
from mdtdist.conditioning.tokens import ImageTokenEncoder
from mdtdist.pipelines import PipelineConfig, SamplerConfig

RESOLUTION = 8  # voxels a side
COND_CHANNELS = 12
SLAT_MEAN, SLAT_STD = (0.5,) * 8, (2.0,) * 8

_FLOW = dict(
    in_channels=8, out_channels=8, model_channels=24, cond_channels=COND_CHANNELS, num_blocks=1, num_heads=2,
    mlp_ratio=2, pe_mode="ape", qk_rms_norm=True,
)  # fmt: skip
_REPRESENTATION = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 0.1, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 4, "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 9e-4, "scaling_bias": 0.02, "opacity_bias": 0.5, "scaling_activation": "softplus",
}  # fmt: skip
ARGS = {
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        dict(out_channels=1, latent_channels=8, num_res_blocks=1, num_res_blocks_middle=1, channels=[16, 8]),
    ),
    "slat_decoder_gs": (
        "ElasticSLatGaussianDecoder",
        dict(
            resolution=RESOLUTION, model_channels=24, latent_channels=8, num_blocks=1, num_heads=2, mlp_ratio=2,
            attn_mode="swin", window_size=8, representation_config=_REPRESENTATION,
        ),
    ),
    "sparse_structure_flow_model": ("SparseStructureFlowModel", dict(resolution=4, patch_size=1, **_FLOW)),
    "slat_flow_model": (
        "ElasticSLatFlowModel",
        dict(resolution=RESOLUTION, patch_size=2, num_io_res_blocks=1, io_block_channels=[8], **_FLOW),
    ),
}  # fmt: skip
_MORE_DECODERS = {
    "slat_decoder_mesh": (
        "ElasticSLatMeshDecoder",
        dict(
            resolution=RESOLUTION, model_channels=256, latent_channels=8, num_blocks=1, num_heads=2, mlp_ratio=0.25,
            attn_mode="swin", window_size=8, representation_config={"use_color": True},
        ),
    ),
    "slat_decoder_rf": (
        "ElasticSLatRadianceFieldDecoder",
        dict(
            resolution=RESOLUTION, model_channels=24, latent_channels=8, num_blocks=1, num_heads=2, mlp_ratio=2,
            attn_mode="swin", window_size=8, representation_config={"rank": 2, "dim": 4},
        ),
    ),
}  # fmt: skip


def random_network(role: str, seed: int) -> nn.Module:
    """The network of a role, the same in every run.

    Random values also where the initialisation is zero, so that every input reaches the output.
    """
    name, args = (ARGS | _MORE_DECODERS)[role.removesuffix("_student")]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)  # the initialisation draws from the global generator
        network = models.build(name, **args)
        for parameter in network.parameters():
            scale = 1 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(scale * torch.randn(parameter.shape))
    return network


def write_pipeline(folder: Path, *, students: bool = True, all_decoders: bool = False, first_seed: int = 0) -> Path:
    """Write the folder; with ``students`` also the two student flows, with ``all_decoders`` mesh and radiance field."""
    roles = [*ARGS, *(_MORE_DECODERS if all_decoders else [])]
    if students:
        roles += ["sparse_structure_flow_model_student", "slat_flow_model_student"]
    for seed, role in enumerate(roles, first_seed):
        models.save(random_network(role, seed), folder / "ckpts" / role)
    generator = torch.Generator().manual_seed(0)
    components = torch.randn(896, COND_CHANNELS, generator=generator) / 30
    ImageTokenEncoder.with_projection(torch.zeros(896), components).save(folder / "ckpts" / "image_tokens")
    teacher = SamplerConfig(steps=5, rescale_t=3.0, cfg_strength=2.0, cfg_interval=(0.5, 1.0))
    student = SamplerConfig(steps=1, cfg_strength=0.0)
    config = PipelineConfig(
        models={role: f"ckpts/{role}" for role in roles},
        samplers={(f, s): c for f, c in (("teacher", teacher), ("student", student)) for s in ("structure", "latent")},
        slat_mean=SLAT_MEAN,
        slat_std=SLAT_STD,
        image_cond_model="ckpts/image_tokens",
    )
    (folder / "pipeline.json").write_text(json.dumps(config.to_json()))
    return folder
