"""Image towers of CLIP-like models: pictures into the space that a point encoder or another picture is compared in.

Three kinds: SLIP's ViT (inside ULIP-1's checkpoint; Mu et al., 2021), CLIP's ViT (Radford et al., 2021; OpenCLIP's
ViT-bigG/14 is ULIP-2's) and EVA02-E-14-plus (Sun et al., 2023; Uni3D's). Each is a network of its own, because they
differ in where the norms are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import count_blocks, count_heads, load_exactly
from mdtdist.evaluation.encoders.layers import EvaAttention, PostNormBlock, PreNormBlock, embed_patches
from mdtdist.nn.vision import FusedAttention, GeluFeedForward, attend

# Heads are not 64 channels wide in ViT-H, -g, -bigG (OpenCLIP) and EVA02-E.
NUM_HEADS = {1280: 16, 1408: 16, 1664: 16, 1792: 16}


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Architecture of an image tower.

    Attributes:
        image_size: pixels a side.
        patch_size: pixels a side of a patch.
        channels: width.
        depth: blocks.
        num_heads: of each attention.
        hidden: width inside the feed-forward layers.
        embed_channels: of the embedding.
        activation: "gelu" (exact), or "quick_gelu", ``x sigmoid(1.702 x)``, which OpenAI's own weights need.
    """

    image_size: int
    patch_size: int
    channels: int
    depth: int
    num_heads: int
    hidden: int
    embed_channels: int
    activation: str = "gelu"


class SlipTower(nn.Module):
    """ViT with pre-norm blocks; the class token after the final norm times ``image_projection``."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = _TimmTrunk(config, eps=1e-6, is_eva=False)
        self.image_projection = nn.Parameter(torch.zeros(config.channels, config.embed_channels))

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised, of normalised pictures."""
        return self.visual(images)[:, 0] @ self.image_projection


class EvaTower(nn.Module):
    """EVA02-E: no norm before the blocks, residual post-norm inside, a linear head with bias on the class token."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        trunk = _TimmTrunk(config, eps=1e-6, is_eva=True)
        trunk.head = nn.Linear(config.channels, config.embed_channels)
        self.visual = nn.ModuleDict({"trunk": trunk})

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised, of normalised pictures."""
        trunk: Any = self.visual["trunk"]
        return trunk.head(trunk(images)[:, 0])


