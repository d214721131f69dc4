"""Switches of a network's blocks: compilation, and activations that are computed twice instead of kept."""

import functools
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The transformer blocks: the entries of every list called ``blocks``, of the network and of networks in it."""
    lists = [part for name, part in network.named_modules() if name.rpartition(".")[2] == "blocks"]
    return [block for part in lists if isinstance(part, nn.ModuleList) for block in part]


def checkpoint_activations(network: nn.Module) -> None:
    """Keep the input of every block alone, and run the block again in the backward pass.

    Nothing is random in a block, so that no random state has to be kept with it.
    """
    for block in blocks_of(network):
        again: Any = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = again


def compile_blocks(network: nn.Module) -> None:
    """Compile every block when it is first run, or a network without blocks as a whole.

    Equal blocks share one compilation, which a whole network would not.
    """
    for module in blocks_of(network) or [network]:
        module.compile()
