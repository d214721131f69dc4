"""Soft and shaped pieces that seats share: cushions, pillows, slats, bent boards."""

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.draws import Rng, between, chance, count
from mdtdist.data.generated.solids import Solid, rounded_box, superquadric


def cushion(width: float, depth: float, height: float, *, puff: float = 0.25) -> Solid:
    """A stuffed block on the origin; its top bulges by ``puff`` of its height."""
    block = rounded_box(width, depth, height, radius=0.35 * height, divisions=(4, 4, 1))

    def bulge(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        level = (1 - (2 * v[:, 0] / width) ** 2) * (1 - (2 * v[:, 1] / depth) ** 2)
        return v + np.outer(puff * level * v[:, 2], [0, 0, 1])

    return block.mapped(bulge)


def pillow(width: float, height: float, thickness: float) -> Solid:
    """A throw pillow that stands on the origin and faces -Y, thin along its seams."""
    shape = superquadric((width / 2, height / 2, thickness / 2), roundness=(1.0, 0.3), rings=8, sides=20)
    return shape.turned("x", 90).moved(z=height / 2)


def curved(solid: Solid, depth: float, width: float) -> Solid:
    """Bent about the vertical so that its sides come forward (-Y) by ``depth`` at +-``width`` / 2."""
    return solid.mapped(lambda v: v - np.outer(depth * (2 * v[:, 0] / width) ** 2, [0, 1, 0]))


def leaning(solids: list[Solid], degrees: float) -> list[Solid]:
    """Tilted backwards (top towards +Y) about the x axis."""
    return [solid.turned("x", -degrees) for solid in solids]


def slats(width: float, depth: float, number: int, thickness: float, *, gap: float = 0.25) -> list[Solid]:
    """Boards along x, side by side over ``depth``, on z = 0; ``gap`` is the share of a board left open."""
    pitch = depth / (number - gap)
    board = rounded_box(width, pitch * (1 - gap), thickness, radius=0.2 * thickness)
    return [board.moved(y=-depth / 2 + pitch * (index + (1 - gap) / 2)) for index in range(number)]


def seat_board(rng: Rng, width: float, depth: float, thickness: float) -> list[Solid]:
    """A seat of wood on z = 0: one flat board, one hollowed like a saddle, or slats."""
    if chance(rng, 0.25):
        return slats(width, depth, count(rng, 3, 7), thickness)
    board = rounded_box(width, depth, thickness, radius=between(rng, 0.1, 0.45) * thickness, divisions=(6, 1, 1))
    if chance(rng, 0.5):
        return [board]
    dip = between(rng, 0.3, 0.6)
    return [board.mapped(lambda v: v + np.outer(dip * (2 * v[:, 0] / width) ** 2 * v[:, 2], [0, 0, 1]))]
