"""The flow transformer of the structured latent: sparse features under image or text condition."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.models.extra_embeddings import FlowNetwork, make_embedders
from mdtdist.models.initialization import initialize_transformer
from mdtdist.nn import (
    LayerNorm32,
    ModulatedCrossBlock,
    PackedTokens,
    SparseResBlock,
    TimestepEmbedder,
    absolute_position_embedding,
    modulation,
    narrow,
    set_torso_dtype,
)
from mdtdist.sparse import SparseTensor, batch_groups


class SLatFlowModel(FlowNetwork):
    """Velocity of a sparse latent at network time ``t`` (1000 times the flow time).

    Sparse residual blocks halve the resolution, a transformer with full attention works on the coarse voxels, and
    mirrored residual blocks with skip connections restore the rows of the input.

    With ``extra_embeddings`` it is told more: "interval", the length of the step in network time, and "guidance", the
    weight in the unit of ``models.velocity``; see ``models.extra_embeddings``.
    """

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: int | float = 4,
        patch_size: int = 2,
        num_io_res_blocks: int = 2,
        io_block_channels: Sequence[int] = (),
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        use_skip_connection: bool = True,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        extra_embeddings: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if pe_mode != "ape":
            raise ValueError(f"pe_mode is '{pe_mode}'; only 'ape' (absolute position embedding) is supported")
        if 2 ** len(io_block_channels) != patch_size:
            raise ValueError(
                f"patch_size is {patch_size}; expected 2 per entry of io_block_channels {io_block_channels}"
            )
        num_heads = num_heads or model_channels // num_head_channels
        self.share_mod, self.use_skip_connection = share_mod, use_skip_connection
        widths = [*io_block_channels, model_channels]
        self.t_embedder = TimestepEmbedder(model_channels)
        self.extra_embedders = make_embedders(extra_embeddings, model_channels)
        if share_mod:
            self.adaLN_modulation = modulation(model_channels)
        self.input_layer = nn.Linear(in_channels, widths[0])
        self.input_blocks = nn.ModuleList(
            SparseResBlock(width, model_channels, out, down=down)
            for width, next_width in zip(widths[:-1], widths[1:], strict=True)
            for out, down in [(width, False)] * (num_io_res_blocks - 1) + [(next_width, True)]
        )
        self.blocks = nn.ModuleList(
            ModulatedCrossBlock(
                model_channels,
                cond_channels,
                num_heads,
                mlp_ratio=mlp_ratio,
                qk_rms_norm=qk_rms_norm,
                qk_rms_norm_cross=qk_rms_norm_cross,
                share_mod=share_mod,
            )
            for _ in range(num_blocks)
        )
        factor = 2 if use_skip_connection else 1
        self.out_blocks = nn.ModuleList(
            SparseResBlock(factor * inside, model_channels, width, up=up)
            for width, previous in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True)
            for inside, up in [(previous, True)] + [(width, False)] * (num_io_res_blocks - 1)
        )
        self.norm_out = LayerNorm32(widths[0], eps=1e-5, elementwise_affine=False)
        self.out_layer = nn.Linear(widths[0], out_channels)
        initialize_transformer(self)
        if use_fp16:
            set_torso_dtype(self, torch.float16)

    def forward(
        self,
        x: SparseTensor,
        t: Float[Tensor, "B"],
        cond: Float[Tensor, "B L D"],
        *,
        interval: Float[Tensor, "B"] | None = None,
        guidance: Float[Tensor, "B"] | None = None,
    ) -> SparseTensor:
        emb = self.embed_time(t, interval=interval, guidance=guidance)
        mod = narrow(self, self.adaLN_modulation(emb) if self.share_mod else emb)
        emb, cond = narrow(self, emb), narrow(self, cond)
        h, skips, fine_levels = self.encode(x, emb)
        positions = absolute_position_embedding(h.coords[:, 1:], h.feats.shape[1]).to(h.feats.dtype)
        tokens = PackedTokens(batch_groups(h), h.batch, h.lengths)
        feats = h.feats + positions
        for block in self.blocks:
            feats = block(feats, mod, cond, tokens)
        h = h.replace(feats)
        for out_block in self.out_blocks:
            skip = skips.pop()
            if self.use_skip_connection:
                h = h.replace(torch.cat([h.feats, skip.feats], dim=-1))
            h = out_block(h, emb, fine_levels.pop() if out_block.up else None)
        return x.replace(self.out_layer(self.norm_out(h.feats).to(x.feats.dtype)))

    def encode(
        self, x: SparseTensor, emb: Float[Tensor, "B C"]
    ) -> tuple[SparseTensor, list[SparseTensor], list[SparseTensor]]:
        """The input stage: coarse tokens, the skip of every input block, and the voxels before each down-sampling."""
        h, skips, fine_levels = x.replace(narrow(self, self.input_layer(x.feats))), [], []
        for block in self.input_blocks:
            if block.down:
                fine_levels.append(h)
            h = block(h, emb)
            skips.append(h)
        return h, skips, fine_levels
