"""Networks by their official class names, and checkpoint files: ``<path>.json`` beside ``<path>.safetensors``."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.models.slat_encoder import SLatEncoder
from mdtdist.models.slat_flow import SLatFlowModel
from mdtdist.models.slat_gaussian_decoder import SLatGaussianDecoder
from mdtdist.models.sparse_structure_flow import SparseStructureFlowModel
from mdtdist.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder

NETWORKS: dict[str, type[nn.Module]] = {
    network.__name__: network
    for network in (
        SparseStructureEncoder,
        SparseStructureDecoder,
        SparseStructureFlowModel,
        SLatEncoder,
        SLatGaussianDecoder,
        SLatFlowModel,
    )
}


def build(name: str, **args: Any) -> nn.Module:
    """Build a network from the ``name`` and ``args`` of an official config json, randomly initialised.

    Args:
        name: class name, with or without the prefix ``Elastic``.
        args: constructor arguments.

    Raises:
        InputError: if the name is unknown or an argument does not fit.
    """
    network = NETWORKS.get(name.removeprefix("Elastic"))
    if network is None:
        raise InputError(f"unknown network '{name}'; expected one of {', '.join(sorted(NETWORKS))}")
    try:
        module = network(**args)
    except TypeError as err:
        raise InputError(f"the arguments of {name} do not fit: {err}") from err
    module.config = {"name": name, "args": args}  # type: ignore[assignment]
    return module


def network_args(module: nn.Module) -> dict[str, Any]:
    """The constructor arguments of a module made by ``build``."""
    config: Any = module.config
    return dict(config["args"])


def save(module: nn.Module, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
    """Write ``<path>.json`` and ``<path>.safetensors`` of a module made by ``build``; each file appears whole.

    Args:
        module: a network from ``build``.
        path: path without suffix.
        dtype: storage type of floating-point tensors; None keeps theirs.
    """
    base = Path(path)
    base.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() and dtype else value.dtype).contiguous()
        for key, value in module.state_dict().items()
    }
    weights, config = base.with_name(base.name + ".safetensors"), base.with_name(base.name + ".json")
    with appear_whole(weights) as partial:
        save_file(tensors, partial)
    with appear_whole(config) as partial:
        partial.write_text(json.dumps(module.config, indent=2) + "\n")


def load(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> nn.Module:
    """Read a network written by ``save`` or in the official layout; float16 storage is widened to float32.

    Raises:
        InputError: if a file is missing or damaged, or keys or shapes do not fit; names the file and the tensor.
    """
    base = Path(path)
    config_path, weights_path = base.with_name(base.name + ".json"), base.with_name(base.name + ".safetensors")
    for file in (config_path, weights_path):
        if not file.is_file():
            raise InputError(f"{file} is missing; a checkpoint is a .json beside a .safetensors")
    try:
        config = json.loads(config_path.read_text())
        module = build(config["name"], **config["args"])
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise InputError(f"{config_path} is not a network config with 'name' and 'args': {err}") from err
    try:
        tensors = load_file(weights_path)
    except Exception as err:  # safetensors has its own exception types for truncated or foreign files
        raise InputError(f"{weights_path} is not a whole safetensors file: {err}; copy it again") from err
    _check_fit(module, tensors, weights_path)
    module.load_state_dict(tensors)
    return module.to(device).eval()


def _check_fit(module: nn.Module, tensors: dict[str, torch.Tensor], where: Path) -> None:
    expected = module.state_dict()
    for key, value in expected.items():
        if key not in tensors:
            raise InputError(f"{where} lacks the tensor '{key}' {tuple(value.shape)}; it does not fit its json")
        if tensors[key].shape != value.shape:
            shape = tuple(tensors[key].shape)
            raise InputError(f"{where}: tensor '{key}' has shape {shape}; its json expects {tuple(value.shape)}")
    extra = next((key for key in tensors if key not in expected), None)
    if extra is not None:
        raise InputError(f"{where} has the tensor '{extra}', which its json does not know")
