"""DINOv2 (Oquab et al., 2023; registers: Darcet et al., 2023): the image encoder of the published TRELLIS models.

The network has the names and the key layout of the original release, and exactly its numbers at every image size; the
``transformers`` version differs where it has no registers, and would be a large package to install for one network.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.models.registry import NetworkFiles
from mdtdist.models.weights import TensorInfo, check_fit, read_header, read_tensors
from mdtdist.nn.vision import FusedAttention, GeluFeedForward

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VITL14_REG: dict[str, Any] = {
    "img_size": 518,
    "patch_size": 14,
    "embed_dim": 1024,
    "depth": 24,
    "num_heads": 16,
    "num_register_tokens": 4,
    "interpolate_antialias": True,
    "interpolate_offset": 0.0,
}


class _LayerScale(nn.Module):
    def __init__(self, channels: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), init_value))

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        return self.gamma * x


class _Block(nn.Module):
    def __init__(self, channels: int, num_heads: int, *, mlp_ratio: float, init_value: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = FusedAttention(channels, num_heads)
        self.ls1 = _LayerScale(channels, init_value)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = GeluFeedForward(channels, int(mlp_ratio * channels))
        self.ls2 = _LayerScale(channels, init_value)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DinoVisionTransformer(nn.Module):
    """Vision transformer; its constructor arguments have the names of the original release.

    Attributes:
        num_prefix_tokens: class and register tokens in front of the patches.
    """

    def __init__(
        self,
        *,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        init_values: float = 1.0,
        ffn_layer: str = "mlp",
        block_chunks: int = 0,
        num_register_tokens: int = 0,
        interpolate_antialias: bool = False,
        interpolate_offset: float = 0.1,
    ) -> None:
        super().__init__()
        if ffn_layer != "mlp" or block_chunks:
            raise ValueError(f"ffn_layer is {ffn_layer!r} and block_chunks {block_chunks}; expected 'mlp' and 0")
        self.patch_size, self.num_prefix_tokens = patch_size, 1 + num_register_tokens
        self.interpolate_antialias, self.interpolate_offset = interpolate_antialias, interpolate_offset
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (img_size // patch_size) ** 2, embed_dim))
        if num_register_tokens:
            self.register_tokens = nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))  # for training; only here to fit the files
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, embed_dim, patch_size, patch_size)})
        self.blocks = nn.ModuleList(
            _Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, init_value=init_values) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L C"]:
        """All tokens before the final norm (``norm``): class, registers, patches in row-major order.

        Args:
            images: normalised by the ImageNet mean and deviation; sides are multiples of the patch size.
        """
        height, width = (side // self.patch_size for side in images.shape[-2:])
        patches = rearrange(self.patch_embed["proj"](images), "b c h w -> b (h w) c")
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1) + self.positions(height, width)
        if self.num_prefix_tokens > 1:  # registers have no position
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(images), -1, -1), x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        return x

    def positions(self, height: int, width: int) -> Float[Tensor, "1 1+height*width C"]:
        """Position embedding of the class token and of a grid of patches, resampled where it is not the trained one.

        With ``interpolate_offset`` the original gives the resampler a scale factor of ``(n + offset) / side``, which
        moves the sampling points a little; without it the size of the result.
        """
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return self.pos_embed
        table = rearrange(self.pos_embed[:, 1:].float(), "b (h w) c -> b c h w", h=side)
        options: dict[str, Any] = {"mode": "bicubic", "antialias": self.interpolate_antialias}
        if self.interpolate_offset:
            options["scale_factor"] = tuple((size + self.interpolate_offset) / side for size in (height, width))
        else:
            options["size"] = (height, width)
        patches = rearrange(F.interpolate(table, **options), "b c h w -> b (h w) c")
        return torch.cat([self.pos_embed[:, :1], patches.to(self.pos_embed.dtype)], 1)


class DinoImageEncoder(nn.Module):
    """Condition tokens of the published TRELLIS models: DINOv2 before its final norm, then a plain LayerNorm.

    Attributes:
        image_size: pixels a side of the crops it takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: DinoVisionTransformer, *, image_size: int = 518) -> None:
        super().__init__()
        self.trunk, self.image_size = trunk, image_size
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, crops: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B L C"]:
        """Class, register and patch tokens (1374 x 1024 for ViT-L/14 with registers at 518 px).

        Args:
            crops: premultiplied RGBA in [0, 1], display-referred, from ``crop_to_object``; only RGB is used.
        """
        tokens = self.trunk((crops[:, :3] - self.mean) / self.std)
        return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-5)

    @classmethod
    def load(cls, files: NetworkFiles, *, device: str | torch.device = "cpu") -> "DinoImageEncoder":
        """Read an encoder whose json names the class ``DinoVisionTransformer`` and its arguments."""
        config = files.read_config()
        if config["name"] != DinoVisionTransformer.__name__:
            raise InputError(f"{files.config} describes {config['name']!r}; expected DinoVisionTransformer")
        try:
            trunk = load_dinov2(files.weights, config["args"], device=device)
        except (TypeError, ValueError) as err:
            if isinstance(err, InputError):
                raise
            raise InputError(f"the arguments in {files.config} do not fit: {err}") from err
        return cls(trunk, image_size=config["args"]["img_size"]).to(device)


def load_dinov2(
    path: Path, args: Mapping[str, Any] = VITL14_REG, *, device: str | torch.device = "cpu"
) -> DinoVisionTransformer:
    """A DINOv2 network from a safetensors file in the layout of the original release or of ``transformers``.

    Args:
        path: the weights; 16-bit storage is widened to float32.
        args: constructor arguments.
        device: where the weights go.

    Raises:
        InputError: if the file is damaged or does not fit; names the file and the tensor.
    """
    with torch.device("meta"):
        network = DinoVisionTransformer(**args)
    expected, header = network.state_dict(), read_header(path)
    sources = {key: transformers_names(key) if "layernorm.weight" in header else (key,) for key in expected}
    check_fit(_joined(header, sources), expected, path)
    stored = read_tensors(path, {name: torch.float32 for names in sources.values() for name in names}, device=device)
    network.load_state_dict({key: torch.cat([stored[n] for n in names]) for key, names in sources.items()}, assign=True)
    return network.eval().requires_grad_(False)


_RENAMED = (
    (r"^blocks\.(\d+)\.norm([12])\.", r"encoder.layer.\1.norm\2."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layer.\1.mlp."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.ls([12])\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"^norm\.", "layernorm."),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
)


def transformers_names(key: str) -> tuple[str, ...]:
    """The tensors of a ``transformers`` file that make the tensor ``key`` of the original layout, to concatenate."""
    if qkv := re.match(r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$", key):
        base = f"encoder.layer.{qkv[1]}.attention.attention"
        return tuple(f"{base}.{part}.{qkv[2]}" for part in ("query", "key", "value"))
    for pattern, replacement in _RENAMED:
        name, count = re.subn(pattern, replacement, key)
        if count:
            return (name,)
    raise AssertionError(f"{key} has no counterpart")


def _joined(header: Mapping[str, TensorInfo], sources: Mapping[str, tuple[str, ...]]) -> dict[str, TensorInfo]:
    """What the file has, under the names of the original layout; parts of one tensor count as one of their sum."""
    known = {name for names in sources.values() for name in names}
    joined = {name: info for name, info in header.items() if name not in known}
    for key, names in sources.items():
        parts = [header[name] for name in names if name in header]
        if len(parts) == len(names):
            shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
            joined[key] = TensorInfo(dtype=parts[0].dtype, shape=shape, begin=0, end=0)
    return joined
