"""How alike two pictures are: PSNR, SSIM and LPIPS, one value per pair."""

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.lpips import LPIPS

_WINDOW = 11
_SIGMA = 1.5  # pixels
_C1, _C2 = 0.01**2, 0.03**2  # for images in [0, 1]
_LPIPS_BATCH = 8  # pictures; VGG16 holds 0.1 GB for one of 512 px


def psnr(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"]) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio of images in [0, 1], in dB: ``-10 log10`` of the mean squared difference.

    Infinite for equal images. Over several pictures average the ratios, as papers do, not the squared differences.

    Raises:
        InputError: if the images differ in shape.
    """
    if a.shape != b.shape:
        raise InputError(f"images of shapes {tuple(a.shape)} and {tuple(b.shape)}; expected equal shapes")
    return -10 * (a - b).square().mean((-3, -2, -1)).log10()


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


@torch.no_grad()
def lpips(network: LPIPS, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
    """Learned perceptual distance of sRGB images in [0, 1], from ``load_lpips``; smaller is more alike.

    Works through the pairs a few at a time, on the device of the network, and returns to that of ``a``. To train with
    it, call the network itself.
    """
    device = next(network.parameters()).device
    pairs = zip(a.split(_LPIPS_BATCH), b.split(_LPIPS_BATCH), strict=True)
    # Without this a GPU rounds the inputs of convolutions to 10 bits.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return torch.cat([network(x.to(device), y.to(device)).to(a.device) for x, y in pairs])


def _blur_matrix(size: int, *, like: Tensor) -> Float[Tensor, "M N"]:
    """Maps ``size`` pixels to the Gaussian means of all windows inside."""
    start = torch.arange(size - _WINDOW + 1, device=like.device)[:, None]
    offset = torch.arange(size, device=like.device)[None] - start - _WINDOW // 2
    weights = torch.exp(-0.5 * (offset.to(like.dtype) / _SIGMA) ** 2) * (offset.abs() <= _WINDOW // 2)
    return weights / weights.sum(-1, keepdim=True)
