"""The transformer that the structured-latent encoder and decoders share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.models.initialization import initialize_transformer
from mdtdist.nn import (
    LayerNorm32,
    PackedTokens,
    TransformerBlock,
    absolute_position_embedding,
    narrow,
    set_torso_dtype,
)
from mdtdist.sparse import SparseTensor, batch_groups, window_groups


class SparseTransformer(nn.Module):
    """Linear, position embedding, plain blocks with windowed attention, final norm and a linear head."""

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: int | float = 4,
        attn_mode: str = "swin",
        window_size: int = 8,
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        qk_rms_norm: bool = False,
    ) -> None:
        super().__init__()
        if attn_mode not in ("swin", "full"):
            raise ValueError(f"attn_mode is '{attn_mode}'; expected 'swin' or 'full'")
        if pe_mode != "ape":
            raise ValueError(f"pe_mode is '{pe_mode}'; only 'ape' (absolute position embedding) is supported")
        num_heads = num_heads or model_channels // num_head_channels
        self.resolution, self.attn_mode, self.window_size = resolution, attn_mode, window_size
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.blocks = nn.ModuleList(
            TransformerBlock(model_channels, num_heads, mlp_ratio=mlp_ratio, qk_rms_norm=qk_rms_norm)
            for _ in range(num_blocks)
        )
        self.norm_out = LayerNorm32(model_channels, eps=1e-5, elementwise_affine=False)
        self.out_layer = nn.Linear(model_channels, out_channels)
        initialize_transformer(self)
        if use_fp16:
            set_torso_dtype(self, torch.float16)

    def features(self, x: SparseTensor) -> Float[Tensor, "N out_channels"]:
        """The output of the linear head for every row."""
        return self.out_layer(self.norm_out(self.torso(x).to(x.feats.dtype)))

    def torso(self, x: SparseTensor) -> Float[Tensor, "N model_channels"]:
        """The output of the last block for every row, in the type of the blocks."""
        h = self.input_layer(x.feats)
        h = narrow(self, h + absolute_position_embedding(x.coords[:, 1:], h.shape[1]).to(h.dtype))
        for index, block in enumerate(self.blocks):
            h = block(h, PackedTokens(self._groups(x, index), x.batch, x.lengths))
        return h

    def _groups(self, x: SparseTensor, index: int):  # type: ignore[no-untyped-def]
        if self.attn_mode == "full":
            return batch_groups(x)
        return window_groups(x, self.window_size, (self.window_size // 2) * (index % 2))
