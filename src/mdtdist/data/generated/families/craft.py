"""Boats and planes; bow and nose are towards -Y."""

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.assembly import Parts, coat, merge, painted, placed
from mdtdist.data.generated.colors import TIRE, WINDOW
from mdtdist.data.generated.draws import Rng, between, chance, pick
from mdtdist.data.generated.finishes import Finish, metal, paint, patterned, plain, wood
from mdtdist.data.generated.solids import Solid, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, extrude, revolve, rod, spline, torus, upright
from mdtdist.representations.triangles import TexturedTriangles


def boat(rng: Rng) -> TexturedTriangles:
    """A rowing boat with thwarts, or a sailing boat: a hull that narrows to the bow."""
    length, width, height = between(rng, 1.6, 2.4), between(rng, 0.55, 0.8), between(rng, 0.25, 0.4)
    block = rounded_box(width, length, height, radius=0.02, divisions=(2, 10, 2))

    def hull(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        t, level = (v[:, 1] / length + 0.5).clip(0, 1), v[:, 2] / height
        beam = np.sin(np.pi * (0.06 + 0.72 * t) ** 0.8) * (0.5 + 0.5 * level)
        return np.stack([v[:, 0] * beam, v[:, 1], v[:, 2] + 0.25 * height * (1 - 2 * t) ** 2 * level], axis=1)

    deck = block.scaled(0.86, 0.92, 0.1).moved(z=height).mapped(hull).moved(z=-0.06 * height)
    parts = [painted(block.mapped(hull), pick(rng, (wood, paint))(rng)), painted(deck, wood(rng))]
    if chance(rng, 0.6):
        return merge(parts + rigging(rng, length, height))
    thwart = rounded_box(width, 0.16, 0.03, radius=0.005).moved(z=1.02 * height)
    return merge(parts + coat([thwart.scaled(x=0.95), thwart.scaled(x=0.9).moved(y=0.25 * length)], wood(rng)))


def rigging(rng: Rng, length: float, height: float) -> Parts:
    """Mast, boom and two sails."""
    tall, y, low = between(rng, 1.2, 2.0), -0.15 * length, height + 0.2
    spars = [cylinder(0.025, tall).moved(0, y, 0.8 * height), rod((0, y, low), (0, 0.42 * length, low), 0.018)]
    main = [(0.0, 0.0), (0.5 * length, 0.02), (0.02, 0.75 * tall)]
    jib = [(-0.04, 0.72 * tall), (-0.36 * length, 0.0), (-0.04, 0.05)]
    sails = [upright(line, 0.012).turned("z", 90).moved(0, y, low + 0.02) for line in (main, jib)]
    return coat(spars, wood(rng)) + coat(sails, pick(rng, (patterned(rng), plain((0.94, 0.93, 0.9)))))


def plane(rng: Rng) -> TexturedTriangles:
    """An airliner, a propeller plane or a biplane on small wheels."""
    finish, accent = paint(rng), paint(rng)
    radius, length = between(rng, 0.13, 0.2), between(rng, 1.5, 2.0)
    line = spline([(0.02, 0), (0.8, 0.12), (1.0, 0.35), (0.8, 0.7), (0.15, 1.0)]) * [radius, length]
    body = revolve([(0, 0), *line, (0, length)], sides=18).turned("x", -90).moved(y=-0.45 * length)
    span, chord, sweep = between(rng, 0.8, 1.1), between(rng, 0.3, 0.45), between(rng, 0.0, 0.4)
    outline = np.array([(0, -chord / 2), (span, sweep - chord / 4), (span, sweep + chord / 4), (0, chord / 2)])
    levels = pick(rng, ((0.0,), (-0.8 * radius, 1.3 * radius)), (2, 1))
    wings = [wing(outline, 0.04).moved(z=level) for level in levels]
    tail = wing(0.4 * outline, 0.03).moved(0, 0.47 * length, 0.02)
    fin = upright([(0.0, 0.0), (0.3, 0.0), (0.34, 0.32), (0.2, 0.32)], 0.03).turned("z", 90)
    plates = [*pair(*wings, tail), fin.moved(0, 0.36 * length, 0.05)]
    parts = [painted(body, finish), *coat(plates, pick(rng, (finish, accent)))]
    if len(levels) > 1:
        strut = rod((0.7 * span, 0.6 * sweep, levels[0]), (0.7 * span, 0.6 * sweep, levels[1]), 0.015, sides=6)
        parts += coat(pair(strut), metal(rng))
    return merge([placed(part, z=0.5) for part in parts + plane_details(rng, length, radius, span, accent)])


def plane_details(rng: Rng, length: float, radius: float, span: float, accent: Finish) -> Parts:
    """Cockpit, struts and wheels, a propeller or two engines."""
    y, nose = -0.1 * length, -0.45 * length
    screen = superquadric((0.6 * radius, 0.16, 0.5 * radius), rings=8, sides=14).moved(0, -0.25 * length, 0.75 * radius)
    strut = rod((0, y, -0.5 * radius), (0.25, y, -0.38), 0.015, sides=6)
    tire = torus(0.05, 0.03, sides=14, rings=6).turned("y", 90).moved(0.26, y, -0.4)
    parts = [painted(screen, plain(WINDOW)), *coat(pair(strut), metal(rng)), *coat(pair(tire), plain(TIRE))]
    if chance(rng, 0.5):
        pod = cylinder(0.07, 0.3, top=0.05, sides=14).turned("x", -90).moved(0.45 * span, -0.2, -0.08)
        return parts + coat(pair(pod), accent)
    blade = rounded_box(0.07, 0.015, 0.62, radius=0.005).moved(0, nose - 0.02, -0.31)
    hub = cylinder(0.05, 0.1, top=0.01, sides=12).turned("x", 90).moved(y=nose + 0.01)
    return parts + coat([blade, blade.turned("y", 90), hub], accent)


def wing(outline: Float[np.ndarray, "K 2"], thickness: float) -> Solid:
    """A plate around z = 0, thinner towards its tip at the largest x."""
    tip = float(outline[:, 0].max())
    plate = extrude(outline, thickness).moved(z=-thickness / 2)
    return plate.mapped(lambda v: v * np.column_stack([np.ones((len(v), 2)), 1 - 0.6 * v[:, 0] / tip]))
