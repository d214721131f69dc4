"""Collect the networks that a recipe trained into a model folder.

    python recipes/pack.py recipes/mini [--variant paper] [--runs DIR] [--out DIR]

``pack.toml`` in the folder of the recipe says what goes where. Weights are stored in float16. Generation does not need
the encoder of the structured latents; it is there so that other flows and decoders can be trained on the same latents.
"""

import argparse
import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mdtdist.files import appear_whole
from mdtdist.models import load, save
from mdtdist.pipelines.config import PipelineConfig, SamplerConfig

STAGES = ("structure", "latent")


@dataclass(frozen=True, kw_only=True)
class Packing:
    """One kind of model that is made of the runs of a recipe.

    Attributes:
        runs: folder of the training runs.
        out: model folder.
        networks: role in ``pipeline.json`` -> (file below ``runs``, name in the model folder), without suffixes.
        image_encoder: (file below ``runs``, name in the model folder), without suffixes.
        normalization: file below ``runs`` with the statistics of the structured latents.
        time_scale: network time at pure noise.
        guidance: of the teacher's flows, chosen on the validation split; the students were distilled with it.
        default_decoders: what ``generate`` decodes unless told otherwise.
    """

    runs: Path
    out: Path
    networks: dict[str, tuple[str, str]]
    image_encoder: tuple[str, str]
    normalization: str
    time_scale: float
    guidance: dict[str, float]
    default_decoders: tuple[str, ...]


def read_packing(recipe: Path, variant: str | None = None) -> Packing:
    """The packing of a recipe; a variant has an ``out`` of its own and adds or replaces networks."""
    table: dict[str, Any] = tomllib.loads((recipe / "pack.toml").read_text())
    variants = table.pop("variant", {})
    if variant is not None:
        if variant not in variants:
            raise SystemExit(f"{recipe}/pack.toml has no variant {variant!r}; it has {', '.join(variants) or 'none'}")
        chosen = variants[variant]
        table |= {"out": chosen["out"], "networks": table["networks"] | chosen["networks"]}
    return Packing(
        runs=Path(table["runs"]),
        out=Path(table["out"]),
        networks={role: (source, name) for role, (source, name) in table["networks"].items()},
        image_encoder=(table["image_encoder"][0], table["image_encoder"][1]),
        normalization=table["normalization"],
        time_scale=table["time_scale"],
        guidance=table["guidance"],
        default_decoders=tuple(table["default_decoders"]),
    )


def pack(packing: Packing) -> int:
    """Write the model folder; returns its bytes."""
    runs, out = packing.runs, packing.out
    out.mkdir(parents=True, exist_ok=True)
    for source, name in packing.networks.values():
        save(load(runs / source), out / name, dtype=torch.float16)
    source, name = packing.image_encoder
    for suffix in (".json", ".safetensors"):
        with appear_whole(out / f"{name}{suffix}") as partial:
            shutil.copyfile(runs / f"{source}{suffix}", partial)
    with appear_whole(out / "pipeline.json") as partial:
        partial.write_text(json.dumps(_pipeline(packing).to_json(), indent=2) + "\n")
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _pipeline(packing: Packing) -> PipelineConfig:
    normalization = json.loads((packing.runs / packing.normalization).read_text())
    teacher = {
        ("teacher", stage): SamplerConfig(
            steps=25, rescale_t=3.0, cfg_strength=packing.guidance[stage], cfg_interval=(0.5, 1.0)
        )
        for stage in STAGES
    }
    student = {("student", stage): SamplerConfig(steps=1, cfg_strength=0.0) for stage in STAGES}
    return PipelineConfig(
        models={role: name for role, (_, name) in packing.networks.items()},
        samplers=teacher | student,
        slat_mean=tuple(normalization["mean"]),
        slat_std=tuple(normalization["std"]),
        image_cond_model=packing.image_encoder[1],
        time_scale=packing.time_scale,
        default_decoders=packing.default_decoders,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="folder with a pack.toml, for example recipes/mini")
    parser.add_argument("--variant", help="another model of the same runs, by its name in pack.toml")
    parser.add_argument("--runs", type=Path, help="folder of the training runs, where it is not that of pack.toml")
    parser.add_argument("--out", type=Path, help="model folder, where it is not that of pack.toml")
    args = parser.parse_args()
    packing = read_packing(args.recipe, args.variant)
    given = {name: value for name in ("runs", "out") if (value := getattr(args, name)) is not None}
    packing = Packing(**(vars(packing) | given))
    print(f"{packing.out}: {pack(packing) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
