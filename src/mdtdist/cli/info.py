"""``mdtdist info``: what a model is made of."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("info", help="describe a model")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="shipped model or folder; without it, list the shipped"
    )


def run(args: argparse.Namespace) -> int:
    """Print the networks, sizes and samplers of a model; reads no weights."""
    from mdtdist.pipelines.locate import locate_model, shipped_models

    if args.model is None:
        models = {name: str(folder) for name, folder in shipped_models().items()}
        print(json.dumps(models, indent=2) if args.json else "\n".join(models) or "no model is shipped")
        return 0
    description = describe_model(locate_model(args.model), args.model)
    print(json.dumps(description, indent=2) if args.json else _as_text(description))
    return 0


def describe_model(folder: Path, name: str) -> dict[str, Any]:
    """Networks (class, parameters, bytes), samplers and flows of a model folder, as plain data."""
    from mdtdist.pipelines.config import FLOW_ROLES, PipelineConfig

    config = PipelineConfig.read(folder)
    roles = {**config.models, "image_cond_model": config.image_cond_model}
    return {
        "model": name,
        "folder": str(folder),
        "flows": list(config.flows),
        "networks": {role: _describe_network(folder / base) for role, base in roles.items()},
        "samplers": {
            flows: {stage: config.samplers[flows, stage].to_json() for stage in FLOW_ROLES} for flows in config.flows
        },
    }


def _describe_network(base: Path) -> dict[str, Any]:
    """Class, parameter count and size, from the json and the header of the weights."""
    import math

    from safetensors import safe_open

    weights = base.with_name(base.name + ".safetensors")
    with safe_open(weights, framework="np") as tensors:
        num_parameters = sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())
    config = json.loads(base.with_name(base.name + ".json").read_text())
    return {
        "class": config["name"],
        "parameters": num_parameters,
        "bytes": weights.stat().st_size,
        "file": str(weights),
        "args": config["args"],
    }


def _as_text(description: dict[str, Any]) -> str:
    lines = [f"{description['model']}  ({description['folder']})"]
    for role, network in description["networks"].items():
        size = f"{network['parameters'] / 1e6:6.2f} M  {network['bytes'] / 1e6:6.2f} MB"
        lines.append(f"  {role:<38} {network['class']:<28} {size}")
    lines.append(f"  {'total':<67} {sum(n['parameters'] for n in description['networks'].values()) / 1e6:6.2f} M")
    for flows, samplers in description["samplers"].items():
        for stage, sampler in samplers.items():
            params = ", ".join(f"{key} {value}" for key, value in sampler["params"].items())
            lines.append(f"  {flows} {stage}: {params}")
    return "\n".join(lines)
