"""Pictures of held-out objects: what each method made of the same input."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mdtdist.evaluation.model_benchmark.benchmark import Quality
from mdtdist.evaluation.model_benchmark.methods import REFERENCE, TEACHER, Method
from mdtdist.evaluation.model_benchmark.test_objects import TestObject

_HEADER, _GAP = 22, 4  # pixels


def figure_methods(methods: Sequence[Method], *, student: str) -> list[Method]:
    """The methods that the figures show, of those that were run: teacher at 25 and 1, student at 1 and 2 steps."""
    wanted = (
        REFERENCE,
        Method(suffix=TEACHER, steps=(1, 1), guided=True),
        Method(suffix=student, steps=(1, 1), guided=False),
        Method(suffix=student, steps=(2, 2), guided=False),
    )
    return [method for method in wanted if method in methods]


def first_objects(num_objects: int, count: int = 8) -> list[int]:
    """The first by order of id: not chosen."""
    return list(range(min(num_objects, count)))


def worst_objects(f1: Float[np.ndarray, "N"], count: int = 6) -> list[int]:
    """The lowest scores, the worst first."""
    return np.argsort(f1, kind="stable")[:count].tolist()


def comparison_figure(
    objects: Sequence[TestObject], picks: Sequence[int], qualities: Mapping[str, Quality]
) -> Image.Image:
    """One row per object: input, truth, then each method from the camera of the truth, on white.

    Args:
        objects: test objects.
        picks: which of them.
        qualities: label -> what a method made, in the order of the columns.
    """
    columns = ["input", "truth", *qualities]
    rows = [
        [
            _input_picture(objects[i]),
            _truth_picture(objects[i]),
            *[quality.pictures[i] for quality in qualities.values()],
        ]
        for i in picks
    ]
    side = rows[0][1].shape[0]
    pitch = side + _GAP
    sheet = Image.new("RGB", (pitch * len(columns) - _GAP, _HEADER + pitch * len(rows) - _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, label in enumerate(columns):
        draw.text((column * pitch + 3, 4), label, fill="black", font=font)
    for number, row in enumerate(rows):
        for column, pixels in enumerate(row):
            sheet.paste(Image.fromarray(pixels).resize((side, side)), (column * pitch, _HEADER + number * pitch))
    return sheet


def _input_picture(item: TestObject) -> UInt8[np.ndarray, "H W 3"]:
    return _to_uint8(item.crop[:3] + 1 - item.crop[3:])


def _truth_picture(item: TestObject) -> UInt8[np.ndarray, "H W 3"]:
    return _to_uint8(item.pictures[0])


def _to_uint8(picture: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
