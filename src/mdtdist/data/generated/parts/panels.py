"""Flat things with a picture on them, and books."""

import numpy as np

from mdtdist.data.generated import textures
from mdtdist.data.generated.assembly import Parts, painted
from mdtdist.data.generated.colors import WHITE, paint_color
from mdtdist.data.generated.draws import Rng, between, chance, pick
from mdtdist.data.generated.finishes import plain, printed
from mdtdist.data.generated.solids import Solid, box, grid, rounded_box

_GOLD = (0.8, 0.65, 0.3)


def panel(width: float, height: float) -> Solid:
    """An open rectangle that stands on the origin and faces -Y; u runs to the right, v up."""
    x, z = np.meshgrid([-width / 2, width / 2], [0.0, height])
    return grid(np.stack([x, np.zeros_like(x), z], axis=-1), np.stack([x + width / 2, z], axis=-1))


def frame_bars(width: float, height: float, bar: float, thickness: float) -> list[Solid]:
    """A rectangular frame that stands on the origin in the plane y = 0."""
    upright_bar = rounded_box(bar, thickness, height, radius=0.2 * thickness)
    level_bar = rounded_box(width - 2 * bar, thickness, bar, radius=0.2 * thickness)
    sides = [upright_bar.moved(x=sign * (width - bar) / 2) for sign in (-1, 1)]
    return [*sides, level_bar, level_bar.moved(z=height - bar)]


def books(rng: Rng, width: float, depth: float, height: float) -> Parts:
    """Books side by side on z = 0, their spines to the front, over a part of the width."""
    parts: Parts = []
    x, end = -width / 2, width * (between(rng, 0.5, 1.0) - 0.5)
    while x < end and len(parts) < 16:
        thick = min(between(rng, 0.02, 0.06), width)
        parts += book(rng, thick, between(rng, 0.75, 1.0) * depth, between(rng, 0.65, 1.0) * height, x + thick / 2)
        x += thick + 0.002
    return parts


def book(rng: Rng, thickness: float, depth: float, height: float, x: float = 0.0) -> Parts:
    """One book, upright: a cover, some with bands on the spine, and paler pages that show on top."""
    color = paint_color(rng)
    finish = plain(color)
    if chance(rng, 0.3):
        finish = printed(textures.stripes(rng, color, pick(rng, (WHITE, _GOLD))), (height, height))
    pages = box(0.7 * thickness, depth - 0.012, height + 0.004).moved(x, 0.007)
    return [painted(box(thickness, depth, height).moved(x), finish), painted(pages, plain((0.93, 0.9, 0.82)))]
