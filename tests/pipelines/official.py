"""A folder exactly as TRELLIS publishes its models, with tiny networks of random weights.

``pipeline.json`` is spelled out here and not written by our code: it is the format that has to be understood.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from mdtdist.conditioning.dinov2 import DinoVisionTransformer
from tests.pipelines.tiny import COND_CHANNELS, random_network

NAMES = {
    "sparse_structure_decoder": "ckpts/ss_dec_conv3d_16l8_fp16",
    "sparse_structure_flow_model": "ckpts/ss_flow_img_dit_L_16l8_fp16",
    "slat_decoder_gs": "ckpts/slat_dec_gs_swin8_B_64l8gs32_fp16",
    "slat_flow_model": "ckpts/slat_flow_img_dit_L_64l8p2_fp16",
}
MEAN = [0.25 * channel - 1 for channel in range(8)]
STD = [1.0 + 0.5 * channel for channel in range(8)]


def pipeline_json(*, name: str = "TrellisImageTo3DPipeline", **condition: str) -> dict:
    """The content of ``pipeline.json``."""
    sampler = {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": 1e-5},
        "params": {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
    }
    return {
        "name": name,
        "args": {
            "models": dict(NAMES),
            "sparse_structure_sampler": sampler,
            "slat_sampler": sampler,
            "slat_normalization": {"mean": MEAN, "std": STD},
            **(condition or {"image_cond_model": "dinov2_vitl14_reg"}),
        },
    }


def write_official(folder: Path, *, with_encoder: bool = False) -> Path:
    """Write the folder; the torsos are stored in float16, the heads in float32.

    Args:
        folder: made.
        with_encoder: a tiny image encoder in the folder in place of the name of the published one.
    """
    (folder / "ckpts").mkdir(parents=True)
    for seed, (role, base) in enumerate(NAMES.items()):
        network = random_network(role, seed)
        torso = {
            key: value.half() if "blocks." in key and value.ndim > 1 else value
            for key, value in network.state_dict().items()
        }
        (folder / f"{base}.json").write_text(json.dumps(network.config))
        save_file(torso, folder / f"{base}.safetensors")
    condition = {}
    if with_encoder:
        condition["image_cond_model"] = "ckpts/dinov2_tiny"
        args = {"img_size": 28, "patch_size": 14, "embed_dim": COND_CHANNELS, "depth": 1, "num_heads": 2}
        torch.manual_seed(0)
        save_file(DinoVisionTransformer(**args).state_dict(), folder / "ckpts/dinov2_tiny.safetensors")
        (folder / "ckpts/dinov2_tiny.json").write_text(json.dumps({"name": "DinoVisionTransformer", "args": args}))
    (folder / "pipeline.json").write_text(json.dumps(pipeline_json(**condition)))
    return folder


def perturbed(role: str, *, seed: int = 7) -> dict[str, torch.Tensor]:
    """The float32 state dict of another network of the same shapes: a student."""
    return {key: value.clone() for key, value in random_network(role, seed).state_dict().items()}
