"""Hand tools, scissors, pencils; guitars and drums."""

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.assembly import coat, merge, painted
from mdtdist.data.generated.colors import BLACK, paint_color, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import metal, paint, patterned, plain, wood
from mdtdist.data.generated.solids import Solid, box, in_row, pair, rounded_box
from mdtdist.data.generated.sweeps import (
    cylinder,
    extrude,
    hollow,
    narrowed,
    revolve,
    rod,
    spline,
    torus,
    tube,
    upright,
)
from mdtdist.representations.triangles import TexturedTriangles


def tool(rng: Rng) -> TexturedTriangles:
    """A handle with a head that stands upright: hammer, axe, shovel, rake, broom, sword or paddle."""
    length, radius = between(rng, 0.5, 1.3), between(rng, 0.014, 0.028)
    line = np.array([(0, 0), (0.9, 0.01), (1.15, 0.12), (1, 0.5), (1, 1), (0, 1)]) * [radius, length]
    heads = (hammer_head, axe_head, shovel_head, rake_head, broom_head, blade_head)
    head = [solid.moved(z=length) for solid in pick(rng, heads)(rng, radius)]
    handle = painted(revolve(line, sides=12), pick(rng, (wood, wood, paint))(rng))
    return merge([handle, *coat(head, pick(rng, (metal, metal, paint))(rng))])


def hammer_head(rng: Rng, radius: float) -> list[Solid]:
    """A mallet, or a round face with a claw."""
    half, size = between(rng, 0.08, 0.2), between(rng, 1.5, 3.5) * radius
    if chance(rng, 0.5):
        return [rounded_box(2 * half, 1.6 * size, 1.6 * size, radius=0.15 * size).moved(z=-0.8 * size)]
    claw = spline([(0.02, 0, 0), (-0.6 * half, 0, 0.01), (-1.1 * half, 0, -0.06)])
    fork = tube(claw, np.linspace(0.7, 0.3, len(claw)) * size, sides=6)
    face = cylinder(size, half, sides=14).turned("y", 90)
    return [face, cylinder(0.9 * size, 0.1, sides=12).moved(z=-0.05), *(fork.moved(y=y * size) for y in (-0.4, 0.4))]


