import math

import torch

from mdtdist.nn import TimestepEmbedder, absolute_position_embedding, dense_grid_coords


def test_time_features_are_cosines_then_sines():
    embedder = TimestepEmbedder(256)
    with torch.no_grad():
        for layer in (embedder.mlp[0], embedder.mlp[2]):
            layer.weight.copy_(torch.eye(256))
            layer.bias.zero_()
    t, i = 750.0, 40
    w = math.exp(-math.log(10000) * i / 128)
    y = embedder(torch.tensor([t]))[0]
    silu = torch.nn.functional.silu(torch.tensor([math.cos(t * w), math.sin(t * w)]))
    assert torch.allclose(y[[i, 128 + i]], silu, atol=1e-4)
    assert tuple(embedder.state_dict()) == ("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias")


def test_position_embedding_has_axis_blocks_of_sines_then_cosines():
    y = absolute_position_embedding(torch.tensor([[3, 5, 7]]), 32)  # 5 frequencies, 30 channels, 2 zeros
    w = 10000 ** (-torch.arange(5) / 5)
    expected = torch.cat([f(p * w) for p in (3, 5, 7) for f in (torch.sin, torch.cos)])
    assert torch.allclose(y[0, :30], expected, atol=1e-6)
    assert y.shape == (1, 32) and (y[0, 30:] == 0).all()


def test_grid_coordinates_have_z_fastest():
    coords = dense_grid_coords(3)
    assert coords[:4].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]]
    assert coords[9].tolist() == [1, 0, 0] and len(coords) == 27
