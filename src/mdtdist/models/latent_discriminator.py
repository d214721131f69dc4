"""A discriminator of noisy latents: small heads on features of a frozen flow network (LADD, arXiv 2403.12015)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.models.registry import network_args
from mdtdist.nn import DenseTokens, LayerNorm32, PackedTokens, TokenLayout
from mdtdist.sparse import SparseTensor


class LatentDiscriminator(nn.Module):
    """Logits of a latent at network time ``t`` under a condition, one per head; called like the teacher.

    Each head reads one block of the teacher: a perceptron on every token, its mean over the tokens of the sample, and a
    linear layer. Dense tokens ``[B, L, C]`` and packed ones ``[N, C]`` go the same way, and a sample's logits depend on
    no other sample. Gradients pass through the teacher to the latent.

    The teacher is shared, not copied, and is no part of this module: parameters and state dict are the heads alone. Its
    own parameters should be frozen.

    Args:
        teacher: a flow network made by ``build``, with ``blocks`` and ``t_embedder``.
        num_heads: blocks that are read, evenly spread and with the last; all, if there are fewer.
        channels: width of a head.

    Raises:
        ValueError: if the network has no blocks, or ``num_heads`` is below 1.
    """

    def __init__(self, teacher: nn.Module, *, num_heads: int = 4, channels: int = 64) -> None:
        super().__init__()
        blocks = getattr(teacher, "blocks", None)
        if not isinstance(blocks, nn.ModuleList) or not hasattr(teacher, "t_embedder"):
            raise ValueError(f"a discriminator cannot read {type(teacher).__name__}; expected a flow transformer")
        if num_heads < 1:
            raise ValueError(f"num_heads is {num_heads}; expected at least 1")
        self._shared = (teacher,)  # in a tuple, which hides it from parameters and state dict
        num_heads = min(num_heads, len(blocks))
        self.block_indices = [round((i + 1) * len(blocks) / num_heads) - 1 for i in range(num_heads)]
        args = network_args(teacher)
        width, cond_channels = int(args["model_channels"]), int(args["cond_channels"])
        self.cond_norm = LayerNorm32(cond_channels, eps=1e-6, elementwise_affine=False)
        self.heads = nn.ModuleList(TokenHead(width, width + cond_channels, channels) for _ in range(num_heads))

    @property
    def module(self) -> nn.Module:
        """The teacher."""
        return self._shared[0]

    @property
    def extra_embedders(self) -> Any:
        """What the teacher embeds beside the time, which it has to be told here too."""
        return getattr(self.module, "extra_embedders", ())

    def forward(
        self,
        x: Float[Tensor, "B ..."] | SparseTensor,
        t: Float[Tensor, "B"],
        cond: Float[Tensor, "B L D"],
        **extra: Float[Tensor, "B"],
    ) -> Float[Tensor, "B H"]:
        """``extra`` is what the teacher embeds beside the time."""
        teacher: Any = self.module
        with _recorded([teacher.blocks[i] for i in self.block_indices]) as recorded:
            teacher(x, t, cond, **extra)
        context = torch.cat([teacher.t_embedder(t), self.cond_norm(cond.mean(1))], dim=1)
        logits = [head(*features, context) for head, features in zip(self.heads, recorded, strict=True)]
        return torch.cat(logits, dim=1)


class TokenHead(nn.Module):
    """One logit per sample from its tokens and a context vector (time and condition)."""

    def __init__(self, in_channels: int, context_channels: int, channels: int) -> None:
        super().__init__()
        # The scale of a residual stream grows from block to block.
        self.norm = LayerNorm32(in_channels, eps=1e-6, elementwise_affine=False)
        self.input_layer = nn.Linear(in_channels, channels)
        self.context_layer = nn.Linear(context_channels, channels)
        self.hidden_layer = nn.Linear(channels, channels)
        self.out_layer = nn.Linear(channels, 1)

    def forward(
        self, features: Float[Tensor, "... C"], tokens: TokenLayout, context: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B 1"]:
        weight = self.input_layer.weight
        h = self.input_layer(self.norm(features.to(weight.dtype)))
        h = F.silu(h + tokens.expand(self.context_layer(context.to(weight.dtype))))
        return self.out_layer(token_mean(F.silu(self.hidden_layer(h)), tokens))


def token_mean(x: Float[Tensor, "... C"], tokens: TokenLayout) -> Float[Tensor, "B C"]:
    """The mean over the tokens of each sample, summed in at least float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not isinstance(tokens, PackedTokens):
        return x.mean(1)
    sums = x.new_zeros(len(tokens.lengths), x.shape[1]).index_add(0, tokens.batch, x)
    return sums / x.new_tensor(tokens.lengths)[:, None]


@contextlib.contextmanager
def _recorded(blocks: list[nn.Module]) -> Iterator[list[tuple[Tensor, TokenLayout]]]:
    """The outputs of some blocks and how their tokens lie, in the order in which they are called."""
    recorded: list[tuple[Tensor, TokenLayout]] = []

    def record(block: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        recorded.append((output, next((a for a in args if isinstance(a, PackedTokens)), DenseTokens())))

    handles = [block.register_forward_hook(record) for block in blocks]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
