"""Layers the networks share."""

from mdtdist.nn.attention import CrossAttention, DenseTokens, PackedTokens, SelfAttention, TokenLayout
from mdtdist.nn.blocks import FeedForward, ModulatedCrossBlock, SparseResBlock, TransformerBlock, modulation
from mdtdist.nn.embeddings import TimestepEmbedder, absolute_position_embedding, dense_grid_coords
from mdtdist.nn.lora import LowRankUpdates
from mdtdist.nn.norms import ChannelLayerNorm32, GroupNorm32, LayerNorm32, MultiHeadRMSNorm
from mdtdist.nn.precision import narrow, set_torso_dtype

__all__ = [
    "ChannelLayerNorm32",
    "CrossAttention",
    "DenseTokens",
    "FeedForward",
    "GroupNorm32",
    "LayerNorm32",
    "LowRankUpdates",
    "ModulatedCrossBlock",
    "MultiHeadRMSNorm",
    "PackedTokens",
    "SelfAttention",
    "SparseResBlock",
    "TimestepEmbedder",
    "TokenLayout",
    "TransformerBlock",
    "absolute_position_embedding",
    "dense_grid_coords",
    "modulation",
    "narrow",
    "set_torso_dtype",
]
