"""Image clean-up and crop, image encoders."""

from mdtdist.conditioning.efficientnet import EfficientNetLite0, load_efficientnet
from mdtdist.conditioning.image import crop_to_object, list_images, load_image, prepare_image
from mdtdist.conditioning.patch_tokens import PatchTokenEncoder
from mdtdist.conditioning.tokens import ImageTokenEncoder, fit_projection

__all__ = [
    "EfficientNetLite0",
    "ImageTokenEncoder",
    "PatchTokenEncoder",
    "fit_projection",
    "crop_to_object",
    "list_images",
    "load_efficientnet",
    "load_image",
    "prepare_image",
]
