"""CLIP score: how alike a condition picture and a render are to CLIP's image tower (cosine of their embeddings).

Any CLIP ViT will do, of OpenAI or OpenCLIP, in the layout of either or of ``transformers``; tables have to say which,
so it is part of the scorer's name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import checkpoint_digest, read_checkpoint
from mdtdist.evaluation.encoders.towers import LAYOUTS, ClipTower, load_tower
from mdtdist.evaluation.encoders.transforms import ImageTransform, to_pictures

ACTIVATIONS = ("gelu", "quick_gelu")
_AT_ONCE = 16


class ClipScorer:
    """Pictures into CLIP's space. Made by :func:`load_clip_scorer`.

    Attributes:
        name: architecture, activation, digest of the file.
        channels: dimensions of the space.
    """

    def __init__(self, tower: ClipTower, *, name: str) -> None:
        self.name, self.channels, self._tower = name, tower.config.embed_channels, tower
        self._transform = ImageTransform(resize=tower.config.image_size, crop=tower.config.image_size)

    @torch.no_grad()
    def embed(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised, float32 on the CPU.

        Args:
            pictures: display-referred sRGB in [0, 1], on the background that they are to be compared on. They are
                rounded to 8 bits and resampled by Pillow (shorter side, bicubic; centre crop), as pictures from files.
        """
        device, embeddings = next(self._tower.parameters()).device, []
        for start in range(0, len(pictures), _AT_ONCE):
            batch = [self._transform(picture) for picture in to_pictures(pictures[start : start + _AT_ONCE])]
            embeddings.append(self._tower(torch.stack(batch).to(device)).cpu())
        return torch.cat(embeddings) if embeddings else torch.zeros(0, self.channels)


def load_clip_scorer(weights: Path, device: str | torch.device = "cpu", *, activation: str = "auto") -> ClipScorer:
    """Read the image tower of a CLIP model.

    OpenAI's networks use another activation ("quick_gelu") than most of OpenCLIP's ("gelu"), and no tensor tells.
    "auto" looks for the answer in ``config.json`` or ``open_clip_config.json`` beside the file and in what only
    OpenAI's own state dicts hold; sizes that OpenAI never trained are "gelu".

    Args:
        weights: safetensors or PyTorch file with the tower; its text side is not read.
        device: where the network goes.
        activation: "auto", "gelu" or "quick_gelu".

    Raises:
        InputError: if the file does not fit, or "auto" finds no answer.
    """
    if activation not in ("auto", *ACTIVATIONS):
        raise InputError(f"the activation of CLIP is {activation!r}; expected auto, gelu or quick_gelu")
    tensors = read_checkpoint(weights, prefixes=LAYOUTS["clip"].prefixes)
    if activation == "auto":
        activation = _find_activation(weights, tensors)
    tower = load_tower("clip", tensors, path=weights, activation=activation).to(device)
    assert isinstance(tower, ClipTower)
    config = tower.config
    size = f"{config.depth}x{config.channels}-p{config.patch_size}-{config.image_size}px"
    return ClipScorer(tower, name=f"clip-vit-{size}-{config.activation}-{checkpoint_digest(weights)}")


def _find_activation(weights: Path, tensors: Mapping[str, Tensor]) -> str:
    for name in ("config.json", "open_clip_config.json"):
        if (found := _stated_activation(weights.with_name(name))) is not None:
            return found
    if "input_resolution" in tensors:
        return "quick_gelu"
    patch = next((tensors[name] for name in _PATCHES if name in tensors), None)
    if patch is not None and patch.shape[0] not in (768, 1024):  # OpenAI trained ViT-B and ViT-L
        return "gelu"
    raise InputError(
        f"{weights} does not tell its activation: OpenAI's weights need quick_gelu, most of OpenCLIP's gelu; "
        "put the model's config.json or open_clip_config.json beside it, or say activation="
    )


_PATCHES = ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight")


def _stated_activation(path: Path) -> str | None:
    """What a configuration file says; None where there is none, or one of something else."""
    if not path.is_file():
        return None
    try:
        stated = _activation_of(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError, TypeError) as err:
        raise InputError(f"{path} is no configuration of a CLIP model ({err}); copy it again or remove it") from err
    if stated not in (None, *ACTIVATIONS):
        raise InputError(f"{path} states the activation {stated!r}; expected gelu or quick_gelu")
    return stated


def _activation_of(config: dict[str, Any]) -> str | None:
    if "model_cfg" in config:  # OpenCLIP
        return "quick_gelu" if config["model_cfg"].get("quick_gelu", False) else "gelu"
    if "vision_config" in config or config.get("model_type") == "clip_vision_model":
        return str(config.get("vision_config", config).get("hidden_act", "quick_gelu"))  # the default of transformers
    return None
