"""Colours of generated objects: of paint, wood, metal, leaves, skin; display-referred sRGB in [0, 1]."""

import colorsys

from mdtdist.data.generated.draws import Rng, between, chance, pick

Color = tuple[float, float, float]

WHITE: Color = (0.94, 0.94, 0.92)
BLACK: Color = (0.09, 0.09, 0.1)
DARK: Color = (0.1, 0.1, 0.12)
TIRE: Color = (0.08, 0.08, 0.09)
WINDOW: Color = (0.22, 0.28, 0.33)  # a pane with nothing lit behind it
MIRROR: Color = (0.75, 0.82, 0.86)
GLOW: Color = (1.0, 0.95, 0.78)
# From bleached to black: maple, pine, beech, oak, teak, cherry, mahogany, walnut, wenge, driftwood, bamboo, ash.
_WOODS = (
    (0.87, 0.76, 0.60),
    (0.85, 0.66, 0.42),
    (0.80, 0.62, 0.44),
    (0.70, 0.53, 0.34),
    (0.64, 0.42, 0.23),
    (0.58, 0.31, 0.19),
    (0.42, 0.20, 0.13),
    (0.40, 0.27, 0.18),
    (0.23, 0.16, 0.12),
    (0.60, 0.56, 0.50),
    (0.82, 0.70, 0.42),
    (0.90, 0.85, 0.76),
)
# Chrome, steel, dark steel, iron, brass, copper, bronze.
_METALS = (
    (0.84, 0.85, 0.87),
    (0.66, 0.67, 0.69),
    (0.42, 0.43, 0.45),
    (0.14, 0.14, 0.15),
    (0.80, 0.65, 0.32),
    (0.74, 0.45, 0.30),
    (0.45, 0.34, 0.22),
)
_SKINS = ((0.95, 0.80, 0.69), (0.87, 0.67, 0.53), (0.72, 0.51, 0.37), (0.50, 0.33, 0.23), (0.32, 0.21, 0.15))
_FURS = (
    (0.35, 0.22, 0.13),
    (0.55, 0.37, 0.20),
    (0.78, 0.60, 0.38),
    (0.92, 0.88, 0.80),
    (0.16, 0.14, 0.13),
    (0.50, 0.49, 0.48),
    (0.72, 0.40, 0.16),
    (0.86, 0.62, 0.62),
)
_BARKS = ((0.33, 0.23, 0.15), (0.45, 0.36, 0.27), (0.25, 0.19, 0.15), (0.75, 0.73, 0.68))
_STONES = ((0.62, 0.60, 0.57), (0.78, 0.75, 0.70), (0.44, 0.43, 0.43), (0.72, 0.62, 0.50), (0.88, 0.87, 0.85))


def paint_color(rng: Rng) -> Color:
    """Of anything painted: a third neutral, a third muted, a third vivid."""
    return pick(rng, (neutral_color, muted_color, vivid_color))(rng)


def neutral_color(rng: Rng) -> Color:
    """White, black or a grey, a little warm or cold."""
    low, high = pick(rng, ((0.86, 0.97), (0.35, 0.85), (0.07, 0.2)), (3, 2, 2))
    return colorsys.hsv_to_rgb(pick(rng, (0.09, 0.6)), between(rng, 0, 0.07), between(rng, low, high))


def muted_color(rng: Rng) -> Color:
    """Any hue, pale or dusky."""
    return colorsys.hsv_to_rgb(rng.random(), between(rng, 0.15, 0.5), between(rng, 0.35, 0.9))


def vivid_color(rng: Rng) -> Color:
    """Any hue, saturated."""
    return colorsys.hsv_to_rgb(rng.random(), between(rng, 0.65, 0.95), between(rng, 0.5, 0.95))


def wood_color(rng: Rng) -> Color:
    """Of a wood."""
    return jittered(rng, pick(rng, _WOODS))


def metal_color(rng: Rng) -> Color:
    """Of a metal, half of them silvery."""
    return jittered(rng, pick(rng, _METALS, (3, 3, 2, 3, 2, 1, 1)), 0.03)


def leaf_color(rng: Rng) -> Color:
    """Green; now and then autumn."""
    if chance(rng, 0.12):
        return colorsys.hsv_to_rgb(between(rng, 0.0, 0.13), between(rng, 0.6, 0.85), between(rng, 0.45, 0.8))
    return colorsys.hsv_to_rgb(between(rng, 0.2, 0.4), between(rng, 0.4, 0.8), between(rng, 0.25, 0.65))


def bark_color(rng: Rng) -> Color:
    """Of stems and trunks."""
    return jittered(rng, pick(rng, _BARKS))


def skin_color(rng: Rng) -> Color:
    """Of people."""
    return jittered(rng, pick(rng, _SKINS), 0.03)


def fur_color(rng: Rng) -> Color:
    """Of animals."""
    return jittered(rng, pick(rng, _FURS), 0.05)


def stone_color(rng: Rng) -> Color:
    """Of stone, clay or concrete."""
    return jittered(rng, pick(rng, _STONES))


def accent_of(rng: Rng, color: Color) -> Color:
    """A colour that stands off from another: lighter or darker, or of another hue."""
    if chance(rng, 0.4):
        return jittered(rng, vivid_color(rng), 0.02)
    return shaded(color, 0.45 if sum(color) > 1.2 else 2.2)


def jittered(rng: Rng, color: Color, spread: float = 0.04) -> Color:
    """Every channel shifted by up to ``spread``."""
    red, green, blue = (min(max(channel + between(rng, -spread, spread), 0.0), 1.0) for channel in color)
    return red, green, blue


def shaded(color: Color, factor: float) -> Color:
    """Darker (factor below 1) or lighter: above 1, what is missing to white is divided by the factor."""
    if factor <= 1:
        return color[0] * factor, color[1] * factor, color[2] * factor
    return 1 - (1 - color[0]) / factor, 1 - (1 - color[1]) / factor, 1 - (1 - color[2]) / factor
