"""Uni3D's point encoder (Zhou et al., 2023, arXiv:2310.06773): groups of points as tokens of an EVA image transformer.

The five public sizes have three kinds of trunk. None of them uses the position embedding or the rotary embedding that
the image transformer owned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import count_blocks, count_heads, load_exactly
from mdtdist.evaluation.encoders.layers import (
    EvaAttention,
    NormedGatedFeedForward,
    PackedGatedFeedForward,
    PreNormBlock,
)
from mdtdist.evaluation.encoders.point_groups import GroupEncoder, group_points
from mdtdist.nn.vision import GeluFeedForward

# Leftovers of the image transformer.
UNUSED = r"point_encoder\.visual\.(cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|head\.(weight|bias))"
SIZES = {192: "t", 384: "s", 768: "b", 1024: "l", 1408: "g"}
_NUM_HEADS = {1408: 16}  # the others have 64 channels a head
_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Uni3DConfig:
    """Architecture of a Uni3D point encoder; the defaults are those that no tensor shape shows.

    Attributes:
        channels: width of the trunk.
        depth: blocks.
        num_heads: of each attention.
        hidden: width inside their feed-forward layers.
        feed_forward: "gelu", "packed" or "normed" (the two forms of SwiGLU).
        fused: query, key and value come from one matrix.
        group_channels: of the vector of a group.
        embed_channels: of the embedding.
        num_groups: tokens.
        group_size: points a token.
    """

    channels: int
    depth: int
    num_heads: int
    hidden: int
    feed_forward: str
    fused: bool
    group_channels: int
    embed_channels: int
    num_groups: int = 512
    group_size: int = 64


def uni3d_config(tensors: Mapping[str, Tensor], *, path: Path) -> Uni3DConfig:
    """Read the architecture off names and shapes of a checkpoint.

    Raises:
        InputError: if ``tensors`` are not of a Uni3D point encoder.
    """
    block = "point_encoder.visual.blocks.0."
    try:
        channels = tensors["point_encoder.encoder2trans.weight"].shape[0]
        hidden = tensors[block + "mlp.fc2.weight"].shape[1]
        feed_forward = "normed"
        if block + "mlp.fc1_g.weight" not in tensors:
            feed_forward = "gelu" if tensors[block + "mlp.fc1.weight"].shape[0] == hidden else "packed"
        return Uni3DConfig(
            channels=channels,
            depth=count_blocks(tensors, "point_encoder.visual.blocks."),
            num_heads=count_heads(channels, _NUM_HEADS, path=path),
            hidden=hidden,
            feed_forward=feed_forward,
            fused=block + "attn.qkv.weight" in tensors,
            group_channels=tensors["point_encoder.encoder2trans.weight"].shape[1],
            embed_channels=tensors["point_encoder.trans2embed.weight"].shape[0],
        )
    except (KeyError, IndexError) as err:
        raise InputError(f"{path} holds no Uni3D point encoder (no usable tensor {err}); expected model.pt") from err


class Uni3DTrunk(nn.Module):
    """The blocks of the image transformer and the norm of its class token."""

    def __init__(self, config: Uni3DConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.fc_norm = nn.LayerNorm(config.channels, eps=_EPS)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B C"]:
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x[:, 0])


class Uni3DPointEncoder(nn.Module):
    """Coloured points to an embedding."""

    def __init__(self, config: Uni3DConfig, *, skip_origin: bool = True, batch_statistics: bool = False) -> None:
        super().__init__()
        self.config, self.skip_origin = config, skip_origin
        width = config.channels
        self.encoder = GroupEncoder(6, config.group_channels, batch_statistics=batch_statistics)
        self.encoder2trans = nn.Linear(config.group_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.visual = Uni3DTrunk(config)
        self.trans2embed = nn.Linear(width, config.embed_channels)

    def forward(self, points: Float[Tensor, "B N 3"], colors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B D"]:
        groups = group_points(
            points,
            colors,
            num_groups=self.config.num_groups,
            group_size=self.config.group_size,
            skip_origin=self.skip_origin,
        )
        tokens = self.encoder2trans(self.encoder(groups.features)) + self.pos_embed(groups.centers)
        first = (self.cls_token + self.cls_pos).expand(len(points), -1, -1)
        return self.trans2embed(self.visual(torch.cat([first, tokens], 1)))


class Uni3DPointModel(nn.Module):
    """The point encoder as it is stored.

    Args:
        config: architecture.
        skip_origin: see :func:`~mdtdist.evaluation.encoders.point_groups.farthest_points`.
        batch_statistics: see :class:`~mdtdist.evaluation.encoders.point_groups.GroupEncoder`.
    """

    def __init__(self, config: Uni3DConfig, *, skip_origin: bool = True, batch_statistics: bool = False) -> None:
        super().__init__()
        self.config = config
        self.point_encoder = Uni3DPointEncoder(config, skip_origin=skip_origin, batch_statistics=batch_statistics)
        self.logit_scale = nn.Parameter(torch.zeros(()))  # of the training loss; only here to fit the files

    def forward(self, points: Float[Tensor, "B N 3"], colors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised.

        Args:
            points: float32, as the encoder was trained to see them (unit sphere).
            colors: [0, 1]; constant 0.4 where there are none.
        """
        return self.point_encoder(points, colors)


def load_uni3d(
    tensors: Mapping[str, Tensor], *, path: Path, skip_origin: bool = True, batch_statistics: bool = False
) -> Uni3DPointModel:
    """A frozen encoder from the tensors of a public checkpoint (see ``read_checkpoint``).

    Args:
        tensors: become the parameters; the unused ones of the image transformer are passed over.
        path: named in errors.
        skip_origin, batch_statistics: see :class:`Uni3DPointModel`.

    Raises:
        InputError: if the tensors do not fit.
    """
    config = uni3d_config(tensors, path=path)
    with torch.device("meta"):
        network = Uni3DPointModel(config, skip_origin=skip_origin, batch_statistics=batch_statistics)
    load_exactly(network, tensors, path=path, unused=UNUSED)
    return network


def _block(config: Uni3DConfig) -> nn.Module:
    mlp: nn.Module
    if config.feed_forward == "normed":
        mlp = NormedGatedFeedForward(config.channels, config.hidden, eps=_EPS)
    else:
        kind = GeluFeedForward if config.feed_forward == "gelu" else PackedGatedFeedForward
        mlp = kind(config.channels, config.hidden)
    attention = EvaAttention(config.channels, config.num_heads, fused=config.fused)
    return PreNormBlock(config.channels, attention, mlp, eps=_EPS)
