"""What generated objects are made of: a material of the renderer with the size of its texture."""

from dataclasses import dataclass

from mdtdist.data.generated import textures
from mdtdist.data.generated.colors import (
    Color,
    accent_of,
    fur_color,
    jittered,
    leaf_color,
    metal_color,
    neutral_color,
    paint_color,
    shaded,
    stone_color,
    wood_color,
)
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.representations.triangles import Material

_PATTERNS: tuple[textures.Pattern, ...] = (
    textures.stripes,
    textures.checks,
    textures.dots,
    textures.speckle,
    textures.gradient,
)
# Texture and size of a repeat of kinds of cloth, object units.
_CLOTHS: dict[str, tuple[textures.Pattern, float]] = {
    "cloth": (textures.cloth, 0.4),
    "weave": (textures.weave, 0.2),
    "leather": (textures.mottled, 0.5),
}


@dataclass(frozen=True, kw_only=True)
class Finish:
    """A material and the size of one repeat of its texture.

    Attributes:
        material: colour, opacity and texture.
        tile: lengths along u and v that one repeat covers, object units.
    """

    material: Material
    tile: tuple[float, float] = (1.0, 1.0)


def plain(color: Color, *, opacity: float = 1.0) -> Finish:
    """One colour everywhere."""
    return Finish(material=Material(color=color, opacity=opacity))


def printed(image: textures.Image, tile: tuple[float, float]) -> Finish:
    """A picture, repeated every ``tile``."""
    return Finish(material=Material(color=(1.0, 1.0, 1.0), texture=image), tile=tile)


def wood(rng: Rng) -> Finish:
    """Grained wood; sometimes lacquered in one colour."""
    color = wood_color(rng)
    if chance(rng, 0.15):
        return plain(color)
    dark = shaded(color, between(rng, 0.6, 0.88))
    texture = textures.boards if chance(rng, 0.1) else textures.wood_grain
    length = between(rng, 0.5, 1.2)
    return printed(texture(rng, color, dark), (length, length * between(rng, 0.2, 0.45)))


def metal(rng: Rng) -> Finish:
    """Polished or painted metal, plain; rarely rusty."""
    color = metal_color(rng)
    if chance(rng, 0.08):
        return printed(textures.mottled(rng, color, (0.45, 0.25, 0.13)), (0.5, 0.5))
    return plain(color)


def fabric(rng: Rng) -> Finish:
    """Cloth or leather, plain or patterned."""
    color = paint_color(rng)
    dark = shaded(color, between(rng, 0.7, 0.9))
    kind = pick(rng, ("plain", "cloth", "weave", "leather", "pattern"), (3, 3, 2, 2, 3))
    if kind == "plain":
        return plain(color)
    if kind == "pattern":
        return patterned(rng, color)
    texture, side = _CLOTHS[kind]
    side *= between(rng, 0.7, 1.3)
    return printed(texture(rng, color, dark), (side, side))


def patterned(rng: Rng, color: Color | None = None) -> Finish:
    """A bold pattern in two colours: stripes, checks, dots, patches, a gradient."""
    ground = paint_color(rng) if color is None else color
    other = accent_of(rng, ground)
    side = between(rng, 0.2, 0.5)
    return printed(pick(rng, _PATTERNS, (4, 2, 2, 2, 2))(rng, ground, other), (side, side))


def paint(rng: Rng) -> Finish:
    """Paint, lacquer or plastic: one colour, sometimes worn."""
    color = paint_color(rng)
    if chance(rng, 0.12):
        return printed(textures.mottled(rng, color, shaded(color, 0.75)), (0.6, 0.6))
    return plain(color)


def ceramic(rng: Rng) -> Finish:
    """Glazed: white, coloured, patterned, or veined."""
    kind = pick(rng, ("white", "paint", "pattern", "marble", "speckle"), (2, 4, 3, 1, 2))
    if kind == "white":
        return plain(neutral_color(rng))
    if kind == "pattern":
        return patterned(rng)
    color = paint_color(rng)
    if kind == "paint":
        return plain(color)
    texture = textures.marble if kind == "marble" else textures.speckle
    return printed(texture(rng, color, accent_of(rng, color)), (0.5, 0.5))


def stone(rng: Rng) -> Finish:
    """Stone, clay, concrete: veined, dotted, mottled, laid as bricks or plain."""
    color = stone_color(rng)
    if chance(rng, 0.25):
        return plain(color)
    texture = pick(rng, (textures.marble, textures.speckle, textures.mottled, textures.bricks), (2, 2, 3, 1))
    side = between(rng, 0.4, 0.8)
    return printed(texture(rng, color, shaded(color, pick(rng, (0.7, 2.0)))), (side, side))


def glass(rng: Rng) -> Finish:
    """See-through, clear or tinted."""
    color = pick(rng, ((0.85, 0.92, 0.93), (0.55, 0.75, 0.62), (0.62, 0.42, 0.22), (0.5, 0.65, 0.8)), (4, 1, 1, 1))
    return plain(jittered(rng, color), opacity=between(rng, 0.25, 0.55))


def foliage(rng: Rng) -> Finish:
    """Leaves, in one green or shaded from stem to tip."""
    color = leaf_color(rng)
    if chance(rng, 0.5):
        return plain(color)
    return printed(textures.mottled(rng, color, shaded(color, between(rng, 0.5, 0.75))), (0.3, 0.3))


def fur(rng: Rng) -> Finish:
    """Coat of an animal: one colour, dappled, or with fine noise."""
    color = fur_color(rng)
    texture = pick(rng, (textures.speckle, textures.cloth, textures.stripes), (2, 3, 1))
    if chance(rng, 0.4):
        return plain(color)
    other = fur_color(rng) if texture is not textures.cloth else shaded(color, 0.75)
    return printed(texture(rng, color, other), (0.5, 0.5))


def anything(rng: Rng) -> Finish:
    """Of any kind but glass."""
    return pick(rng, (wood, metal, fabric, paint, ceramic, stone, patterned))(rng)


def hard(rng: Rng) -> Finish:
    """What furniture is built of: mostly wood, painted board, sometimes metal."""
    return pick(rng, (wood, paint, metal), (5, 3, 1))(rng)


def poster(rng: Rng, width: float, height: float) -> Finish:
    """An abstract picture that covers ``width`` x ``height`` once."""
    return printed(textures.picture(rng, [paint_color(rng) for _ in range(count(rng, 3, 5))]), (width, height))
