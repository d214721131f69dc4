"""FSDP2: every process holds a part of each weight, average and moment, and gathers a block when it runs."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.training.blocks import blocks_of


def shard(network: nn.Module, *, device_type: str, num_processes: int) -> None:
    """Spread the parameters of a network over all processes, in place; each block is gathered by itself.

    Raises:
        InputError: if the network is a mere collection of networks, which is never called itself.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if type(network).forward is nn.Module.forward:
        raise InputError(
            f"parallel is 'fsdp', but what is trained is several networks in a {type(network).__name__}; use 'ddp', "
            "'fsdp' is for flow teachers and students"
        )
    mesh = init_device_mesh(device_type, (num_processes,))
    # What a pass has gathered is let go behind it, also of the outermost part: a pass without gradients may be followed
    # by a step of the optimiser, an average, or a turn in which other networks take gradients.
    for part in (*blocks_of(network), network):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def set_gradient_sync(network: nn.Module, is_on: bool) -> None:
    """Whether the next backward pass adds up the gradients of all processes."""
    module: Any = network
    module.set_requires_gradient_sync(is_on)


def whole(tensor: Tensor) -> Tensor:
    """A tensor in one piece, on every process; all have to ask together. One that is not spread stays as it is."""
    gather: Any = getattr(tensor, "full_tensor", None)  # of a DTensor, whose import takes seconds
    return tensor if gather is None else gather()


def spread_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """A whole tensor, spread over the processes if ``reference`` is, and on its device then; else as it is."""
    if not hasattr(reference, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    spread: Any = reference
    return distribute_tensor(tensor.to(spread.device), spread.device_mesh, spread.placements)


def hollow_copy(module: nn.Module) -> nn.Module:
    """A copy without the memory of the parameters, to be filled with ``load_state_dict(..., assign=True)``."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return copy.deepcopy(module, memo)
