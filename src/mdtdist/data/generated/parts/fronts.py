"""Bodies of cabinets: blocks with drawers or doors in front, open boxes of boards, handles."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, painted
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, metal, paint, wood
from mdtdist.data.generated.parts.panels import frame_bars
from mdtdist.data.generated.solids import Solid, box, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import rounded_path, torus, tube

Finishes = tuple[Finish, Finish, Finish]  # of the body, the fronts, the handles
BOARD = 0.022  # thickness of a board


def cabinet_finishes(rng: Rng) -> Finishes:
    """Body, fronts (half the time the same) and handles."""
    body = pick(rng, (wood, paint), (3, 2))(rng)
    return body, body if chance(rng, 0.5) else pick(rng, (wood, paint))(rng), metal(rng)


def with_drawers(rng: Rng, width: float, depth: float, height: float, finishes: Finishes) -> Parts:
    """A closed block on z = 0 with drawers in its front, each with a handle."""
    body, front, grip = finishes
    number, style = min(max(1, round(height / between(rng, 0.14, 0.28))), 7), count(rng, 0, 3)
    tall = (height - 0.03) / number
    face = rounded_box(width - 0.03, 0.022, tall - 0.015, radius=0.005).moved(0, -depth / 2 - 0.008, 0.02)
    knob = handle(style, min(0.35 * width, 0.14)).moved(0, -depth / 2 - 0.019, 0.02 + 0.55 * tall)
    parts = [painted(box(width, depth, height), body)]
    for index in range(number):
        parts += [painted(face.moved(z=tall * index), front), painted(knob.moved(z=tall * index), grip)]
    return parts


def with_door(rng: Rng, width: float, depth: float, height: float, finishes: Finishes) -> Parts:
    """A closed block on z = 0 with a door: flush, with a raised frame, or of slats."""
    body, front, grip = finishes
    face, kind = -depth / 2 - 0.008, pick(rng, ("flush", "frame", "louvre"), (3, 3, 1))
    door = rounded_box(width - 0.02, 0.022, height - 0.03, radius=0.005).moved(0, face, 0.015)
    parts = [painted(box(width, depth, height), body), painted(door, front)]
    if kind == "frame":
        rails = frame_bars(width - 0.02, height - 0.03, min(0.06, 0.15 * width), 0.018)
        parts += coat([bar.moved(0, face - 0.019, 0.015) for bar in rails], pick(rng, (front, body)))
    if kind == "louvre":
        number = min(int(height / 0.05), 24)
        slat = box(width - 0.1, 0.014, 0.55 * (height - 0.1) / number)
        levels = 0.05 + (height - 0.1) * np.arange(number) / number
        parts += coat([slat.moved(0, face - 0.016, float(level)) for level in levels], front)
    side = pick(rng, (-1, 1)) * (width / 2 - 0.05)
    knob = handle(count(rng, 0, 3), 0.12).turned("y", 90).moved(side, face - 0.022, 0.55 * height)
    return [*parts, painted(knob, grip)]


def handle(style: int, length: float) -> Solid:
    """A handle on a front at y = 0, along x, sticking out to -Y: knob, bar, bow or ring."""
    if style == 0:
        return superquadric((0.018, 0.018, 0.018), rings=6, sides=10).moved(y=-0.016)
    if style == 1:
        return rounded_box(length, 0.022, 0.014, radius=0.004).moved(y=-0.01)
    if style == 2:
        line = [(-length / 2, 0, 0), (-length / 2, -0.03, 0), (length / 2, -0.03, 0), (length / 2, 0, 0)]
        return tube(rounded_path(line, 0.015), 0.007, sides=6)
    return torus(0.024, 0.006, sides=14, rings=6).turned("x", 90).moved(0, -0.01, -0.02)


def carcass(width: float, depth: float, height: float, levels: int, *, with_back: bool = True) -> list[Solid]:
    """An open box of boards with ``levels`` compartments one above the other."""
    wall = box(BOARD, depth, height).moved(x=(width - BOARD) / 2)
    board = box(width - 2 * BOARD, depth, BOARD)
    boards = [board.moved(z=(height - BOARD) * index / levels) for index in range(levels + 1)]
    back = box(width - BOARD, 0.01, height - 0.004).moved(0, depth / 2 - 0.008, 0.002)
    return [*pair(wall), *boards, *([back] if with_back else [])]
