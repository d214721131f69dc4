"""Low-rank updates of a frozen network (LoRA, Hu et al., 2021, arXiv 2106.09685)."""

from typing import Any

import torch
from torch import Tensor, nn


class LowRankUpdates(nn.Module):
    """A network under trainable updates ``W + B A`` of its linear layers; computes what the network does at the start.

    The network is shared, not copied, stays as it is, and is no part of this module: parameters and state dict are the
    updates alone. Its own parameters should be frozen, and it must not be a wrapped or sharded one.

    Args:
        network: called with the arguments of ``forward``.
        rank: of the updates; lower where a layer is smaller.
        generator: of the random half, ``A``.

    Raises:
        ValueError: if ``rank`` is below 1 or the network has no linear layer.
    """

    def __init__(self, network: nn.Module, *, rank: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}; expected at least 1")
        layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
        if not layers:
            raise ValueError(f"{type(network).__name__} has no linear layer to update; expected one or more")
        self._shared = (network,)  # in a tuple, which hides it from parameters and state dict
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, layer in layers.items():
            key = name.replace(".", "/")  # a parameter must not have a dot in its name
            self.down[key], self.up[key] = _update(layer, rank, generator)

    @property
    def module(self) -> nn.Module:
        """The network without updates."""
        return self._shared[0]

    @property
    def extra_embedders(self) -> Any:
        """What a flow network embeds beside the time: it is called with the same arguments under updates."""
        return getattr(self.module, "extra_embedders", ())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        network = self.module
        weights = {}
        for key, down in self.down.items():
            name = key.replace("/", ".")
            weight = network.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            weights[f"{name}.weight"] = weight + (self.up[key] @ down).to(weight.dtype)
        return torch.func.functional_call(network, weights, args, kwargs)


def _update(layer: nn.Linear, rank: int, generator: torch.Generator | None) -> tuple[nn.Parameter, nn.Parameter]:
    """``A`` like the start of a linear layer, ``B`` zero; at least float32, which small steps need."""
    rank = min(rank, layer.in_features, layer.out_features)
    dtype, device = torch.promote_types(layer.weight.dtype, torch.float32), layer.weight.device
    down = 2 * torch.rand(rank, layer.in_features, generator=generator) - 1
    down = (down / layer.in_features**0.5).to(device=device, dtype=dtype)
    return nn.Parameter(down), nn.Parameter(torch.zeros(layer.out_features, rank, device=device, dtype=dtype))
