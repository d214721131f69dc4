"""Which network turns the input of a model into condition tokens, and where it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mdtdist.conditioning.clip import ClipTextEncoder
from mdtdist.conditioning.dinov2 import DinoImageEncoder, DinoVisionTransformer, load_dinov2
from mdtdist.conditioning.image import CROP_SIZE
from mdtdist.conditioning.patch_tokens import INPUT_SIZE, PatchTokenEncoder
from mdtdist.conditioning.tokens import ImageTokenEncoder
from mdtdist.errors import InputError
from mdtdist.pipelines.config import PipelineConfig
from mdtdist.pipelines.hub import HubId, snapshot

# The names that official models give their image encoder, and who has it as safetensors.
NAMED_IMAGE_ENCODERS = {"dinov2_vitl14_reg": HubId(repo="facebook/dinov2-with-registers-large")}
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """An encoder that is there but not loaded.

    Attributes:
        load: gives it on a device, in evaluation mode.
        image_size: pixels a side of the crops that an image encoder takes; 0 for text.
    """

    load: Callable[[torch.device], nn.Module]
    image_size: int = 0


def check_kind(config: PipelineConfig, wanted: str, *, model_id: str) -> None:
    """Refuse a model of the other condition, "image" or "text", and name the pipeline that takes it."""
    kind = "image" if config.image_cond_model else "text"
    if kind != wanted:
        other = {
            "image": "ImageTo3D, or 'mdtdist generate IMAGE'",
            "text": "TextTo3D, or 'mdtdist generate --prompt TEXT'",
        }
        raise InputError(f"the model {model_id!r} makes assets from {kind}s, not {wanted}s; use {other[kind]}")


def find_image_encoder(config: PipelineConfig, *, offline: bool = False) -> EncoderSource:
    """The image encoder of a model: one in its folder, or a published one.

    A published one is taken from ``ckpts/<name>.safetensors`` in the model folder if that is there (in the layout of
    the original release or of ``transformers``), else from the hub.

    Raises:
        InputError: if there is no such encoder, or it cannot be had.
    """
    name = config.image_cond_model
    if "image_cond_model" in config.checkpoint_roles():
        return _encoder_in_folder(config)
    if name not in NAMED_IMAGE_ENCODERS:
        known = ", ".join(repr(known) for known in NAMED_IMAGE_ENCODERS)
        raise InputError(f"the image encoder {name!r} is unknown; expected {known} or a path in the model folder")
    assert config.folder is not None
    weights = config.folder / "ckpts" / f"{name}.safetensors"
    if not weights.is_file():
        try:
            weights = snapshot(NAMED_IMAGE_ENCODERS[name], [_WEIGHTS], offline=offline) / _WEIGHTS
        except InputError as err:
            raise InputError(f"the image encoder {name} is not at {weights}, and from the hub: {err}") from err

    def load(device: torch.device) -> nn.Module:
        return DinoImageEncoder(load_dinov2(weights, device=device)).to(device).eval()

    return EncoderSource(load=load, image_size=518)


def find_text_encoder(config: PipelineConfig, *, offline: bool = False) -> EncoderSource:
    """The text encoder of a model: a folder or hub id that ``transformers`` reads."""
    return EncoderSource(load=partial(ClipTextEncoder.load, config.text_cond_model, offline=offline))


def _encoder_in_folder(config: PipelineConfig) -> EncoderSource:
    files = config.files("image_cond_model")
    described: dict[str, Any] = files.read_config()
    base = files.weights.with_suffix("")
    if described["name"] == ImageTokenEncoder.__name__:
        return EncoderSource(load=lambda device: ImageTokenEncoder.load(base).to(device), image_size=CROP_SIZE)
    if described["name"] == PatchTokenEncoder.__name__:
        return EncoderSource(load=lambda device: PatchTokenEncoder.load(base).to(device), image_size=INPUT_SIZE)
    size = described["args"].get("img_size")
    if described["name"] != DinoVisionTransformer.__name__ or type(size) is not int:
        raise InputError(
            f"{files.config} describes no image encoder; expected {ImageTokenEncoder.__name__}, "
            f"{PatchTokenEncoder.__name__}, or {DinoVisionTransformer.__name__} with its img_size"
        )
    return EncoderSource(load=lambda device: DinoImageEncoder.load(files, device=device), image_size=size)
