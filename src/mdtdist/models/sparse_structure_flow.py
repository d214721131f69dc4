"""The flow transformer of the structure latent: a dense grid under image or text condition."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.models.extra_embeddings import FlowNetwork, make_embedders
from mdtdist.models.initialization import initialize_transformer
from mdtdist.nn import (
    DenseTokens,
    LayerNorm32,
    ModulatedCrossBlock,
    TimestepEmbedder,
    absolute_position_embedding,
    dense_grid_coords,
    modulation,
    narrow,
    set_torso_dtype,
)


class SparseStructureFlowModel(FlowNetwork):
    """Velocity of a dense latent ``[B, C, R, R, R]`` at network time ``t`` (1000 times the flow time).

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
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        extra_embeddings: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if pe_mode != "ape":
            raise ValueError(f"pe_mode is '{pe_mode}'; only 'ape' (absolute position embedding) is supported")
        num_heads = num_heads or model_channels // num_head_channels
        self.resolution, self.patch_size = resolution, patch_size
        self.t_embedder = TimestepEmbedder(model_channels)
        self.extra_embedders = make_embedders(extra_embeddings, model_channels)
        if share_mod:
            self.adaLN_modulation = modulation(model_channels)
        self.share_mod = share_mod
        coords = dense_grid_coords(resolution // patch_size)
        self.register_buffer("pos_emb", absolute_position_embedding(coords, model_channels))
        self.input_layer = nn.Linear(in_channels * patch_size**3, model_channels)
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
        self.norm_out = LayerNorm32(model_channels, eps=1e-5, elementwise_affine=False)
        self.out_layer = nn.Linear(model_channels, out_channels * patch_size**3)
        initialize_transformer(self)
        if use_fp16:
            set_torso_dtype(self, torch.float16)

    def forward(
        self,
        x: Float[Tensor, "B C R R R"],
        t: Float[Tensor, "B"],
        cond: Float[Tensor, "B L D"],
        *,
        interval: Float[Tensor, "B"] | None = None,
        guidance: Float[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B C2 R R R"]:
        p = self.patch_size
        patches = rearrange(x, "b c (x i) (y j) (z k) -> b (x y z) (c i j k)", i=p, j=p, k=p)
        h = narrow(self, self.input_layer(patches) + self.pos_emb)
        mod = self.embed_time(t, interval=interval, guidance=guidance)
        if self.share_mod:
            mod = self.adaLN_modulation(mod)
        mod, cond = narrow(self, mod), narrow(self, cond)
        tokens = DenseTokens()
        for block in self.blocks:
            h = block(h, mod, cond, tokens)
        h = self.out_layer(self.norm_out(h.to(x.dtype)))
        side = self.resolution // p
        return rearrange(h, "b (x y z) (c i j k) -> b c (x i) (y j) (z k)", x=side, y=side, z=side, i=p, j=p, k=p)
