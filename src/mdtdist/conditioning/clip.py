"""CLIP text tokens (Radford et al., 2021): the condition of the published TRELLIS text models."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.errors import InputError

NUM_TEXT_TOKENS = 77


class ClipTextEncoder(nn.Module):
    """All tokens of a CLIP text model, after its final norm.

    Args:
        network: a ``transformers.CLIPTextModel``.
        tokenizer: its tokenizer.
    """

    def __init__(self, network: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.network, self.tokenizer = network, tokenizer

    @torch.no_grad()
    def forward(self, prompts: Sequence[str]) -> Float[Tensor, "B 77 C"]:
        """Condition tokens; longer prompts are cut off, shorter ones padded, and the padding is not masked."""
        tokens = self.tokenizer(
            list(prompts), max_length=NUM_TEXT_TOKENS, padding="max_length", truncation=True, return_tensors="pt"
        )
        device = next(self.network.parameters()).device
        return self.network(input_ids=tokens["input_ids"].to(device)).last_hidden_state

    @classmethod
    def load(cls, name_or_path: str, device: torch.device | str = "cpu", *, offline: bool = False) -> "ClipTextEncoder":
        """Read a model such as ``openai/clip-vit-large-patch14`` (768 channels) in float32.

        Args:
            name_or_path: hub id, or a folder in the layout of ``transformers``.
            device: where the weights go.
            offline: take it from the local cache only.

        Raises:
            InputError: if ``transformers`` is not installed, or the model cannot be had.
        """
        try:
            from transformers import CLIPTextModel, CLIPTokenizer
        except ImportError as err:
            raise InputError("text needs an extra; install it with: pip install 'mdtdist[text]'") from err
        options = {"local_files_only": offline}
        try:
            tokenizer = CLIPTokenizer.from_pretrained(name_or_path, **options)
            network = CLIPTextModel.from_pretrained(name_or_path, use_safetensors=True, **options)
        except (OSError, ValueError) as err:
            hint = "; run once without --offline" if offline else ""
            raise InputError(f"the text encoder {name_or_path!r} cannot be loaded ({err}){hint}") from err
        return cls(network.float().to(device).eval().requires_grad_(False), tokenizer)
