"""Collect the networks trained by the recipes of this folder into the shipped model.

    python recipes/mini/pack.py [--runs runs/mini] [--out src/mdtdist/assets/mini]

Weights are stored in float16. Generation does not need the encoder of the structured latents; it is there so that
other flows and decoders can be trained on the same latents.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import torch

from mdtdist.models import load, save
from mdtdist.pipelines.config import PipelineConfig, SamplerConfig

# Role in pipeline.json -> (file in the runs folder, name in the shipped model).
NETWORKS = {
    "sparse_structure_decoder": ("ss_vae/ss_dec", "ckpts/ss_dec"),
    "slat_encoder": ("slat_vae/slat_enc", "ckpts/slat_enc"),
    "slat_decoder_gs": ("slat_vae/slat_dec_gs", "ckpts/slat_dec_gs"),
    "slat_decoder_mesh": ("slat_dec_mesh/slat_dec_mesh", "ckpts/slat_dec_mesh"),
    "sparse_structure_flow_model": ("ss_flow/flow", "ckpts/ss_flow"),
    "slat_flow_model": ("slat_flow/flow", "ckpts/slat_flow"),
    "sparse_structure_flow_model_student": ("ss_student_endpoint/student", "ckpts/ss_flow_student"),
    "slat_flow_model_student": ("slat_student_endpoint/student", "ckpts/slat_flow_student"),
}
# Only for measuring the paper's objective beside ours; not shipped.
PAPER_NETWORKS = {
    "sparse_structure_flow_model_student": ("ss_student_paper/student", "ckpts/ss_flow_student"),
    "slat_flow_model_student": ("slat_student_paper/student", "ckpts/slat_flow_student"),
}


def pack(runs: Path, out: Path, networks: dict[str, tuple[str, str]]) -> None:
    """Write a model folder with the networks of ``runs``."""
    out.mkdir(parents=True, exist_ok=True)
    for source, name in networks.values():
        save(load(runs / source), out / name, dtype=torch.float16)
    for suffix in (".json", ".safetensors"):
        shutil.copyfile(runs / f"image_encoder{suffix}", out / f"ckpts/image_encoder{suffix}")
    normalization = json.loads((runs / "slat_vae/slat_normalization.json").read_text())
    # The guidance that the students were distilled with, chosen on the validation split.
    structure, latent = (
        SamplerConfig(steps=25, rescale_t=3.0, cfg_strength=w, cfg_interval=(0.5, 1.0)) for w in (1.0, 3.0)
    )
    config = PipelineConfig(
        models={role: name for role, (_, name) in networks.items()},
        samplers={
            ("teacher", "structure"): structure,
            ("teacher", "latent"): latent,
            ("student", "structure"): SamplerConfig(steps=1, cfg_strength=0.0),
            ("student", "latent"): SamplerConfig(steps=1, cfg_strength=0.0),
        },
        slat_mean=tuple(normalization["mean"]),
        slat_std=tuple(normalization["std"]),
        image_cond_model="ckpts/image_encoder",
        time_scale=60.0,
        default_decoders=("gs",),  # on generated voxels the mesh decoder leaves holes; see docs/models/mini.md
    )
    (out / "pipeline.json.new").write_text(json.dumps(config.to_json(), indent=2) + "\n")
    os.replace(out / "pipeline.json.new", out / "pipeline.json")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/mini"))
    parser.add_argument("--out", type=Path, default=Path("src/mdtdist/assets/mini"))
    parser.add_argument("--paper", action="store_true", help="the students of the paper's objective; needs --out")
    args = parser.parse_args()
    if args.paper and args.out == parser.get_default("out"):
        parser.error("--paper is for measuring, not for shipping: give another --out")
    pack(args.runs, args.out, NETWORKS | (PAPER_NETWORKS if args.paper else {}))
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
