"""Pictures on their way to conditions: the crop of the TRELLIS loader, the choice of views, what is held out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.training.digests import digest, module_digest
from mdtdist.training.teachers import open_model
from mdtdist.training.view_conditions import (
    ViewEncoder,
    crop_render,
    last_by_hash,
    pick,
    read_render,
    render_box,
    split_by_hash,
    view_paths,
)


def alpha(rows: slice, columns: slice, *, value: int = 255) -> np.ndarray:
    plane = np.zeros((20, 20), dtype=np.uint8)
    plane[rows, columns] = value
    return plane


@pytest.mark.parametrize(
    ("rows", "columns", "box"),
    [
        # Extent 10 about (9, 9): half a side is 6.
        (slice(4, 15), slice(4, 15), (3, 3, 15, 15)),
        # About (5, 5.5), half 6: corners at -1, -0.5, 11 and 11.5 are cut off toward zero.
        (slice(2, 10), slice(0, 11), (-1, 0, 11, 11)),
        # About (6, 6), half 2.4: corners at 3.6 and 8.4.
        (slice(4, 9), slice(4, 9), (3, 3, 8, 8)),
        # The longer side decides.
        (slice(8, 11), slice(5, 16), (4, 3, 16, 15)),
    ],
)
def test_box_of_a_render(rows, columns, box):
    assert render_box(alpha(rows, columns)) == box


def test_faint_pixels_belong_to_the_object():
    plane = alpha(slice(6, 13), slice(6, 13))
    plane[4, 4] = plane[14, 14] = 1
    assert render_box(plane) == (3, 3, 15, 15)


@pytest.mark.parametrize(
    ("plane", "words"), [(alpha(slice(0), slice(0)), "transparent"), (alpha(slice(3, 4), slice(7, 8)), "pixel")]
)
def test_renders_without_an_object_are_refused(plane, words):
    with pytest.raises(InputError, match=words):
        render_box(plane)


def test_colours_are_multiplied_by_alpha_without_rounding():
    """The box has the size of the result, so that nothing is resampled."""
    pixels = np.zeros((20, 20, 4), dtype=np.uint8)
    pixels[4:15, 4:15] = (200, 100, 50, 255)
    pixels[9, 4:15] = (200, 100, 50, 128)
    crop = crop_render(Image.fromarray(pixels), size=12)
    expected = torch.zeros(4, 12, 12)
    colour = torch.tensor([200.0, 100.0, 50.0, 255.0]) / 255
    expected[:, 1:, 1:] = colour[:, None, None]
    share = 128 / 255
    expected[:, 6, 1:] = torch.tensor([*(colour[:3] * share).tolist(), share])[:, None]
    torch.testing.assert_close(crop, expected, atol=1e-6, rtol=0)


def test_views_that_cannot_be_used_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "rgb.png")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, words in (("rgb.png", "mode RGB"), ("cut.png", "cannot be read"), ("none.png", "cannot be read")):
        with pytest.raises(InputError, match=words) as caught:
            read_render(tmp_path / name, size=8)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"frames": []}', '{"frames": [{}]}', '{"frames": [{"file_path": "a", "cond": false}]}']
)
def test_objects_without_views_are_named(text, tmp_path):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(InputError, match=f"{tmp_path.name}.*metadata.csv|metadata.csv.*{tmp_path.name}"):
        view_paths(tmp_path)


def test_only_condition_views_are_used(tmp_path):
    frames = [{"file_path": "0.png"}, {"file_path": "1.png", "cond": False}, {"file_path": "2.png", "cond": True}]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    assert [path.name for path in view_paths(tmp_path)] == ["0.png", "2.png"]


def test_every_view_has_its_share():
    positions = torch.arange(1000) / 1000
    counts = torch.bincount(torch.tensor([pick(range(4), p) for p in positions.tolist()]))
    assert counts.tolist() == [250] * 4 and pick("ab", 1.0) == "b"


def test_what_is_held_out_does_not_move_when_objects_come():
    names = [f"{i:064x}" for i in range(3000)]
    train, held = split_by_hash(names)
    assert 15 <= len(held) <= 45 and sorted(train + held) == names  # 30 expected
    some = names[::2]
    assert split_by_hash(some) == ([n for n in some if n in train], [n for n in some if n in held])
    assert last_by_hash(names) in held and last_by_hash(train) not in held


def test_digests_tell_content_apart():
    x = torch.arange(6.0)
    assert digest("a", x) == digest("a", x.clone()) and len(digest()) == 32
    others = [digest("b", x), digest(x, "a"), digest("a", x.reshape(2, 3)), digest("a", x.int()), digest("a", x + 1)]
    others += [digest("a" + "b"), digest("a", "b"), digest("ab", ""), digest(x.bfloat16())]
    assert len({digest("a", x), *others}) == 10


def test_digest_of_a_network_follows_its_weights():
    network = torch.nn.Linear(2, 2)
    before = module_digest(network)
    with torch.no_grad():
        network.bias[0] += 1e-6
    assert module_digest(network) != before


def test_conditions_are_those_of_the_model_and_are_named(official_model):
    model = open_model(official_model, device="cpu")
    encoder = ViewEncoder(model, readers=2)
    crops = [torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        made = encoder.encode(crops)
    torch.testing.assert_close(made.tokens, model.encode(torch.stack(crops)), rtol=0, atol=0)
    assert len(set(made.keys)) == 3 and encoder.encode(crops[1:]).keys == made.keys[1:]
    other = open_model(official_model, device="cpu")
    with torch.no_grad():
        next(other.encoder.parameters()).add_(1)
    assert not set(ViewEncoder(other, readers=1).encode(crops).keys) & set(made.keys)
