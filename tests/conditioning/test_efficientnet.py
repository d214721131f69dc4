"""The frozen image trunk."""

import pytest
import torch
import torch.nn.functional as F

from mdtdist.conditioning.efficientnet import SameConv2d, load_efficientnet

# Stride (0 = pooled) -> mean, standard deviation and first value, from efficientnet-lite-pytorch 0.1.0 in float32.
RECORDED = {
    2: (-0.5389, 6.2307, 6.9183),
    4: (0.5830, 8.2680, -0.1615),
    8: (-0.1488, 8.3486, 3.6803),
    16: (-0.1542, 5.6258, -0.8597),
    32: (-0.0328, 2.3590, 0.4909),
    0: (0.1996, 0.4739, 0.0169),
}


@pytest.fixture(scope="module")
def network():
    return load_efficientnet()


@pytest.fixture(scope="module")
def picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 224), torch.linspace(0, 1, 224), indexing="ij")
    return torch.stack([x, y, (x * y * 20).sin().abs()])[None]


def test_strides_and_channels(network):
    features = network(torch.zeros(2, 3, 64, 96))
    shapes = {stride: tuple(value.shape) for stride, value in features.items()}
    assert shapes == {
        2: (2, 16, 32, 48), 4: (2, 24, 16, 24), 8: (2, 40, 8, 12), 16: (2, 112, 4, 6), 32: (2, 320, 2, 3)
    }  # fmt: skip


def test_features_match_the_original_package(network, picture):
    features = network(picture)
    for stride, expected in RECORDED.items():
        value = features[stride] if stride else network.pooled(picture)
        actual = torch.stack([value.mean(), value.std(), value.flatten()[0]])
        # The weights are stored as float16: observed differences up to 0.06 at a standard deviation of 8.
        tolerance = 0.01 * expected[1]
        torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=tolerance)


def test_same_padding_puts_the_odd_pixel_at_the_end():
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    x = torch.zeros(1, 1, 4, 4)
    x[..., 3, 3] = 1
    # Windows start at pixel 0 and 2: the last pixel is seen once. Symmetric padding would start at -1 and 1.
    torch.testing.assert_close(conv(x), torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]]))
    x = torch.zeros(1, 1, 4, 4)
    x[..., 2, 2] = 1
    torch.testing.assert_close(conv(x), torch.ones(1, 1, 2, 2))


def test_same_padding_of_an_odd_size_is_symmetric():
    conv = SameConv2d(2, 3, 3, 2)
    x = torch.randn(1, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias, 2, 1))


def test_inputs_are_normalised_as_in_training(network):
    grey = torch.full((1, 3, 32, 32), 127 / 255)
    stem = {}
    handle = network.stem.register_forward_hook(lambda _, args, __: stem.update(x=args[0]))
    network(grey)
    handle.remove()
    torch.testing.assert_close(stem["x"], torch.zeros(1, 3, 32, 32), atol=1e-6, rtol=0)


def test_batch_equals_one_by_one_and_parameters_are_frozen(network, picture):
    batch = torch.cat([picture, picture.flip(-1)])
    single = torch.cat([network.pooled(image[None]) for image in batch])
    torch.testing.assert_close(network.pooled(batch), single, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in network.parameters())
