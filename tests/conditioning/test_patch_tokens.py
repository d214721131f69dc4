"""Patch tokens: what is in a cell, what is learned, what never changes."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F

from mdtdist.conditioning import PatchTokenEncoder
from mdtdist.conditioning.patch_tokens import FIXED_CHANNELS, NUM_TOKENS
from mdtdist.errors import InputError

STEM = (4, 4, 8, 8)
RGB, ALPHA, POSITION = slice(-80, -32), slice(-32, -16), slice(-16, None)


def make_encoder(channels: int = 96, *, seed: int = 0) -> PatchTokenEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PatchTokenEncoder(channels=channels, stem_channels=STEM)


@pytest.fixture(scope="module")
def encoder() -> PatchTokenEncoder:
    return make_encoder()


def crops(num: int = 2, size: int = 224) -> torch.Tensor:
    image = torch.rand(num, 4, size, size, generator=torch.Generator().manual_seed(0))
    return torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)


def grid(tokens: torch.Tensor) -> torch.Tensor:
    """[B, row, column, C]."""
    return tokens.unflatten(1, (14, 14))


@torch.no_grad()
def test_fixed_channels_by_hand(encoder):
    image = torch.zeros(1, 4, 224, 224)
    image[:, 3, :112] = 1  # alpha in the upper half
    image[:, 0, :112, 112:] = 1  # red in its right half
    image[0, :, 0:4, 4:8] = torch.tensor([0.0, 0.0, 0.5, 1.0])[
        :, None, None
    ]  # the second of 56 pixels of the first row
    tokens = grid(encoder(image))[0]
    assert (tokens[:7, :, ALPHA] == 1).all() and (tokens[7:, :, ALPHA] == -1).all()
    red, green, blue = tokens[..., RGB].unflatten(-1, (3, 16)).unbind(-2)
    assert (red[:7, 7:] == 1).all() and (red[:7, :7] == -1).all() and (red[7:] == -1).all() and (green == -1).all()
    assert blue[0, 0].tolist() == [-1, 0] + 14 * [-1]
    assert (blue.flatten()[16:] == -1).all()


@torch.no_grad()
def test_position_code_tells_cells_apart_and_x_from_y(encoder):
    code = encoder(crops(1))[0, :, POSITION]
    assert (torch.cdist(code, code) + torch.eye(NUM_TOKENS)).min() > 0.3  # observed 0.58
    assert code.square().mean().item() == pytest.approx(1)
    waves = code.unflatten(0, (14, 14)).unflatten(-1, (2, 2, 4))  # sine or cosine, x or y, frequency
    torch.testing.assert_close(waves[..., 0, :], waves[:1, ..., 0, :].expand(14, -1, -1, -1))  # along a column
    torch.testing.assert_close(waves[..., 1, :], waves[:, :1, ..., 1, :].expand(-1, 14, -1, -1))
    # A quarter period over the picture rises from left to right and from top to bottom.
    assert (waves[0, :, 0, 0, 0].diff() > 0).all() and (waves[:, 0, 0, 1, 0].diff() > 0).all()


@torch.no_grad()
def test_frozen_features_belong_to_their_cell(encoder):
    picture = crops(1)
    features, groups = encoder.trunk(picture[:, :3]), grid(encoder._frozen(picture)).split([160, 112, 320], -1)
    fine = features[8].unfold(2, 2, 2).unfold(3, 2, 2)[0]  # channel, row, column, two by two
    middle, coarse = features[16][0], F.interpolate(features[32], size=14, mode="bilinear")[0]
    for row, column in ((0, 0), (2, 5), (13, 6)):
        cells = fine[:, row, column].flatten(), middle[:, row, column], coarse[:, row, column]
        for group, cell in zip(groups, cells, strict=True):
            torch.testing.assert_close(group[0, row, column], F.layer_norm(cell, cell.shape), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_stem_looks_at_its_cell_and_equally_far_around_it():
    """Group norms look everywhere, so the convolutions are tried alone, with equal weights."""
    convolutions = [layer for layer in make_encoder().stem if isinstance(layer, torch.nn.Conv2d)]
    for convolution in convolutions:
        convolution.weight.fill_(1)
        convolution.bias.zero_()
    dots = torch.zeros(1, 6, 224, 224)
    dots[..., 3 * 16 + 7 : 3 * 16 + 9, 9 * 16 + 7 : 9 * 16 + 9] = 1  # the middle of a cell
    seen = torch.nn.Sequential(*convolutions)(dots)[0, 0]
    assert seen.shape == (14, 14) and seen.argmax() == 3 * 14 + 9 and (seen > 0).sum() == 9
    torch.testing.assert_close(seen[2:5, 8:11], seen[2:5, 8:11].flip(0, 1))


@torch.no_grad()
def test_what_the_stem_makes_of_a_cell_goes_to_its_token():
    encoder, given = make_encoder(), []
    numbered = torch.arange(float(NUM_TOKENS)).reshape(1, 1, 14, 14).expand(1, STEM[-1], -1, -1)
    encoder.stem.register_forward_hook(lambda module, inputs, output: numbered)
    encoder.mix.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    encoder(crops(1))
    assert torch.equal(given[0][0, :, -1], torch.arange(float(NUM_TOKENS)))
    assert given[0].shape[-1] == 592 + FIXED_CHANNELS + STEM[-1]


@torch.no_grad()
def test_stem_gets_colours_from_minus_one_to_one_and_the_place_of_each_pixel(encoder):
    given = []
    hook = encoder.stem.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    image = crops(1)
    encoder(image)
    hook.remove()
    torch.testing.assert_close(given[0][:, :4], 2 * image - 1)
    x, y = given[0][0, 4:]
    assert x[0, 0] == -x[0, -1] == y[0, 0] == -y[-1, 0] == pytest.approx(1 / 224 - 1)
    assert (x.diff(dim=1) > 0).all() and (y.diff(dim=0) > 0).all()


@torch.no_grad()
def test_learned_channels_are_normed_sums_of_map_and_position():
    encoder = make_encoder()
    encoder.mix.weight.zero_()
    learned = encoder(crops())[..., :-FIXED_CHANNELS]
    expected = F.layer_norm(encoder.mix.bias + encoder.position, (16,))
    torch.testing.assert_close(learned, expected.expand(2, -1, -1))


def test_gradients_reach_what_is_learned_and_not_the_trunk():
    encoder = make_encoder()
    encoder(crops(1))[..., :-FIXED_CHANNELS].square().sum().backward()
    encoder(crops(1))[..., :4].sum().backward()
    grads = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads.values())
    assert {name.partition(".")[0] for name in grads} == {"stem", "mix", "position", "norm"}
    assert all(p.grad is None and not p.requires_grad for p in encoder.trunk.parameters())
    assert grads.keys() == encoder.state_dict().keys()


@torch.no_grad()
def test_no_parameter_moves_the_fixed_channels():
    encoder, image = make_encoder(), crops()
    before = encoder(image)
    for parameter in encoder.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    after = encoder(image)
    assert torch.equal(after[..., -FIXED_CHANNELS:], before[..., -FIXED_CHANNELS:])
    assert (after != before)[..., :-FIXED_CHANNELS].float().mean() > 0.99


@torch.no_grad()
def test_sixteen_bits_touch_only_what_is_learned(encoder):
    image = crops(1)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        low = encoder(image)
    high = encoder(image)
    assert low.dtype == torch.float32
    assert torch.equal(low[..., -FIXED_CHANNELS:], high[..., -FIXED_CHANNELS:]) and not torch.equal(low, high)
    torch.testing.assert_close(low, high, atol=0.1, rtol=0)  # observed 0.02


@torch.no_grad()
def test_batch_equals_one_by_one_and_other_sizes_are_resized(encoder):
    image = crops(2, 128)
    tokens = encoder(image)
    torch.testing.assert_close(tokens, torch.cat([encoder(one[None]) for one in image]), atol=1e-4, rtol=0)
    larger = F.interpolate(image, size=(224, 224), mode="bilinear")
    learned = slice(None, -FIXED_CHANNELS)
    torch.testing.assert_close(encoder(larger)[..., learned], tokens[..., learned], atol=0.3, rtol=0)
    assert tokens.shape == (2, NUM_TOKENS, 96)


def test_the_trunk_goes_where_the_module_goes():
    encoder = make_encoder()
    twin = copy.deepcopy(encoder)
    assert encoder.double().trunk.stem.weight.dtype == torch.float64
    assert twin.trunk.stem.weight.dtype == torch.float32 and twin.trunk is not encoder.trunk
    assert not encoder.train().trunk.training and encoder.trunk.stages[0][0].depthwise.weight.dtype == torch.float64


@torch.no_grad()
def test_save_then_load_is_the_same_encoder(tmp_path):
    encoder = make_encoder(seed=3)
    encoder.save(tmp_path / "run" / "image_encoder")
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["image_encoder.json", "image_encoder.safetensors"]
    described = json.loads((tmp_path / "run" / "image_encoder.json").read_text())
    assert described == {"name": "PatchTokenEncoder", "args": {"channels": 96, "stem_channels": [4, 4, 8, 8]}}
    assert (tmp_path / "run" / "image_encoder.safetensors").stat().st_size < 100_000  # the trunk has 14 MB
    state = torch.get_rng_state()
    loaded = PatchTokenEncoder.load(tmp_path / "run" / "image_encoder")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded(crops(1)), encoder(crops(1))) and not torch.equal(
        loaded(crops(1)), make_encoder()(crops(1))
    )


def test_default_size():
    encoder = PatchTokenEncoder()
    assert encoder.channels == 320 and encoder.mix.weight.shape == (240, 800)
    assert sum(p.numel() for p in encoder.parameters()) == 571_472


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"channels": 80}, "channels is 80; expected more than the 80 that are fixed"),
        ({"stem_channels": [4, 4, 8]}, r"stem_channels is \[4, 4, 8\]; expected 4 numbers"),
        ({"stem_channels": [4, 4, 0, 8]}, "numbers from 1 up"),
        ({"width": 3}, "here does not describe a PatchTokenEncoder: .*width"),
        ({"channels": "many"}, "here does not describe a PatchTokenEncoder"),
    ],
)
def test_wrong_arguments_are_input_errors(args, words):
    with pytest.raises(InputError, match=words):
        PatchTokenEncoder.from_args(args, where="here")


def test_wrong_files_are_input_errors(encoder, tmp_path):
    with pytest.raises(InputError, match="tokens.json is missing"):
        PatchTokenEncoder.load(tmp_path / "tokens")
    (tmp_path / "tokens.json").write_text('{"name": "ImageTokenEncoder", "args": {"rank": 3}}')
    with pytest.raises(InputError, match="describes 'ImageTokenEncoder'; expected 'PatchTokenEncoder'"):
        PatchTokenEncoder.load(tmp_path / "tokens")
    encoder.save(tmp_path / "tokens")
    (tmp_path / "tokens.json").write_text('{"name": "PatchTokenEncoder", "args": {"channels": 100}}')
    with pytest.raises(InputError, match="tokens.safetensors.*'position'"):
        PatchTokenEncoder.load(tmp_path / "tokens")
    (tmp_path / "tokens.safetensors").unlink()
    with pytest.raises(InputError, match="tokens.safetensors is missing"):
        PatchTokenEncoder.load(tmp_path / "tokens")
