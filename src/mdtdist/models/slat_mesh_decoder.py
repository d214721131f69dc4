"""Mesh decoder of the structured latent: FlexiCubes on a grid four times as fine as the latent's."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mdtdist.models.sparse_transformer import SparseTransformer
from mdtdist.nn import set_torso_dtype
from mdtdist.representations.flexicubes import COLOR_CHANNELS, SHAPE_CHANNELS, ExtractedMesh, mesh_from_cubes
from mdtdist.sparse import SparseConv3d, SparseGroupNorm, SparseTensor


class _SparseSiLU(nn.Module):
    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(F.silu(x.feats))


class SparseSubdivideBlock(nn.Module):
    """Residual block that first splits every voxel into eight; the skip is a 1x1x1 sparse convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.act_layers = nn.Sequential(SparseGroupNorm(32, channels), _SparseSiLU())
        last = SparseConv3d(out_channels, out_channels, 3)
        nn.init.zeros_(last.conv.weight)
        self.out_layers = nn.Sequential(
            SparseConv3d(channels, out_channels, 3), SparseGroupNorm(32, out_channels), _SparseSiLU(), last
        )
        self.skip_connection = SparseConv3d(channels, out_channels, 1)

    def forward(self, x: SparseTensor) -> SparseTensor:
        first: Any = self.out_layers[0]
        h = self.out_layers[1:](first.on_children(self.act_layers(x)))
        # A 1x1x1 convolution acts on each voxel alone, so it is applied before the voxel is copied eight times.
        skip = self.skip_connection(x).feats.repeat_interleave(8, dim=0)
        return h.replace(h.feats + skip)


class SLatMeshDecoder(SparseTransformer):
    """Latent ``[N, latent_channels]`` on voxels to a mesh per batch item.

    Two subdivide blocks (widths C, C / 4, C / 8) and a linear head give 101 channels, or 53 without colour, on
    ``64 N`` cubes of a grid of side ``4 * resolution``; there is no final norm. ``model_channels`` must be a multiple
    of 256, because the norms have 32 groups. In training mode the meshes carry the training terms.
    """

    def __init__(
        self,
        *,
        resolution: int,
        model_channels: int,
        latent_channels: int,
        representation_config: Mapping[str, Any],
        **base: Any,
    ) -> None:
        if model_channels % 256:
            raise ValueError(f"model_channels is {model_channels}; expected a multiple of 256")
        out_channels = COLOR_CHANNELS if representation_config["use_color"] else SHAPE_CHANNELS
        super().__init__(
            resolution=resolution,
            in_channels=latent_channels,
            model_channels=model_channels,
            out_channels=out_channels,
            **base,
        )
        widths = (model_channels, model_channels // 4, model_channels // 8)
        self.upsample = nn.ModuleList(
            SparseSubdivideBlock(width, narrower) for width, narrower in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out_layer = nn.Linear(widths[-1], out_channels)
        nn.init.zeros_(self.out_layer.weight)
        nn.init.zeros_(self.out_layer.bias)
        if base.get("use_fp16"):
            set_torso_dtype(self, torch.float16)

    def forward(self, x: SparseTensor) -> list[ExtractedMesh]:
        """One mesh per batch item."""
        return self.to_meshes(self.cubes(x))

    def cubes(self, x: SparseTensor) -> SparseTensor:
        """The raw channels of every cube."""
        h = x.replace(self.torso(x))
        for block in self.upsample:
            h = block(h)
        return h.replace(self.out_layer(h.feats.to(self.out_layer.weight.dtype)))

    def to_meshes(self, raw: SparseTensor) -> list[ExtractedMesh]:
        """Mesh the cubes of every item."""
        lengths = list(raw.lengths)
        return [
            mesh_from_cubes(feats, coords[:, 1:], resolution=4 * self.resolution, training=self.training)
            for feats, coords in zip(raw.feats.split(lengths), raw.coords.split(lengths), strict=True)
        ]
