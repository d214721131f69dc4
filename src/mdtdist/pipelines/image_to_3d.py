"""Images to 3D assets."""

from collections.abc import Sequence
from typing import Any, Unpack, overload

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.conditioning.image import ImageSource, prepare_image
from mdtdist.errors import InputError
from mdtdist.pipelines.asset import Asset
from mdtdist.pipelines.encoders import EncoderSource, find_image_encoder
from mdtdist.pipelines.options import Options
from mdtdist.pipelines.two_stage import TwoStagePipeline
from mdtdist.pipelines.views import Fusion, check_fusion


class ImageTo3D(TwoStagePipeline):
    """Generates 3D assets from images of single objects. Make one with :meth:`from_pretrained`."""

    _kind = "image"

    @overload
    def __call__(
        self, image: ImageSource | Tensor, *, background: str = "border", **options: Unpack[Options]
    ) -> Asset: ...

    @overload
    def __call__(
        self, image: Sequence[ImageSource | Tensor], *, background: str = "border", **options: Unpack[Options]
    ) -> list[Asset]: ...

    def __call__(
        self,
        image: ImageSource | Tensor | Sequence[ImageSource | Tensor],
        *,
        background: str = "border",
        **options: Unpack[Options],
    ) -> Asset | list[Asset]:
        """Generate an asset per image.

        Args:
            image: a path, encoded bytes, PIL image, or a crop from :meth:`prepare`; or a list of them, which is
                generated as one batch. Every image of a batch gets the noise it would get alone.
            background: see ``load_image``.
            options: see ``Options``.

        Raises:
            InputError: for a bad image or option, or flows or decoders that the model does not have.
            EmptyStructureError: if no voxel is occupied.
            TooManyVoxelsError: if more are than the cap allows.
        """
        images: list[Any] = list(image) if isinstance(image, (list, tuple)) else [image]
        if not images:
            raise InputError("the list of images is empty; expected at least one image")
        plan = self._plan(options, num_samples=len(images))
        crops = [self.prepare(item, background=background) for item in images]
        assets = self._generate(
            plan, lambda: self.encode(torch.stack(crops)), images=crops, prompts=[None] * len(crops)
        )
        return assets if isinstance(image, (list, tuple)) else assets[0]

    def from_views(
        self,
        images: Sequence[ImageSource | Tensor],
        *,
        fusion: Fusion = "stochastic",
        background: str = "border",
        **options: Unpack[Options],
    ) -> Asset:
        """Generate one asset from several images of one object, in any order, their cameras unknown.

        Args:
            images: as in a call.
            fusion: "stochastic": the steps take turns in the views, at the price of one view, so that fewer steps than
                views leave some unseen; "multidiffusion": every step follows the mean over all views.
            background: see ``load_image``.
            options: see ``Options``.

        Raises:
            InputError: as in a call, and for an unknown fusion.
        """
        check_fusion(fusion)
        if not images:
            raise InputError("the list of views is empty; expected at least one image")
        plan = self._plan(options, num_samples=1, fusion=fusion)
        crops = torch.stack([self.prepare(item, background=background) for item in images])
        return self._generate(plan, lambda: self.encode(crops), images=[crops[0]], prompts=[None])[0]

    def prepare(self, image: ImageSource | Tensor, *, background: str = "border") -> Float[Tensor, "4 S S"]:
        """The crop of an image that the encoder of this model sees; a crop is returned as it is."""
        size = self.encoder_source.image_size
        if not isinstance(image, Tensor):
            return prepare_image(image, background=background, size=size)
        if image.shape != (4, size, size):
            raise InputError(f"the crop has shape {tuple(image.shape)}; this model's encoder expects {(4, size, size)}")
        return image

    def encode(self, crops: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B L C"]:
        """Condition tokens of crops from :meth:`prepare`."""
        return self.encoder(crops.to(self.device))

    def negative(self, cond: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """Zeros."""
        return torch.zeros_like(cond)

    def _find_encoder(self, *, offline: bool) -> EncoderSource:
        return find_image_encoder(self.config, offline=offline)
