"""Networks by their official class names, and checkpoint files: ``<path>.json`` beside ``<path>.safetensors``."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.models.slat_encoder import SLatEncoder
from mdtdist.models.slat_flow import SLatFlowModel
from mdtdist.models.slat_gaussian_decoder import SLatGaussianDecoder
from mdtdist.models.slat_mesh_decoder import SLatMeshDecoder
from mdtdist.models.slat_radiance_field_decoder import SLatRadianceFieldDecoder
from mdtdist.models.sparse_structure_flow import SparseStructureFlowModel
from mdtdist.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from mdtdist.models.weights import check_fit, read_header, read_tensors
from mdtdist.nn import set_torso_dtype

NETWORKS: dict[str, type[nn.Module]] = {
    network.__name__: network
    for network in (
        SparseStructureEncoder,
        SparseStructureDecoder,
        SparseStructureFlowModel,
        SLatEncoder,
        SLatGaussianDecoder,
        SLatMeshDecoder,
        SLatRadianceFieldDecoder,
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


@dataclass(frozen=True)
class NetworkFiles:
    """A network on disk.

    Attributes:
        config: json with the class ``name`` and its ``args``.
        weights: safetensors file with its state dict.
    """

    config: Path
    weights: Path

    @classmethod
    def at(cls, base: str | os.PathLike[str]) -> "NetworkFiles":
        """The two files ``<base>.json`` and ``<base>.safetensors``."""
        base = Path(base)
        return cls(base.with_name(base.name + ".json"), base.with_name(base.name + ".safetensors"))

    def read_config(self) -> dict[str, Any]:
        """The ``name`` and ``args`` of the network.

        Raises:
            InputError: if the json is missing or damaged.
        """
        try:
            config = json.loads(self.config.read_text())
            return {"name": str(config["name"]), "args": dict(config["args"])}
        except FileNotFoundError as err:
            raise InputError(f"{self.config} is missing; a checkpoint is a .json beside a .safetensors") from err
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
            raise InputError(
                f"{self.config} is not a network config with 'name' and 'args' ({type(err).__name__}: {err})"
            ) from err

    def skeleton(self) -> nn.Module:
        """The network with its parameters on the meta device: their names, shapes and types, without their memory.

        Raises:
            InputError: if the json is missing, damaged, or does not describe a network we have.
        """
        config = self.read_config()
        try:
            with _WithoutMemory():
                return build(config["name"], **config["args"])
        except Exception as err:  # whatever a constructor makes of wrong arguments
            cause = str(err) if isinstance(err, ValueError) else f"{type(err).__name__}: {err}"
            raise InputError(f"{self.config} does not describe a network: {cause}") from err


class _WithoutMemory(TorchFunctionMode):
    """Parameters to be filled (``torch.empty``) are made on the meta device; constants are computed as ever.

    With everything on the meta device the constants that no checkpoint holds would be lost, and the first arithmetic
    there imports torch's compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def save(module: nn.Module, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
    """Write ``<path>.json`` and ``<path>.safetensors`` of a module made by ``build``; each file appears whole.

    Args:
        module: a network from ``build``.
        path: path without suffix.
        dtype: storage type of floating-point tensors; None keeps theirs.
    """
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() and dtype else value.dtype).contiguous()
        for key, value in module.state_dict().items()
    }
    config: Any = module.config
    write_files(NetworkFiles.at(path), config, tensors)


def write_files(files: NetworkFiles, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a network's two files, the json last; each appears whole."""
    files.weights.parent.mkdir(parents=True, exist_ok=True)
    with appear_whole(files.weights) as partial:
        save_file(dict(tensors), partial)
    with appear_whole(files.config) as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n")


def load(
    path: str | os.PathLike[str] | NetworkFiles,
    *,
    device: str | torch.device = "cpu",
    torso_dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Read a network written by ``save`` or in the official layout; stored types are converted to the module's.

    Everything is checked before the data is read. No time goes into initial weights, no memory into a second copy.

    Args:
        path: path without suffix, or the two files where they have different names.
        device: where the tensors go.
        torso_dtype: type in which the blocks store their matrices and compute, whatever the config says: float16 as
            published, bfloat16, or float32, which a CPU is fast in. The rest is float32.

    Raises:
        InputError: if a file is missing or damaged, or keys or shapes do not fit; names the file and the tensor.
    """
    files = path if isinstance(path, NetworkFiles) else NetworkFiles.at(path)
    module = files.skeleton()
    set_torso_dtype(module, torso_dtype)
    expected = module.state_dict()
    check_fit(read_header(files.weights), expected, files.weights)
    dtypes = {key: value.dtype for key, value in expected.items()}
    tensors = read_tensors(files.weights, dtypes, device=device)
    module.load_state_dict(tensors, assign=True)
    assert not any(value.is_meta for value in chain(module.parameters(), module.buffers()))
    return module.to(device).eval()
