"""Turned objects as assets of their own, so that every picture is taken from the front of what is to be generated.

A network that has to guess an object's own front from a picture fails on pictures from the side. Here the frame belongs
to the picture: the camera stands in front, and what differs from item to item is how the object was turned before.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mdtdist.data.bundle import read_object
from mdtdist.data.normalize import fit_to_cube
from mdtdist.data.sources import Asset
from mdtdist.data.split import SPLITS
from mdtdist.errors import InputError
from mdtdist.representations.triangles import TexturedTriangles

HELD_OUT_SPREAD = 80.0  # degrees to both sides of the object's front: as people take pictures


def turned(assets: Iterable[Asset], *, train_turns: int) -> list[Asset]:
    """Items of objects: each has an id, and in ``metadata`` its ``object``, ``yaw`` and ``split``.

    A training object gives ``train_turns`` items, or as many ``turns`` as its ``metadata`` says, one in each equal part
    of the circle; a validation or test object one item within 80 degrees of its own front. The yaws depend on the
    object's hash alone.

    Args:
        assets: objects of a bundle.
        train_turns: at least 1.

    Raises:
        InputError: for less than one turn, or an asset without a split.
    """
    if train_turns < 1:
        raise InputError(f"turns is {train_turns}; expected at least 1")
    return [item for asset in assets for item in _items(asset, train_turns)]


def load_turned(asset: Asset) -> TexturedTriangles:
    """The model of an item: turned by ``yaw`` degrees, counterclockwise seen from above, and fitted to the cube again.

    Raises:
        InputError: if its bundle cannot be read.
    """
    return turn(read_object(asset.path, asset.metadata["object"]), yaw=asset.metadata["yaw"])


def turn(triangles: TexturedTriangles, *, yaw: float) -> TexturedTriangles:
    """A model turned about the vertical (degrees, counterclockwise seen from above) and fitted to the unit cube."""
    cosine, sine = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    x, y, z = triangles.vertices.T
    vertices = np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=1)
    return fit_to_cube(replace(triangles, vertices=vertices))


def _items(asset: Asset, train_turns: int) -> list[Asset]:
    split = asset.metadata.get("split")
    if split not in SPLITS:
        raise InputError(f"{asset.source_id} has the split {split!r}; give a bundle, whose objects have one.")
    if split == "train":
        yaws = _yaws(asset.sha256, asset.metadata.get("turns", train_turns), 180.0)
    else:
        yaws = _yaws(asset.sha256, 1, HELD_OUT_SPREAD)
    return [
        replace(
            asset,
            source_id=f"{asset.source_id}@{index}",
            sha256=hashlib.sha256(f"{asset.sha256}:{index}".encode()).hexdigest(),
            size_cm=None,  # of the object as it stands, not of the turned one
            metadata={**asset.metadata, "object": asset.sha256, "yaw": yaw},
        )
        for index, yaw in enumerate(yaws)
    ]


def _yaws(sha256: str, count: int, spread: float) -> list[float]:
    """One in each of ``count`` equal parts of [-spread, spread], degrees."""
    jitter = np.random.default_rng(int(sha256[:16], 16)).random(count)
    yaws = spread * (2 * (np.arange(count) + jitter) / count - 1)
    return [round(float(yaw), 3) for yaw in yaws]