class _TimmTrunk(nn.Module):
    """Patches and class token through blocks and a final norm, under timm's names."""

    head: nn.Module

    def __init__(self, config: TowerConfig, *, eps: float, is_eva: bool) -> None:
        super().__init__()
        width = config.channels
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (config.image_size // config.patch_size) ** 2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, config.patch_size, config.patch_size)})
        self.blocks = nn.ModuleList()
        for _ in range(config.depth):
            mlp = GeluFeedForward(width, config.hidden)
            if is_eva:
                attention = EvaAttention(width, config.num_heads, fused=True)
                self.blocks.append(PostNormBlock(width, attention, mlp, eps=eps))
            else:
                self.blocks.append(
                    PreNormBlock(width, FusedAttention(width, config.num_heads, qkv_bias=True), mlp, eps=eps)
                )
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B L C"]:
        patches = embed_patches(self.patch_embed["proj"], images)  # type: ignore[arg-type]
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class ClipTower(nn.Module):
    """CLIP's ViT in the layout of OpenAI and OpenCLIP (``visual.``): norms before the blocks and after, no biases in
    the patches and the projection."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = _ClipTrunk(config)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised, of normalised pictures."""
        return self.visual(images)


class _ClipTrunk(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.channels
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(1 + (config.image_size // config.patch_size) ** 2, width))
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(_ClipBlock(config) for _ in range(config.depth))})
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, config.embed_channels))

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        first = self.class_embedding.expand(len(images), 1, -1)
        x = torch.cat([first, embed_patches(self.conv1, images)], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer["resblocks"]:  # type: ignore[attr-defined]
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class _ClipAttention(nn.Module):
    """Self-attention under the names of ``nn.MultiheadAttention``."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        return self.out_proj(attend(*qkv.chunk(3, -1), num_heads=self.num_heads))


class _ClipFeedForward(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.is_quick = config.activation == "quick_gelu"
        self.c_fc = nn.Linear(config.channels, config.hidden)
        self.c_proj = nn.Linear(config.hidden, config.channels)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        h = self.c_fc(x)
        return self.c_proj(h * torch.sigmoid(1.702 * h) if self.is_quick else F.gelu(h))


class _ClipBlock(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.channels)
        self.attn = _ClipAttention(config.channels, config.num_heads)
        self.ln_2 = nn.LayerNorm(config.channels)
        self.mlp = _ClipFeedForward(config)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where a kind of tower keeps the tensors that tell its sizes."""

    network: type[SlipTower] | type[EvaTower] | type[ClipTower]
    prefixes: tuple[str, ...]
    patch: str
    positions: str
    blocks: str
    hidden: str
    projection: str
    projection_dim: int  # which dimension of it is the embedding


_TRUNK = "visual.trunk."
LAYOUTS: dict[str, _Layout] = {
    "slip": _Layout(
        network=SlipTower,
        prefixes=("visual.", "image_projection"),
        patch="visual.patch_embed.proj.weight",
        positions="visual.pos_embed",
        blocks="visual.blocks.",
        hidden="visual.blocks.0.mlp.fc1.weight",
        projection="image_projection",
        projection_dim=1,
    ),
    "eva": _Layout(
        network=EvaTower,
        prefixes=(_TRUNK,),
        patch=_TRUNK + "patch_embed.proj.weight",
        positions=_TRUNK + "pos_embed",
        blocks=_TRUNK + "blocks.",
        hidden=_TRUNK + "blocks.0.mlp.fc1.weight",
        projection=_TRUNK + "head.weight",
        projection_dim=0,
    ),
    "clip": _Layout(
        network=ClipTower,
        prefixes=("visual.", "vision_model.", "visual_projection.", "input_resolution"),
        patch="visual.conv1.weight",
        positions="visual.positional_embedding",
        blocks="visual.transformer.resblocks.",
        hidden="visual.transformer.resblocks.0.mlp.c_fc.weight",
        projection="visual.proj",
        projection_dim=1,
    ),
}


def tower_config(kind: str, tensors: Mapping[str, Tensor], *, path: Path, activation: str = "gelu") -> TowerConfig:
    """Read the sizes of a tower off the shapes of its tensors.

    Args:
        kind: "slip", "eva" or "clip".
        tensors: of a public checkpoint, those of the CLIP layout under OpenCLIP's names.
        path: named in errors.
        activation: of the CLIP layout; nothing in the tensors shows it.

    Raises:
        InputError: if the tensors are not of this kind of tower.
    """
    layout = LAYOUTS[kind]
    try:
        patch, positions = tensors[layout.patch], tensors[layout.positions]
        channels, patch_size = patch.shape[0], patch.shape[-1]
        return TowerConfig(
            image_size=patch_size * round((positions.shape[-2] - 1) ** 0.5),
            patch_size=patch_size,
            channels=channels,
            depth=count_blocks(tensors, layout.blocks),
            num_heads=count_heads(channels, NUM_HEADS, path=path),
            hidden=tensors[layout.hidden].shape[0],
            embed_channels=tensors[layout.projection].shape[layout.projection_dim],
            activation=activation,
        )
    except (KeyError, IndexError) as err:
        raise InputError(
            f"{path} holds no image tower of the kind '{kind}' (no usable tensor {err}); "
            "docs/evaluation.md names the file for each score"
        ) from err


def load_tower(
    kind: str, tensors: Mapping[str, Tensor], *, path: Path, activation: str = "gelu"
) -> SlipTower | EvaTower | ClipTower:
    """A frozen image tower from the tensors of a public checkpoint.

    ``read_checkpoint`` with ``LAYOUTS[kind].prefixes`` reads no more than the tower. The CLIP layout may also have the
    names of ``transformers`` (``vision_model.``).

    Args:
        kind: "slip", "eva" or "clip".
        tensors: become the parameters; others than the tower's are passed over.
        path: named in errors.
        activation: of the CLIP layout.

    Raises:
        InputError: if the tensors do not fit.
    """
    layout = LAYOUTS[kind]
    tensors = {name: value for name, value in tensors.items() if name.startswith(layout.prefixes)}
    if kind == "clip":
        tensors = openclip_names(tensors, path=path)
    config = tower_config(kind, tensors, path=path, activation=activation)
    with torch.device("meta"):
        network = layout.network(config)
    load_exactly(network, tensors, path=path, unused=_UNUSED)
    return network


# OpenAI's note of its image size, a constant of older transformers, a classifier that a training script may leave.
_UNUSED = r"input_resolution|vision_model\.embeddings\.position_ids|visual\.head\..*"
_TRANSFORMERS = (
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.pre_layrnorm\.(\w+)", r"visual.ln_pre.\1"),  # sic
    (r"vision_model\.post_layernorm\.(\w+)", r"visual.ln_post.\1"),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.(\w+)", r"visual.transformer.resblocks.\1.ln_\2.\3"),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.(\w+)", r"visual.transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.(\w+)", r"visual.transformer.resblocks.\1.mlp.c_proj.\2"),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)",
        r"visual.transformer.resblocks.\1.attn.out_proj.\2",
    ),
)
_QUERY = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.(\w+)")


def openclip_names(tensors: Mapping[str, Tensor], *, path: Path) -> dict[str, Tensor]:
    """The vision side of a ``transformers`` CLIP model under OpenCLIP's names; other layouts as they are.

    Raises:
        InputError: if a key or value matrix is missing.
    """
    if not any(name.startswith("vision_model.") for name in tensors):
        return dict(tensors)
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if query := _QUERY.fullmatch(name):
            parts = [name.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj")]
            if missing := [part for part in parts if part not in tensors]:
                raise InputError(f"{path} lacks the tensor '{missing[0]}'; copy it again")
            target = f"visual.transformer.resblocks.{query[1]}.attn.in_proj_{query[2]}"
            renamed[target] = torch.cat([tensors[part] for part in parts])
        elif name == "visual_projection.weight":
            renamed["visual.proj"] = value.T.contiguous()
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            renamed[_renamed(name)] = value
    return renamed


def _renamed(name: str) -> str:
    for pattern, replacement in _TRANSFORMERS:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name  # unknown ones are found when the network is filled
