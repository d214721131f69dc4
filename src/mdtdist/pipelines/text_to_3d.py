"""Text to 3D assets."""

from collections.abc import Sequence
from typing import Unpack, overload

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.pipelines.asset import Asset
from mdtdist.pipelines.encoders import EncoderSource, find_text_encoder
from mdtdist.pipelines.options import Options
from mdtdist.pipelines.two_stage import TwoStagePipeline


class TextTo3D(TwoStagePipeline):
    """Generates 3D assets from descriptions of single objects. Make one with :meth:`from_pretrained`."""

    _kind = "text"
    _null: Tensor | None = None  # tokens of the empty text, made with the first condition

    @overload
    def __call__(self, prompt: str, **options: Unpack[Options]) -> Asset: ...

    @overload
    def __call__(self, prompt: Sequence[str], **options: Unpack[Options]) -> list[Asset]: ...

    def __call__(self, prompt: str | Sequence[str], **options: Unpack[Options]) -> Asset | list[Asset]:
        """Generate an asset per text.

        Args:
            prompt: a description, or a list of them, which is generated as one batch. Every text of a batch gets the
                noise it would get alone.
            options: see ``Options``; with ``structure`` the text describes another look of that mesh.

        Raises:
            InputError: for an empty text or a bad option, or flows or decoders that the model does not have.
            EmptyStructureError: if no voxel is occupied.
            TooManyVoxelsError: if more are than the cap allows.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts or not all(isinstance(text, str) and text.strip() for text in prompts):
            raise InputError(f"the prompt is {prompt!r}; expected a description of an object, or a list of them")
        plan = self._plan(options, num_samples=len(prompts))
        assets = self._generate(plan, lambda: self.encode(prompts), images=[None] * len(prompts), prompts=prompts)
        return assets[0] if isinstance(prompt, str) else assets

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "B L C"]:
        """Condition tokens of texts."""
        if self._null is None:
            self._null = self.encoder([""])
        return self.encoder(prompts)

    def negative(self, cond: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """Tokens of the empty text."""
        if self._null is None:
            self._null = self.encoder([""])
        return self._null.expand(len(cond), -1, -1)

    def _find_encoder(self, *, offline: bool) -> EncoderSource:
        return find_text_encoder(self.config, offline=offline)
