"""Image tokens and their projection."""

import pytest
import torch

from mdtdist.conditioning.tokens import NUM_TOKENS, TOKEN_CHANNELS, ImageTokenEncoder, fit_projection
from mdtdist.errors import InputError

ALPHA = slice(768, 832)
RGB = slice(832, 880)
POSITION = slice(880, 896)


@pytest.fixture(scope="module")
def encoder():
    return ImageTokenEncoder()


def crops(num: int = 2) -> torch.Tensor:
    image = torch.rand(num, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    return torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)


def test_layout_of_a_token(encoder):
    image = torch.zeros(1, 4, 128, 128)
    image[:, 3, :64] = 1  # alpha in the upper half
    image[:, 0, :, 64:] = 1  # red in the right half
    tokens = encoder.raw_tokens(image).reshape(7, 7, TOKEN_CHANNELS)
    assert tokens.shape[:2].numel() == NUM_TOKENS
    assert bool((tokens[:3, :, ALPHA] == 1).all()) and bool((tokens[4:, :, ALPHA] == -1).all())
    red, blue = tokens[..., RGB][..., :16], tokens[..., RGB][..., 32:]
    assert bool((red[:, 4:] == 1).all()) and bool((red[:, :3] == -1).all()) and bool((blue == -1).all())


def test_feature_groups_are_normalised(encoder):
    tokens = encoder.raw_tokens(crops())
    for group in (slice(0, 448), slice(448, 768)):
        torch.testing.assert_close(tokens[..., group].mean(-1), torch.zeros(2, 49), atol=1e-5, rtol=0)
        torch.testing.assert_close(tokens[..., group].var(-1, correction=0), torch.ones(2, 49), atol=1e-3, rtol=0)


def test_position_code_tells_cells_apart_and_x_from_y(encoder):
    code = encoder.raw_tokens(crops(1))[0, :, POSITION]
    assert (torch.cdist(code, code) + torch.eye(49)).min() > 0.1
    x_code = code.reshape(7, 7, 16)[..., [0, 1, 2, 3, 8, 9, 10, 11]]
    torch.testing.assert_close(x_code, x_code[:1].expand(7, -1, -1))  # x does not change down a column


def test_mirrored_tokens_are_the_tokens_of_the_mirrored_crop(encoder):
    image = crops(1)
    tokens, mirrored = encoder(image).reshape(7, 7, -1), encoder(image.flip(-1)).reshape(7, 7, -1)
    torch.testing.assert_close(mirrored[..., ALPHA].mean(-1), tokens[..., ALPHA].mean(-1).flip(1))
    assert not torch.allclose(mirrored[..., RGB].mean(-1), tokens[..., RGB].mean(-1))
    torch.testing.assert_close(mirrored[..., POSITION], tokens[..., POSITION])  # cells stay where they are


def test_batch_equals_one_by_one(encoder):
    image = crops()
    torch.testing.assert_close(encoder(image), torch.cat([encoder(one[None]) for one in image]), atol=1e-5, rtol=0)


def test_projection_whitens_in_order_of_variance():
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(3, 0.1, 20)
    tokens = torch.randn(4000, 20, generator=generator) * scale + 5
    mean, components = fit_projection(tokens, rank=6)
    projected = (tokens - mean) @ components
    torch.testing.assert_close(projected.T.cov(), torch.eye(6), atol=1e-4, rtol=0)
    # Variance falls by axis, so component i is axis i divided by its standard deviation, with a positive sign.
    torch.testing.assert_close(components.diagonal(), 1 / scale[:6], rtol=0.1, atol=0)


def test_projection_does_not_blow_up_constant_channels():
    tokens = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    tokens[:, 2:] = 7
    _, components = fit_projection(tokens, rank=4)
    assert components.norm(dim=0).max() < 2e3


def test_projection_needs_more_tokens_than_directions():
    with pytest.raises(InputError, match="256 channels"):
        fit_projection(torch.randn(256, TOKEN_CHANNELS))


def test_save_then_load_is_the_same_encoder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    mean, components = torch.randn(896, generator=generator), torch.randn(896, 12, generator=generator) / 30
    encoder = ImageTokenEncoder.with_projection(mean, components)
    encoder.save(tmp_path / "ckpts" / "tokens")
    assert sorted(path.name for path in (tmp_path / "ckpts").iterdir()) == ["tokens.json", "tokens.safetensors"]
    loaded = ImageTokenEncoder.load(tmp_path / "ckpts" / "tokens")
    image = crops(1)
    assert torch.equal(loaded(image), encoder(image)) and loaded(image).shape == (1, 49, 12)
    torch.testing.assert_close(loaded(image), (encoder.raw_tokens(image) - mean) @ components)


def test_missing_encoder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        ImageTokenEncoder.load(tmp_path / "tokens")
