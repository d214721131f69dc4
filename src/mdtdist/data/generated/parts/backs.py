"""Backs of seats. Each stands on the origin, faces -Y, and comes as (frame, filling): two lists of solids."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.parts.upholstery import curved, cushion
from mdtdist.data.generated.solids import Solid, in_row, pair, rounded_box
from mdtdist.data.generated.sweeps import arc, rod, rounded_path, spline, tube

Back = tuple[list[Solid], list[Solid]]


def slat_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """Two posts, a top rail, and upright slats or spindles."""
    number, low = count(rng, 3, 9), 0.2 * height
    pitch = (width - 2 * bar) / number
    slat = _board(low, height - bar, between(rng, 0.3, 0.75) * pitch, 0.4 * bar)
    if chance(rng, 0.5):
        slat = rod((0, 0, low), (0, 0, height - bar), 0.25 * bar)
    rails = [_rail(width, height - 0.8 * bar, between(rng, 1.5, 3.5) * bar, bar), _rail(width, low, bar, bar)]
    return _shaped(rng, [*_posts(width, height, bar), *rails, *in_row(number, pitch, slat)], width), []


def ladder_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """Two posts and level slats, plain or bowed."""
    number = count(rng, 2, 6)
    tall = between(rng, 0.3, 0.7) * height / number
    levels = np.linspace(0.25, 1.0, number) * height - tall
    slats = [_rail(width, float(level), tall, 0.5 * bar) for level in levels]
    return [*_posts(width, height, bar), *_shaped(rng, slats, width)], []


def panel_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """A board or padded panel between posts, or held from behind."""
    low, pad = between(rng, 0.1, 0.45) * height, between(rng, 0.6, 2.0) * bar
    panel = rounded_box(width - bar, pad, height - low, radius=0.4 * pad, segments=2, divisions=(6, 1, 1))
    behind = [post.moved(y=0.6 * pad) for post in _posts(0.6 * width, 0.8 * height, bar)]
    posts = _posts(width, height, bar) if chance(rng, 0.6) else behind
    return posts, [curved(panel.moved(z=low), between(rng, 0, 0.08), width)]


def hoop_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """A bent hoop with spindles from the seat up to it (Windsor)."""
    radius = 0.4 * bar
    half = width / 2 - radius
    outline = arc(1.0, 0, 180, pieces=14) * np.array([half, 0.45 * height]) + np.array([0, 0.55 * height])
    line = np.concatenate([[[0.92 * half, 0.0]], outline, [[-0.92 * half, 0.0]]])
    frame = [tube(np.insert(line, 1, 0.0, axis=1), radius)]
    for share in np.linspace(-0.75, 0.75, count(rng, 4, 9)):
        top = height * (0.55 + 0.45 * float(np.sqrt(1 - share**2)))
        frame.append(rod((0.85 * share * half, 0, 0), (share * half, 0, top), 0.5 * radius, sides=6))
    return _shaped(rng, frame, width), []


def cushion_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """A thick stuffed back down to the seat."""
    pad = cushion(width, height, between(rng, 0.06, 0.11)).turned("x", 90).moved(0, 0.05, height / 2)
    return [], [curved(pad, between(rng, 0, 0.1), width)]


def shell_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """A shell that wraps around the seat, high behind and low at the front."""
    thickness, reach = max(0.6 * bar, 0.015), between(rng, 0.45, 0.7) * width
    shell = rounded_box(width, thickness, 1.0, radius=0.4 * thickness, divisions=(14, 1, 3))

    def wrap(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        angle, away = np.pi * v[:, 0] / width, 1 + 2 * v[:, 1] / width
        tall = height * (0.45 + 0.55 * np.cos(angle) ** 2) * v[:, 2]
        return np.stack([width / 2 * away * np.sin(angle), reach * (away * np.cos(angle) - 1), tall], axis=1)

    return [], [shell.mapped(wrap)]


def mesh_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """A bent pipe around a thin panel of cane or cloth."""
    half, radius = width / 2 - bar / 2, 0.4 * bar
    line = [(half, 0, 0), (half, 0, height), (-half, 0, height), (-half, 0, 0)]
    panel = _board(between(rng, 0.15, 0.4) * height, height - 0.5 * radius, 2 * half, 0.4 * radius)
    return [tube(rounded_path(line, between(rng, 0.03, 0.15)), radius)], [panel]


def splat_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """Posts, a yoke on top, and one shaped board in the middle."""
    half, crest = width / 2 - bar / 2, height + bar
    widths = spline(rng.uniform(0.1, 0.4, (count(rng, 4, 6), 1)) * width, steps=3)[:, 0].clip(0.06 * width)
    line = np.outer(np.linspace(0.05, 0.95, len(widths)) * height, [0, 0, 1])
    splat = tube(line, 0.7 * widths, sides=4).scaled(y=0.35 * bar / width)
    yoke = [(-half, 0, height), (-0.5 * half, 0, crest), (0, 0, height), (0.5 * half, 0, crest), (half, 0, height)]
    return [*_posts(width, height, bar), tube(spline(yoke), 0.5 * bar), splat], []


BACKS: dict[str, Callable[[Rng, float, float, float], Back]] = {
    "slat": slat_back,
    "ladder": ladder_back,
    "panel": panel_back,
    "hoop": hoop_back,
    "cushion": cushion_back,
    "shell": shell_back,
    "mesh": mesh_back,
    "splat": splat_back,
}


def any_back(rng: Rng, width: float, height: float, bar: float) -> Back:
    """One of the kinds; ``bar`` is the thickness of a post."""
    return pick(rng, list(BACKS.values()), (4, 3, 4, 2, 2, 1.5, 2, 1))(rng, width, height, bar)


def _posts(width: float, height: float, bar: float) -> list[Solid]:
    return pair(rounded_box(bar, bar, height, radius=0.15 * bar).moved(x=(width - bar) / 2))


def _rail(width: float, low: float, height: float, thickness: float) -> Solid:
    return rounded_box(width - 0.02, thickness, height, radius=0.2 * thickness, divisions=(4, 1, 1)).moved(z=low)


def _board(low: float, high: float, width: float, thickness: float) -> Solid:
    return rounded_box(width, thickness, high - low, radius=0.2 * thickness).moved(z=low)


def _shaped(rng: Rng, solids: list[Solid], width: float) -> list[Solid]:
    """Half of the time bent about the vertical."""
    depth = between(rng, 0.02, 0.07) if chance(rng, 0.5) else 0.0
    return [curved(solid, depth, width) for solid in solids]
