"""Sets of several objects: things on a table, chairs around it, a corner of a room, piles of books."""

from dataclasses import replace

import numpy as np

from mdtdist.data.generated.assembly import Parts, extent, fitted, merge, painted, placed
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.families.animals import animal, teddy
from mdtdist.data.generated.families.electronics import gadget, screen, speaker
from mdtdist.data.generated.families.lamps import lamp
from mdtdist.data.generated.families.lounge import armchair, bed, sofa
from mdtdist.data.generated.families.people import person
from mdtdist.data.generated.families.plants import potted_plant
from mdtdist.data.generated.families.seating import chair, stool
from mdtdist.data.generated.families.storage import cabinet, chest, picture_frame, shelf
from mdtdist.data.generated.families.tables import desk, table, table_of
from mdtdist.data.generated.families.vessels import bottle, bowl, candle, cup, goblet, jar, pot, vase
from mdtdist.data.generated.finishes import fabric, metal, patterned, wood
from mdtdist.data.generated.parts.panels import book, books
from mdtdist.data.generated.solids import rotation, rounded_box
from mdtdist.data.generated.sweeps import cylinder
from mdtdist.representations.triangles import TexturedTriangles

_MAX_FACES = 5500
_SMALL = (vase, cup, bottle, bowl, candle, jar, pot, goblet, lamp, potted_plant, gadget, teddy, speaker, screen)
_VESSELS = (cup, bottle, bowl, goblet, jar, pot, vase)
_BESIDE = (lamp, potted_plant, stool, table, chest, vase, chair, picture_frame, animal, person)


def laid_table(rng: Rng) -> TexturedTriangles:
    """A table or cabinet with one to three things on it."""
    base = pick(rng, (table, cabinet), (3, 1))(rng)
    (left, front, _), (right, rear, top) = (map(float, corner) for corner in extent(base))
    number = count(rng, 1, 3)
    room = 0.8 * (right - left) / number
    parts = [base]
    for index in range(number):
        size = between(rng, 0.18, 0.45)
        thing = fitted(pick(rng, _SMALL)(rng), min(0.9 * room, size), min(0.8 * (rear - front), size), size)
        x = (index - (number - 1) / 2 + between(rng, -0.05, 0.05)) * room
        parts.append(placed(thing, x, between(rng, -0.1, 0.1) * (rear - front), top, turn=between(rng, -30, 30)))
    return merge(_affordable(parts))


def dining_set(rng: Rng) -> TexturedTriangles:
    """A table with two to four chairs of one kind around it, drawn in or out."""
    width, depth, seat = between(rng, 0.8, 1.5), between(rng, 0.7, 0.95), pick(rng, (chair, stool), (2, 1))(rng)
    y, x = (size / 2 + between(rng, 0.05, 0.3) for size in (depth, width))
    places = [(0.0, -y, 180.0), (0.0, y, 0.0), (x, 0.0, -90.0), (-x, 0.0, 90.0)][: count(rng, 2, 4)]
    seats = [placed(seat, *spot, turn=turn) for *spot, turn in places]
    return merge(_affordable(table_of(rng, width, depth, between(rng, 0.7, 0.76)) + seats))


def room_corner(rng: Rng) -> TexturedTriangles:
    """A large piece and a small one beside it, sometimes on a carpet."""
    large, small = pick(rng, (sofa, armchair, shelf, cabinet, bed, desk))(rng), pick(rng, _BESIDE)(rng)
    low, high = extent(large)
    size = between(rng, 0.45, 1.0) * (float(high[2] - low[2]) + 0.3)
    beside = fitted(small, size, size, size)
    gap = float(extent(beside)[1][0]) + 0.06
    x = float(high[0]) + gap if chance(rng, 0.5) else float(low[0]) - gap
    parts = [large, placed(beside, x, between(rng, -0.3, 0.3))]
    return merge(_affordable(parts + ([carpet(rng, parts)] if chance(rng, 0.35) else [])))


def carpet(rng: Rng, parts: Parts) -> TexturedTriangles:
    """A carpet under what stands there."""
    low, high = extent(merge(parts))
    (width, depth), (x, y) = (high - low)[:2] * between(rng, 1.0, 1.2), (low + high)[:2] / 2
    rug = rounded_box(float(width), float(depth), 0.015, radius=0.004).moved(float(x), float(y), -0.015)
    return painted(rug, pick(rng, (patterned, fabric))(rng))


def book_pile(rng: Rng) -> TexturedTriangles:
    """Books that stand in a row or lie on each other, perhaps with something on top."""
    if chance(rng, 0.4):
        return merge(books(rng, between(rng, 0.3, 0.6), 0.2, between(rng, 0.22, 0.3)))
    parts: Parts = []
    height = 0.0
    for _ in range(count(rng, 3, 8)):
        thick, depth, tall = between(rng, 0.02, 0.06), between(rng, 0.15, 0.2), between(rng, 0.2, 0.3)
        lying = merge([_laid(part) for part in book(rng, thick, depth, tall)])
        parts.append(placed(placed(lying, -tall / 2), z=height + thick / 2, turn=between(rng, -25, 25)))
        height += thick
    if chance(rng, 0.5):
        top = fitted(pick(rng, (cup, candle, gadget, vase, teddy))(rng), 0.16, 0.16, 0.22)
        parts.append(placed(top, z=height))
    return merge(parts)


def tray(rng: Rng) -> TexturedTriangles:
    """A tray or round board with several vessels."""
    plates = (cylinder(0.5, 0.03, sides=28), rounded_box(1.0, 0.75, 0.03, radius=0.01))
    parts = [painted(pick(rng, plates), pick(rng, (fabric, wood, metal))(rng))]
    number = count(rng, 2, 3)
    for index in range(number):
        thing = fitted(pick(rng, _VESSELS)(rng), 0.34, 0.34, between(rng, 0.25, 0.5))
        angle = 2 * np.pi * (index + 0.25) / number
        parts.append(placed(thing, 0.28 * np.cos(angle), 0.22 * np.sin(angle), 0.03, turn=between(rng, 0, 360)))
    return merge(parts)


def _affordable(parts: Parts) -> Parts:
    """The first parts, as many as stay within the bound of faces, so that no set outweighs all single objects."""
    totals = np.cumsum([len(part.faces) for part in parts])
    return [part for part, total in zip(parts, totals, strict=True) if total <= _MAX_FACES]


def _laid(part: TexturedTriangles) -> TexturedTriangles:
    """A standing part laid on its side: what pointed up points to +X."""
    return replace(part, vertices=part.vertices @ rotation("y", 90).T)