def axe_head(rng: Rng, radius: float) -> list[Solid]:
    """A wedge to one side, or to both."""
    reach, tall = between(rng, 0.12, 0.24), between(rng, 0.08, 0.2)
    edge = np.stack([reach - 0.03 * np.linspace(-1, 1, 7) ** 2, tall * np.linspace(-1, 1, 7)], axis=1)
    blade = upright([(-0.03, -0.04), (0.03, -0.05), *edge, (0.03, 0.05), (-0.03, 0.04)], 2.4 * radius)

    def sharpen(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        thin = 1 - 0.85 * (v[:, 0] / reach).clip(0, 1)
        return v * np.column_stack([np.ones(len(v)), thin, np.ones(len(v))])

    wedge = blade.mapped(sharpen).moved(z=-0.1)
    return pair(wedge) if chance(rng, 0.25) else [wedge]


def shovel_head(rng: Rng, radius: float) -> list[Solid]:
    """A hollow blade, pointed or square, and a cross grip at the other end."""
    wide, tall, point = between(rng, 0.18, 0.28), between(rng, 0.24, 0.34), pick(rng, (0.0, 0.7))
    sheet = rounded_box(wide, 0.012, tall, radius=0.003, divisions=(6, 1, 6))

    def bend(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        y = v[:, 1] - 0.04 * (2 * v[:, 0] / wide) ** 2
        return np.stack([v[:, 0] * (1 - point * (v[:, 2] / tall) ** 3), y, v[:, 2]], axis=1)

    socket = cylinder(1.2 * radius, 0.14, top=1.5 * radius, sides=10).moved(z=-0.08)
    return [sheet.mapped(bend).moved(z=-0.02), socket]


def rake_head(rng: Rng, radius: float) -> list[Solid]:
    """A bar with teeth, or a fan of prongs."""
    number, wide = count(rng, 5, 12), between(rng, 0.2, 0.42)
    if chance(rng, 0.5):
        tooth = cylinder(0.008, 0.1, top=0.004, sides=6).turned("x", 90).moved(z=0.015)
        return [rounded_box(wide + 0.03, 0.025, 0.03, radius=0.005), *in_row(number, wide / (number - 1), tooth)]
    prongs = []
    for x in np.linspace(-wide / 2, wide / 2, number):
        line = [(0, 0, -0.02), (0.5 * x, 0, 0.14), (x, -0.02, 0.24), (x, -0.07, 0.27)]
        prongs.append(tube(spline(line, steps=2), 0.007, sides=5))
    return prongs


def broom_head(rng: Rng, radius: float) -> list[Solid]:
    """Bristles on a block."""
    wide, tall = between(rng, 0.2, 0.45), between(rng, 0.08, 0.3)
    bristles = narrowed(rounded_box(wide, 0.05, tall, radius=0.004), lambda z: 1 + 0.6 * z)
    return [rounded_box(wide, 0.06, 0.04, radius=0.01), bristles.moved(z=0.03)]


def blade_head(rng: Rng, radius: float) -> list[Solid]:
    """A long blade with a guard, or a paddle."""
    tall, wide = between(rng, 0.25, 0.8), between(rng, 0.03, 0.12)
    outline = [(-wide, 0.0), (wide, 0.0), (wide, 0.8 * tall), (0.0, tall), (-wide, 0.8 * tall)]
    return [upright(outline, 0.018), rounded_box(between(rng, 2.2, 6.0) * wide, 0.05, 0.03, radius=0.01)]


def scissors(rng: Rng) -> TexturedTriangles:
    """Scissors that lie flat, open by some angle."""
    opening = between(rng, 6, 22)
    blade = extrude([(-0.03, -0.12), (0.04, -0.12), (0.045, 0.1), (0.0, 0.62), (-0.03, 0.1)], 0.03).turned("z", opening)
    ring = torus(0.11, 0.028, sides=20).scaled(y=1.35).moved(-0.09, -0.3, 0.015).turned("z", opening)
    blades, rings = ([solid, solid.scaled(x=-1).moved(z=0.025)] for solid in (blade, ring))
    return merge(coat([*blades, cylinder(0.03, 0.07, sides=12)], metal(rng)) + coat(rings, paint(rng)))


def pencils(rng: Rng) -> TexturedTriangles:
    """A holder with pencils or brushes in it."""
    radius, height = between(rng, 0.12, 0.18), between(rng, 0.25, 0.4)
    wall = revolve(hollow([(radius, 0), (radius, height)], 0.015), sides=pick(rng, (4, 6, 24)))
    parts = [painted(wall, pick(rng, (paint, patterned, metal))(rng))]
    for index in range(count(rng, 3, 9)):
        long = between(rng, 1.2, 1.9) * height
        stick = revolve([(0, 0), (0.018, 0), (0.018, 0.88 * long), (0.003, long), (0, long)], sides=6)
        leant = stick.turned("x", between(rng, 2, 14)).moved(0, -0.3 * radius, 0.03).turned("z", 137.5 * index)
        parts.append(painted(leant, plain(vivid_color(rng))))
    return merge(parts)


def guitar(rng: Rng) -> TexturedTriangles:
    """A guitar that stands upright, facing the front."""
    size, deep = between(rng, 0.8, 1.2), between(rng, 0.05, 0.12)
    front = -deep / 2
    right = spline([(0.0, 0.0), (0.19, 0.1), (0.115, 0.27), (0.15, 0.42), (0.0, 0.49)]) * size
    body = upright([*right, *(right * [-1, 1])[::-1][1:-1]], deep)
    hole = cylinder(0.05 * size, 0.012, sides=20).turned("x", 90).moved(0, front + 0.006, 0.3 * size)
    bridge = box(0.12 * size, 0.02, 0.02).moved(0, front - 0.005, 0.14 * size)
    neck = box(0.045 * size, 0.03, 0.52 * size).moved(0, front + 0.005, 0.46 * size)
    head = rounded_box(0.08 * size, 0.025, 0.14 * size, radius=0.01).moved(0, front + 0.01, 0.96 * size)
    peg = cylinder(0.008, 0.05, sides=6).turned("y", 90).moved(0.03 * size, front)
    pegs = [image for level in (1.0, 1.04, 1.08) for image in pair(peg.moved(z=level * size))]
    strings = in_row(6, 0.006 * size, box(0.003, 0.003, 0.84 * size).moved(0, front - 0.016, 0.14 * size))
    parts = [painted(body, pick(rng, (wood, paint))(rng)), *coat([hole, bridge], plain(BLACK))]
    return merge([*parts, *coat([neck, head], wood(rng)), *coat([*pegs, *strings], metal(rng))])


def drum(rng: Rng) -> TexturedTriangles:
    """A drum or barrel with hoops; some with lacing and sticks."""
    radius, height = between(rng, 0.25, 0.4), between(rng, 0.25, 0.7)
    bulge = radius * between(rng, 1.0, 1.2)
    body = revolve([(0, 0), *spline([(radius, 0), (bulge, 0.5 * height), (radius, height)]), (0, height)], sides=28)
    hoops = [torus(radius + 0.01, 0.02, sides=28, rings=6).moved(z=share * height) for share in (0.03, 0.97)]
    skin = cylinder(0.96 * radius, 0.015, sides=28).moved(z=height)
    parts = [painted(body, pick(rng, (paint, wood, patterned))(rng)), *coat(hoops, metal(rng))]
    parts.append(painted(skin, plain((0.93, 0.9, 0.82))))
    if chance(rng, 0.5):
        number = count(rng, 6, 12)
        turn = np.pi * np.arange(2 * number + 1) / number
        levels = np.where(np.arange(2 * number + 1) % 2, 0.95, 0.05) * height
        zigzag = np.stack([(bulge + 0.01) * np.cos(turn), (bulge + 0.01) * np.sin(turn), levels], axis=1)
        laces = [rod(start, end, 0.008, sides=5) for start, end in zip(zigzag, zigzag[1:], strict=False)]
        parts += coat(laces, plain(paint_color(rng)))
    stick = rod((0.15, -0.3, height + 0.03), (0.05, 0.2, height + 0.03), 0.013, sides=6)
    return merge(parts + (coat(pair(stick), wood(rng)) if chance(rng, 0.4) else []))
