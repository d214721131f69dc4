import pytest
import torch
from skimage.metrics import structural_similarity

from mdtdist.errors import InputError
from mdtdist.training.image_loss import ssim


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
