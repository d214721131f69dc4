"""PSNR and SSIM: closed forms, and scikit-image. LPIPS has its own file."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mdtdist.errors import InputError
from mdtdist.evaluation.metrics.image_metrics import psnr, ssim


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 3, 20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_equal_images_have_similarity_one(images: torch.Tensor) -> None:
    torch.testing.assert_close(ssim(images[0], images[0]), torch.ones(3, dtype=torch.float64))


def test_similarity_is_symmetric_and_below_one(images: torch.Tensor) -> None:
    torch.testing.assert_close(ssim(images[0], images[1]), ssim(images[1], images[0]))
    assert (ssim(images[0], images[1]) < 0.5).all()


def test_constant_images_differ_by_their_luminance_only() -> None:
    a, b = torch.full((1, 3, 16, 16), 0.2).double(), torch.full((1, 3, 16, 16), 0.6).double()
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(ssim(a, b), torch.tensor([expected], dtype=torch.float64))


def test_inverted_structure_is_negative(images: torch.Tensor) -> None:
    assert (ssim(images[0], 1 - images[0]) < 0).all()


def test_agrees_with_scikit_image(images: torch.Tensor) -> None:
    for a, b, value in zip(*images, ssim(*images), strict=True):
        expected = structural_similarity(
            a.numpy(),
            b.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert value.item() == pytest.approx(expected, abs=1e-10)


def test_gradient_is_that_of_the_value(images: torch.Tensor) -> None:
    a, b = images[:, :1, :1, :11, :12]
    assert torch.autograd.gradcheck(ssim, (a.requires_grad_(), b))


def test_small_images_are_refused() -> None:
    with pytest.raises(InputError, match="11 or more"):
        ssim(torch.zeros(1, 3, 10, 32), torch.zeros(1, 3, 10, 32))


def test_psnr_of_a_constant_difference_is_its_decibels() -> None:
    a = torch.full((2, 3, 4, 5), 0.5).double()
    b = a + torch.tensor([0.1, -0.01]).double().reshape(2, 1, 1, 1)
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0]).double())
    half = torch.where(torch.arange(5) < 1, 0.1, 0.0).expand_as(a)  # a fifth of the pixels
    torch.testing.assert_close(psnr(a, a + half), torch.full((2,), 20 + 10 * math.log10(5)).double())


def test_psnr_of_equal_images_is_infinite_and_black_against_white_is_zero() -> None:
    a = torch.zeros(1, 3, 4, 4)
    assert psnr(a, a).item() == math.inf and psnr(a, a + 1).item() == 0


def test_psnr_agrees_with_scikit_image(images: torch.Tensor) -> None:
    for a, b, value in zip(*images, psnr(*images), strict=True):
        assert value.item() == pytest.approx(peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1), rel=1e-12)


def test_ssim_of_contrast_alone() -> None:
    """A patch and a copy of contrast s about its mean: equal luminance, ``(2 s v + c) / (v + s^2 v + c)``."""
    a = 0.5 + 0.1 * torch.where(torch.arange(11) % 2 == 0, 1.0, -1.0).double().expand(1, 1, 11, 11)
    weights = torch.exp(-0.5 * (torch.arange(-5, 6) / 1.5) ** 2).double()
    mean = (weights / weights.sum() * a[0, 0]).sum(-1)[0]
    variance = (weights / weights.sum() * a[0, 0] ** 2).sum(-1)[0] - mean**2
    b = mean + 0.5 * (a - mean)
    expected = (variance + 9e-4) / (1.25 * variance + 9e-4)
    torch.testing.assert_close(ssim(a, b), expected[None])


def test_images_of_two_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 4, 4\) and \(1, 3, 4, 5\)"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
