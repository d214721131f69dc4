"""Image similarity for training by rendering."""

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError

_WINDOW = 11
_SIGMA = 1.5  # pixels
_C1, _C2 = 0.01**2, 0.03**2  # for images in [0, 1]


def ssim(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"]) -> Float[Tensor, "B"]:
    """Structural similarity of images in [0, 1]; 1 for equal images, symmetric, differentiable.

    Implements Eq. 13 of Wang et al. (2004) with their 11x11 Gaussian window of 1.5 pixels and population moments,
    averaged over the channels and the windows that lie wholly inside the image. A loss is ``1 - ssim(a, b)``.

    Raises:
        InputError: if the images are smaller than the window or differ in shape.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < _WINDOW:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise InputError(f"images of shapes {shapes}; expected equal shapes and sides of {_WINDOW} or more")
    # A separable blur as two products with band matrices is faster on a CPU than a depthwise convolution.
    rows, columns = _blur_matrix(a.shape[-2], like=a), _blur_matrix(a.shape[-1], like=a)
    mean_a, mean_b, aa, bb, ab = (rows @ torch.stack([a, b, a * a, b * b, a * b]) @ columns.mT).unbind()
    variance_a, variance_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur_matrix(size: int, *, like: Tensor) -> Float[Tensor, "M N"]:
    """Maps ``size`` pixels to the Gaussian means of all windows inside."""
    start = torch.arange(size - _WINDOW + 1, device=like.device)[:, None]
    offset = torch.arange(size, device=like.device)[None] - start - _WINDOW // 2
    weights = torch.exp(-0.5 * (offset.to(like.dtype) / _SIGMA) ** 2) * (offset.abs() <= _WINDOW // 2)
    return weights / weights.sum(-1, keepdim=True)
