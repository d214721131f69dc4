"""ULIP's point encoder (Xue et al., 2023, arXiv:2212.05171; ULIP-2: arXiv:2305.08275), a PointBERT.

Two public architectures: ULIP-1 sees 8192 points without colour and shares a space of 512 dimensions with a SLIP
image tower, ULIP-2 sees 10000 coloured points and shares 1280 dimensions with OpenCLIP's ViT-bigG/14.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import count_blocks, count_heads, load_exactly
from mdtdist.evaluation.encoders.layers import PreNormBlock
from mdtdist.evaluation.encoders.point_groups import GroupEncoder, group_points
from mdtdist.nn.vision import FusedAttention, GeluFeedForward

# What a file holds beside the point encoder: the towers, of which the image side is read by `towers`.
UNUSED = (
    r"(visual|transformer|token_embedding|ln_final|open_clip_model)\..*|positional_embedding|(image|text)_projection"
)
_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class UlipConfig:
    """Architecture of a ULIP point encoder; the defaults are those that no tensor shape shows.

    Attributes:
        in_channels: 3, or 6 with colours.
        channels: width of the transformer.
        depth: blocks.
        num_heads: of each attention.
        hidden: width inside their feed-forward layers.
        group_channels: of the vector of a group.
        embed_channels: of the embedding.
        num_groups: tokens.
        group_size: points a token.
    """

    in_channels: int
    channels: int
    depth: int
    num_heads: int
    hidden: int
    group_channels: int
    embed_channels: int
    num_groups: int = 512
    group_size: int = 32


def ulip_config(tensors: Mapping[str, Tensor], *, path: Path) -> UlipConfig:
    """Read the architecture off the shapes of a checkpoint; names of files are not to be trusted.

    Raises:
        InputError: if ``tensors`` are not of a ULIP point encoder.
    """
    try:
        return UlipConfig(
            in_channels=tensors["point_encoder.encoder.first_conv.0.weight"].shape[1],
            channels=tensors["point_encoder.reduce_dim.weight"].shape[0],
            depth=count_blocks(tensors, "point_encoder.blocks.blocks."),
            num_heads=count_heads(tensors["point_encoder.reduce_dim.weight"].shape[0], path=path),
            hidden=tensors["point_encoder.blocks.blocks.0.mlp.fc1.weight"].shape[0],
            group_channels=tensors["point_encoder.reduce_dim.weight"].shape[1],
            embed_channels=tensors["pc_projection"].shape[1],
        )
    except (KeyError, IndexError) as err:
        raise InputError(f"{path} holds no ULIP point encoder (no usable tensor {err}); expected a PointBERT") from err


class UlipBlocks(nn.Module):
    """Transformer blocks; the position embedding is added again before every one."""

    def __init__(self, config: UlipConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PreNormBlock(
                config.channels,
                FusedAttention(config.channels, config.num_heads, qkv_bias=False),
                GeluFeedForward(config.channels, config.hidden),
                eps=_EPS,
            )
            for _ in range(config.depth)
        )

    def forward(self, x: Float[Tensor, "B L C"], pos: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        for block in self.blocks:
            x = block(x + pos)
        return x


class UlipPointEncoder(nn.Module):
    """Points to class feature and maximum over the groups' features."""

    def __init__(self, config: UlipConfig, *, skip_origin: bool = True, batch_statistics: bool = False) -> None:
        super().__init__()
        self.config, self.skip_origin = config, skip_origin
        width = config.channels
        self.encoder = GroupEncoder(config.in_channels, config.group_channels, batch_statistics=batch_statistics)
        self.reduce_dim = nn.Linear(config.group_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.blocks = UlipBlocks(config)
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, points: Float[Tensor, "B N 3"], colors: Float[Tensor, "B N 3"] | None) -> Float[Tensor, "B F"]:
        groups = group_points(
            points,
            colors if self.config.in_channels == 6 else None,
            num_groups=self.config.num_groups,
            group_size=self.config.group_size,
            skip_origin=self.skip_origin,
        )
        tokens = self.reduce_dim(self.encoder(groups.features))
        x = torch.cat([self.cls_token.expand(len(points), -1, -1), tokens], 1)
        pos = torch.cat([self.cls_pos.expand(len(points), -1, -1), self.pos_embed(groups.centers)], 1)
        x = self.norm(self.blocks(x, pos))
        return torch.cat([x[:, 0], x[:, 1:].amax(1)], -1)


class UlipPointModel(nn.Module):
    """The point encoder and its projection into the space shared with images.

    Args:
        config: architecture.
        skip_origin: see :func:`~mdtdist.evaluation.encoders.point_groups.farthest_points`.
        batch_statistics: see :class:`~mdtdist.evaluation.encoders.point_groups.GroupEncoder`.
    """

    def __init__(self, config: UlipConfig, *, skip_origin: bool = True, batch_statistics: bool = False) -> None:
        super().__init__()
        self.config = config
        self.point_encoder = UlipPointEncoder(config, skip_origin=skip_origin, batch_statistics=batch_statistics)
        self.pc_projection = nn.Parameter(torch.zeros(2 * config.channels, config.embed_channels))
        self.logit_scale = nn.Parameter(torch.zeros(()))  # of the training loss; only here to fit the files

    def forward(
        self, points: Float[Tensor, "B N 3"], colors: Float[Tensor, "B N 3"] | None = None
    ) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised.

        Args:
            points: float32, as the encoder was trained to see them (unit sphere).
            colors: [0, 1]; ULIP-2 needs them, ULIP-1 does not look at them.
        """
        return self.point_encoder(points, colors) @ self.pc_projection


def load_ulip(
    tensors: Mapping[str, Tensor], *, path: Path, skip_origin: bool = True, batch_statistics: bool = False
) -> UlipPointModel:
    """A frozen encoder from the tensors of a public checkpoint (see ``read_checkpoint``).

    Args:
        tensors: become the parameters; those of image and text towers are passed over.
        path: named in errors.
        skip_origin, batch_statistics: see :class:`UlipPointModel`.

    Raises:
        InputError: if the tensors do not fit.
    """
    config = ulip_config(tensors, path=path)
    with torch.device("meta"):
        network = UlipPointModel(config, skip_origin=skip_origin, batch_statistics=batch_statistics)
    load_exactly(network, tensors, path=path, unused=UNUSED)
    return network
