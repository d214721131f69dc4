"""Pictures for the surfaces of generated objects: RGBA, 128 pixels a side at most, seamless when repeated.

Columns run along u, the direction of grain. A pattern is a field in [0, 1] that blends from one colour to another.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from mdtdist.data.generated.colors import Color
from mdtdist.data.generated.draws import Rng, between, chance, count

SIZE = 64  # pixels of a pattern
PICTURE_SIZE = 128
Image = UInt8[np.ndarray, "H W 4"]
Pattern = Callable[[Rng, Color, Color], Image]
Field = Float[np.ndarray, "H W"]


def blend(field: Field, low: Color, high: Color) -> Image:
    """An opaque picture from a field: 0 is the first colour, 1 the second."""
    share = field.clip(0, 1)[..., None]
    return _opaque((1 - share) * np.array(low) + share * np.array(high))


def value_noise(rng: Rng, cells: tuple[int, int], *, octaves: int = 1) -> Field:
    """Random values on a grid of (rows, columns) cells, smoothly between them; each octave is twice as fine."""
    total, weight = np.zeros((SIZE, SIZE)), 0.0
    for octave in range(octaves):
        rows, columns = (min(number * 2**octave, SIZE) for number in cells)
        values = rng.random((rows, columns))
        total += 0.5**octave * _smooth_rows(_smooth_rows(values).T).T
        weight += 0.5**octave
    return total / weight


def wood_grain(rng: Rng, light: Color, dark: Color) -> Image:
    """Grain along u: wavy lines, fine streaks."""
    across = np.arange(SIZE)[:, None] / SIZE
    waves = value_noise(rng, (2, 2), octaves=2)
    lines = 0.5 + 0.5 * np.sin(2 * np.pi * (count(rng, 3, 7) * across + between(rng, 0.5, 2.5) * waves))
    return blend(0.55 * lines + 0.6 * value_noise(rng, (32, 2)) - 0.15, light, dark)


def boards(rng: Rng, light: Color, dark: Color) -> Image:
    """Boards along u, each of its own shade, with dark gaps."""
    number = count(rng, 3, 6)
    row = np.arange(SIZE) * number / SIZE
    shade = rng.random(number)[row.astype(int)][:, None]
    field = 0.6 * shade + 0.4 * value_noise(rng, (32, 2))
    return blend(np.where((row % 1 < 0.09)[:, None], 1.0, 0.6 * field), light, dark)


def weave(rng: Rng, light: Color, dark: Color) -> Image:
    """Threads of cloth or cane, over and under."""
    threads = count(rng, 6, 12)
    y, x = np.mgrid[:SIZE, :SIZE] * (threads / SIZE)
    is_over = (np.floor(x) + np.floor(y)) % 2
    bulge = np.sin(np.pi * np.where(is_over > 0, x % 1, y % 1))
    return blend(1 - 0.75 * bulge - 0.25 * value_noise(rng, (8, 8)), light, dark)


def cloth(rng: Rng, light: Color, dark: Color) -> Image:
    """Plain cloth: fine specks and a faint unevenness."""
    return blend(0.5 * rng.random((SIZE, SIZE)) + 0.5 * value_noise(rng, (4, 4), octaves=2), light, dark)


def stripes(rng: Rng, ground: Color, band: Color) -> Image:
    """One to four bands of random widths along u or v."""
    edges = np.sort(rng.random(2 * count(rng, 1, 4)))
    is_band = np.searchsorted(edges, np.arange(SIZE) / SIZE) % 2
    field = np.broadcast_to(is_band[:, None], (SIZE, SIZE))
    return blend(field.T if chance(rng, 0.5) else field, ground, band)


def checks(rng: Rng, light: Color, dark: Color) -> Image:
    """A chess board, or gingham, whose crossings are darker than its bands."""
    number = count(rng, 1, 4)
    y, x = (np.mgrid[:SIZE, :SIZE] * (2 * number / SIZE)).astype(int) % 2
    return blend((x + y) / 2 if chance(rng, 0.5) else (x ^ y).astype(np.float64), light, dark)


def dots(rng: Rng, ground: Color, spot: Color) -> Image:
    """Spots in rows, every other row shifted."""
    number = 2 * count(rng, 1, 3)
    y, x = np.mgrid[:SIZE, :SIZE] * (number / SIZE)
    x = x + 0.5 * (np.floor(y) % 2)
    away = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    return blend((between(rng, 0.2, 0.38) - away) * 8 + 0.5, ground, spot)


def speckle(rng: Rng, ground: Color, spot: Color) -> Image:
    """Granite, terrazzo, dappled fur: patches where noise is high."""
    noise = value_noise(rng, (count(rng, 4, 16),) * 2, octaves=2)
    return blend((noise - between(rng, 0.5, 0.62)) * 12 + 0.5, ground, spot)


def marble(rng: Rng, ground: Color, vein: Color) -> Image:
    """Veins: where a warped noise crosses its middle."""
    noise = value_noise(rng, (3, 3), octaves=4)
    return blend(1 - np.abs(noise - 0.5) * between(rng, 8, 16), ground, vein)


def mottled(rng: Rng, light: Color, dark: Color) -> Image:
    """Leather, rust, weathered paint: noise in several octaves."""
    return blend((value_noise(rng, (4, 4), octaves=4) - 0.5) * 1.8 + 0.5, light, dark)


def gradient(rng: Rng, start: Color, middle: Color) -> Image:
    """From one colour to the other and back along u."""
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    return blend(np.broadcast_to(wave[None], (SIZE, SIZE)), start, middle)


def bricks(rng: Rng, stone: Color, joint: Color) -> Image:
    """Courses of bricks, every other shifted by half a brick."""
    rows, columns = 2 * count(rng, 2, 4), count(rng, 2, 4)
    y, x = np.mgrid[:SIZE, :SIZE] * np.array([rows, columns])[:, None, None] / SIZE
    x = (x + 0.5 * (np.floor(y) % 2)) % columns
    shade = 0.3 * rng.random((rows, columns + 1))[y.astype(int), x.astype(int)]
    is_joint = (y % 1 < 0.12) | (x % 1 < 0.12 * columns / rows)
    return blend(np.where(is_joint, 1.0, shade), stone, joint)


def picture(rng: Rng, colors: list[Color]) -> Image:
    """An abstract picture for a screen, a cover or a canvas: ground, horizon, some rectangles and discs."""
    values = np.array(colors)
    y, x = np.mgrid[:PICTURE_SIZE, :PICTURE_SIZE] / PICTURE_SIZE
    image = values[0] + (values[1] - values[0]) * y[..., None]
    image = np.where((y > between(rng, 0.4, 0.9))[..., None], values[2 % len(values)], image)
    for _ in range(count(rng, 2, 6)):
        across, along, radius = rng.random(), rng.random(), between(rng, 0.05, 0.25)
        stretch = math.exp(between(rng, -0.7, 0.7))
        reach = (np.abs(x - across) * stretch, np.abs(y - along) / stretch)
        inside = np.hypot(*reach) < radius if chance(rng, 0.5) else np.maximum(*reach) < radius
        image = np.where(inside[..., None], values[int(rng.integers(len(values)))], image)
    return _opaque(image)


def _opaque(rgb: Float[np.ndarray, "H W 3"]) -> Image:
    return np.round(255 * np.concatenate([rgb, np.ones((*rgb.shape[:2], 1))], axis=-1)).astype(np.uint8)


def _smooth_rows(values: Float[np.ndarray, "R C"]) -> Float[np.ndarray, "S C"]:
    """Rows of a periodic table to ``SIZE`` rows, eased between neighbours."""
    place = np.arange(SIZE) * (len(values) / SIZE)
    low = place.astype(int)
    t = (place - low)[:, None]
    t = t * t * (3 - 2 * t)
    return (1 - t) * values[low] + t * values[(low + 1) % len(values)]
