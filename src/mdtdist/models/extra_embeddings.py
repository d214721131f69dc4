"""What a flow network may be told beside the time: how long its step is, and how strong the guidance.

Published flows know the time alone. Each further input has a time embedder of its own whose last layer starts at zero
and whose result is added to the time embedding, so that a network answers as before until it is trained.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.nn import TimestepEmbedder

EXTRA_EMBEDDINGS = ("interval", "guidance")


class FlowNetwork(nn.Module):
    """A network that embeds the time and, in ``extra_embedders``, what else it is told.

    Attributes:
        t_embedder: of the network time.
        extra_embedders: by name, of ``EXTRA_EMBEDDINGS``; a network without them has the keys of an official one.
    """

    t_embedder: TimestepEmbedder
    extra_embedders: nn.ModuleDict

    def embed_time(
        self, t: Float[Tensor, "B"], *, interval: Float[Tensor, "B"] | None, guidance: Float[Tensor, "B"] | None
    ) -> Float[Tensor, "B C"]:
        """The sum of all embeddings.

        Raises:
            InputError: if something is given that the network does not embed, or the other way round.
        """
        emb: Tensor = self.t_embedder(t)
        for name, value in (("interval", interval), ("guidance", guidance)):
            if value is not None:
                check_embeds(self, name)
                emb = emb + self.extra_embedders[name](value)
            elif name in self.extra_embedders:
                raise InputError(f"the network embeds the {name}, but none was given; call it with {name}=")
        return emb


def make_embedders(names: Sequence[str], channels: int) -> nn.ModuleDict:
    """The extra embedders of a network, in the order of ``EXTRA_EMBEDDINGS``.

    Raises:
        ValueError: if a name is not one of ``EXTRA_EMBEDDINGS``.
    """
    return nn.ModuleDict({name: TimestepEmbedder(channels) for name in _ordered(names)})


def extra_embeddings(network: nn.Module) -> frozenset[str]:
    """The names of what a network embeds beside the time."""
    return frozenset(getattr(network, "extra_embedders", ()))


def with_extra_embeddings(network: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy of a flow network that embeds these too, with the same weights and, until it is trained, the same answers.

    The first layer of a new embedder is that of the time embedder, the last is zero.

    Args:
        network: made by ``build`` or ``load``.
        names: of ``EXTRA_EMBEDDINGS``; those that the network has already are left as they are.

    Returns:
        The copy, or ``network`` itself if nothing is missing.

    Raises:
        InputError: if the network is no flow.
        ValueError: if a name is not one of ``EXTRA_EMBEDDINGS``.
    """
    there = extra_embeddings(network)
    wanted = _ordered([*there, *names])
    if there == set(wanted):
        return network
    if not isinstance(network, FlowNetwork):
        raise InputError(f"{type(network).__name__} does not embed the time; expected a flow network")
    extended = copy.deepcopy(network)
    old = extended.extra_embedders
    extended.extra_embedders = nn.ModuleDict(
        {name: old[name] if name in old else _silent(extended.t_embedder) for name in wanted}
    )
    config: Any = network.config
    config = {"name": config["name"], "args": {**config["args"], "extra_embeddings": wanted}}
    extended.config = config
    return extended


def check_embeds(network: nn.Module, name: str) -> None:
    """Refuse to tell a network what it does not embed.

    Raises:
        InputError: names the fix.
    """
    if name not in extra_embeddings(network):
        raise InputError(
            f"the network does not embed the {name}; start from with_extra_embeddings(network, ['{name}']), "
            f"or build it with extra_embeddings=['{name}']"
        )


def _ordered(names: Sequence[str]) -> list[str]:
    if unknown := [name for name in names if name not in EXTRA_EMBEDDINGS]:
        raise ValueError(f"extra_embeddings has {unknown[0]!r}; expected some of {', '.join(EXTRA_EMBEDDINGS)}")
    return [name for name in EXTRA_EMBEDDINGS if name in names]


def _silent(embedder: TimestepEmbedder) -> TimestepEmbedder:
    """A copy whose last layer is zero."""
    silent = copy.deepcopy(embedder)
    with torch.no_grad():
        for parameter in silent.mlp[-1].parameters():
            parameter.zero_()
    return silent
