"""``mdtdist info``: what a model is made of."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdtdist.models.registry import NetworkFiles
    from mdtdist.pipelines.config import PipelineConfig


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("info", help="describe a model")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="shipped model, folder or hub id; without it, list the shipped"
    )
    parser.add_argument("--offline", action="store_true", help="use what is in the local hub cache only")


def run(args: argparse.Namespace) -> int:
    """Print the networks, sizes and samplers of a model; of the weights it reads the headers only."""
    from mdtdist.pipelines.locate import resolve_model, shipped_models

    if args.model is None:
        models = {name: str(folder) for name, folder in shipped_models().items()}
        print(json.dumps(models, indent=2) if args.json else "\n".join(models) or "no model is shipped")
        return 0
    description = describe_model(resolve_model(args.model, offline=args.offline), args.model)
    print(json.dumps(description, indent=2) if args.json else _as_text(description))
    return 0


def describe_model(folder: Path, name: str) -> dict[str, Any]:
    """What ``pipeline.json``, the network configs and the headers of the weights say, as plain data.

    Returns:
        ``networks`` by role: class, trained parameters, values per stored type, bytes of the file and in memory, path
        and arguments. ``samplers`` by flows and stage. ``memory`` by flows: see :func:`_memory`.

    Raises:
        InputError: if anything is missing or damaged, or a network's tensors do not fit it.
    """
    from mdtdist.pipelines.config import FLOW_ROLES, PipelineConfig

    config = PipelineConfig.read(folder)
    networks = {role: _describe_network(config.files(role)) for role in config.checkpoint_roles()}
    return {
        "model": name,
        "folder": str(folder),
        "pipeline": config.name,
        "condition": config.image_cond_model or config.text_cond_model,
        "flows": list(config.flows),
        "decoders": list(config.decoders),
        "networks": networks,
        "samplers": {
            flows: {stage: config.samplers[flows, stage].to_json() for stage in FLOW_ROLES} for flows in config.flows
        },
        "memory": {flows: _memory(networks, _roles_of_a_run(config, flows)) for flows in config.flows},
    }


def _describe_network(files: "NetworkFiles") -> dict[str, Any]:
    """A network from its json and the header of its weights."""
    import torch

    from mdtdist.models import NETWORKS
    from mdtdist.models.weights import check_fit, read_header
    from mdtdist.nn import set_torso_dtype

    config, header = files.read_config(), read_header(files.weights)
    num_values = sum(info.numel for info in header.values())
    num_parameters, half = num_values, 4 * num_values
    if config["name"].removeprefix("Elastic") in NETWORKS:  # image encoders have readers of their own
        skeleton = files.skeleton()
        check_fit(header, skeleton.state_dict(), files.weights)
        num_parameters = sum(parameter.numel() for parameter in skeleton.parameters())
        set_torso_dtype(skeleton, torch.float16)
        half = sum(value.numel() * value.element_size() for value in skeleton.state_dict().values())
    dtypes: dict[str, int] = {}
    for info in header.values():
        kind = str(info.dtype).removeprefix("torch.")
        dtypes[kind] = dtypes.get(kind, 0) + info.numel
    return {
        "class": config["name"],
        "parameters": num_parameters,
        "dtypes": dtypes,
        "bytes": files.weights.stat().st_size,
        "memory": {"float32": 4 * num_values, "half": half},
        "file": str(files.weights),
        "args": config["args"],
    }


def _roles_of_a_run(config: "PipelineConfig", flows: Any) -> list[str]:
    """The networks that generation with these flows and every decoder uses."""
    from mdtdist.pipelines.config import FLOW_ROLES, STRUCTURE_DECODER, flow_role

    encoder = [role for role in config.checkpoint_roles() if role == "image_cond_model"]
    return [*encoder, *(flow_role(stage, flows) for stage in FLOW_ROLES), STRUCTURE_DECODER, *config.decoders]


def _memory(networks: Mapping[str, Mapping[str, Any]], roles: Sequence[str]) -> dict[str, dict[str, int]]:
    """Bytes that the weights of a run take: all networks at once, or the largest if they come one by one.

    With ``half`` the torsos have 16 bits. Activations come on top, and so does an encoder that the model only names.
    """
    sizes = {kind: [networks[role]["memory"][kind] for role in roles] for kind in ("float32", "half")}
    return {kind: {"all": sum(values), "largest": max(values)} for kind, values in sizes.items()}


def _as_text(description: Mapping[str, Any]) -> str:
    lines = [f"{description['model']}  {description['pipeline']}  ({description['folder']})"]
    for role, network in description["networks"].items():
        kinds = ", ".join(f"{kind} {_millions(count)}" for kind, count in network["dtypes"].items())
        size = f"{_millions(network['parameters']):>9} {network['bytes'] / 1e6:8.1f} MB"
        lines.append(f"  {role:<38} {network['class']:<28} {size}  {kinds}")
    total = sum(network["parameters"] for network in description["networks"].values())
    size = sum(network["bytes"] for network in description["networks"].values())
    lines.append(f"  {'total':<67} {_millions(total):>9} {size / 1e6:8.1f} MB")
    is_inside = "image_cond_model" in description["networks"]
    lines.append(f"  condition: {description['condition']}{'' if is_inside else ' (from elsewhere, not counted here)'}")
    for flows, samplers in description["samplers"].items():
        for stage, sampler in samplers.items():
            params = ", ".join(f"{key} {value}" for key, value in sampler["params"].items())
            lines.append(f"  {flows} {stage}: {params}, sigma_min {sampler['args']['sigma_min']}")
    for flows, memory in description["memory"].items():
        parts = (
            f"{label} {memory[kind]['all'] / 1e6:.1f} MB all at once, {memory[kind]['largest'] / 1e6:.1f} MB one by one"
            for kind, label in (("float32", "float32"), ("half", "16 bit"))
        )
        lines.append(f"  {flows} memory for weights: {'; '.join(parts)}")
    return "\n".join(lines)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
