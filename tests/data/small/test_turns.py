import hashlib

import numpy as np
import pytest

from mdtdist.data.bundle import list_bundle, write_bundle
from mdtdist.data.small import load_turned, turned
from mdtdist.data.small.turns import HELD_OUT_SPREAD, turn
from mdtdist.data.sources import Asset
from mdtdist.errors import InputError
from mdtdist.representations.triangles import Material
from tests.data.shapes import RED, square


def item(number, split="train"):
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    metadata = {} if split is None else {"split": split}
    return Asset(source_id=f"chair_{number}", sha256=sha256, path=None, name="chair", metadata=metadata)


def test_training_turns_fall_one_into_each_part_of_the_circle():
    items = turned([item(n) for n in range(200)], train_turns=6)
    yaws = np.array([asset.metadata["yaw"] for asset in items]).reshape(200, 6)
    edges = np.linspace(-180, 180, 7)
    assert ((yaws >= edges[:-1]) & (yaws <= edges[1:])).all()
    place = (yaws - edges[:-1]) / 60  # within its part
    assert np.abs(place.mean(axis=0) - 0.5).max() < 0.08 and len(np.unique(yaws)) > 1190
    assert place.min() < 0.01 and place.max() > 0.99


def test_a_held_out_object_is_one_item_near_its_front():
    for split in ("val", "test"):
        items = turned([item(n, split) for n in range(200)], train_turns=6)
        yaws = np.array([asset.metadata["yaw"] for asset in items])
        assert len(items) == 200 and np.abs(yaws).max() <= HELD_OUT_SPREAD == 80
        assert np.abs(yaws).max() > 75 and abs(yaws.mean()) < 10


def test_items_have_ids_of_their_own_and_the_split_of_their_object():
    objects = [item(1, "train"), item(2, "test")]
    items = turned(objects, train_turns=3)
    expected = [(objects[0], 0), (objects[0], 1), (objects[0], 2), (objects[1], 0)]
    for asset, (source, index) in zip(items, expected, strict=True):
        assert asset.sha256 == hashlib.sha256(f"{source.sha256}:{index}".encode()).hexdigest()
        assert asset.metadata["object"] == source.sha256 and asset.metadata["split"] == source.metadata["split"]
        assert asset.source_id == f"{source.source_id}@{index}" and asset.name == source.name
    assert len({asset.sha256 for asset in items}) == 4
    assert items == turned(objects[:1], train_turns=3) + turned(objects[1:], train_turns=8)


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="turns is 0"):
        turned([item(1)], train_turns=0)
    with pytest.raises(InputError, match="chair_1 has the split None; give a bundle"):
        turned([item(1, None)], train_turns=1)


def test_a_quarter_turn_brings_the_front_to_the_right():
    """Counterclockwise from above: -Y goes to +X, +X to +Y."""
    corners = [[0.0, -0.5, 0.1], [0.3, 0.0, 0.1], [0.0, 0.5, 0.1], [0.0, 0.0, -0.2]]
    mesh = square(corners, Material(color=RED))
    after = turn(mesh, yaw=90).vertices
    expected = [[0.5, 0.0, 0.1], [0.0, 0.3, 0.1], [-0.5, 0.0, 0.1], [0.0, 0.0, -0.2]]
    middle = np.array([0.0, 0.15, -0.05])  # the box is centred again
    np.testing.assert_allclose(after, np.array(expected) - middle, atol=2e-6)


def test_a_turned_model_fills_the_cube_again(tmp_path):
    mesh = square([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], Material(color=RED))
    write_bundle(tmp_path / "o.bundle", [(item(1), mesh)])
    for asset in turned(list_bundle(tmp_path / "o.bundle"), train_turns=3):
        yaw, vertices = np.radians(asset.metadata["yaw"]), load_turned(asset).vertices
        assert np.ptp(vertices, axis=0).max() == pytest.approx(1, abs=1e-5)
        side = 1 / (abs(np.cos(yaw)) + abs(np.sin(yaw)))  # of the square whose box has a side of one
        lengths = np.linalg.norm(vertices - vertices.mean(axis=0), axis=1)
        np.testing.assert_allclose(lengths, side / np.sqrt(2), atol=1e-3)
