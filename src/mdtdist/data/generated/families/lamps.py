"""Lamps: on the floor, on a table, on a desk, hanging; lanterns."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import GLOW
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, ceramic, fabric, glass, metal, paint, plain, stone, wood
from mdtdist.data.generated.parts.supports import spread_feet
from mdtdist.data.generated.solids import Solid, around, box, corners_of, superquadric
from mdtdist.data.generated.sweeps import cylinder, fluted, revolve, rod, spline, torus, tube
from mdtdist.representations.triangles import TexturedTriangles


def lamp(rng: Rng) -> TexturedTriangles:
    """A floor lamp or a table lamp: foot, stem or belly, shade."""
    height, radius = between(rng, 0.5, 1.7), between(rng, 0.12, 0.24)
    finish = pick(rng, (metal, wood, ceramic))(rng)
    foot = lamp_foot(rng, height, radius, finish)
    return merge(foot + lamp_shade(rng, height, radius * between(rng, 1.0, 1.5)))


def lamp_foot(rng: Rng, height: float, radius: float, finish: Finish) -> Parts:
    """Disc and rod, tripod, or (for low lamps) a turned body, up to ``height``."""
    if height < 0.9 and chance(rng, 0.6):
        number = count(rng, 3, 6)
        radii, levels = rng.uniform(0.25, 0.95, number) * radius, np.linspace(0, 0.8 * height, number)
        line = spline(np.stack([radii, levels], axis=1))
        neck = [(0.012, 0.82 * height), (0.012, height), (0, height)]
        return coat([revolve([(0, 0), *line, *neck])], pick(rng, (ceramic, stone, wood))(rng))
    if chance(rng, 0.35):
        leg = rod((0, -between(rng, 0.18, 0.3) * height, 0), (0, 0, 0.9 * height), 0.012, tip=0.018)
        return coat([*around(3, leg), cylinder(0.03, 0.2).moved(z=0.85 * height)], finish)
    post = cylinder(between(rng, 0.008, 0.025), height, sides=10)
    if chance(rng, 0.3):
        return coat([post, *spread_feet(rng, radius, 0.05, 0.03)], finish)
    disc = [(0, 0), (radius, 0), (radius, 0.015), (0.1 * radius, between(rng, 0.02, 0.07)), (0, 0.07)]
    return coat([revolve(disc, sides=24), post], finish)


def lamp_shade(rng: Rng, height: float, radius: float) -> Parts:
    """A shade around a bulb at ``height``: ball, or cone, drum, bell or pleats open above and below."""
    finish, tall = pick(rng, (fabric, paint, glass), (5, 2, 1))(rng), radius * between(rng, 0.8, 1.6)
    kind = pick(rng, ("cone", "drum", "bell", "ball", "pleats"), (4, 2, 2, 2, 1))
    if kind == "ball":
        ball = superquadric((radius, radius, radius * between(rng, 0.6, 1.1)), rings=12, sides=20)
        return [painted(ball.moved(z=height + 0.5 * radius), pick(rng, (finish, plain(GLOW))))]
    top = radius * (1.0 if kind == "drum" else between(rng, 0.35, 0.8))
    waist, low = 0.5 * (top + radius) * (0.8 if kind == "bell" else 1.0), height - 0.4 * tall
    line = spline([(radius, low), (waist, low + 0.55 * tall), (top, low + tall)])
    shade = revolve([*line, *((r - 0.006, z) for r, z in line[::-1]), line[0]], sides=40 if kind == "pleats" else 28)
    hoop = rod((-top, 0, low + 0.9 * tall), (top, 0, low + 0.9 * tall), 0.005, sides=4)
    bulb = superquadric((0.035, 0.035, 0.05), rings=6, sides=10).moved(z=height + 0.02)
    parts = [painted(fluted(shade, 20, 0.03) if kind == "pleats" else shade, finish), painted(bulb, plain(GLOW))]
    return parts + coat([hoop, hoop.turned("z", 90)], plain((0.5, 0.5, 0.5)))


def desk_lamp(rng: Rng) -> TexturedTriangles:
    """A jointed or bowed arm on a heavy foot, with a reflector that points down to the front."""
    finish, reach, height = pick(rng, (metal, paint))(rng), between(rng, 0.25, 0.45), between(rng, 0.4, 0.6)
    end = (0.0, -reach, height)
    if chance(rng, 0.4):
        line = [(0, 0, 0.02), (0, 0.02, 0.7 * height), (0, -0.4 * reach, 1.2 * height), end]
        arm = [tube(spline(line), 0.012)]
    else:
        elbow = (0.0, between(rng, 0.1, 0.25), 0.6 * height)
        ball = superquadric((0.022, 0.022, 0.022), rings=6, sides=10)
        arm = [rod((0, 0, 0.02), elbow, 0.01), rod(elbow, end, 0.01), ball.moved(*elbow), ball.moved(*end)]
    size = between(rng, 0.07, 0.12)
    cone = [(0.25, 0.0), (0.95, -1.1), (1.0, -1.1), (0.4, 0.0), (0.25, 0.0)]
    shade = revolve(size * np.array(cone)).turned("x", between(rng, -35, 10)).moved(*end)
    bulb = superquadric((0.03, 0.03, 0.03), rings=6, sides=10).moved(0, -reach, height - 0.6 * size)
    parts = coat([*arm, cylinder(between(rng, 0.08, 0.12), 0.025, sides=24)], finish)
    return merge([*parts, painted(bulb, plain(GLOW)), painted(shade, finish if chance(rng, 0.6) else paint(rng))])


def pendant(rng: Rng) -> TexturedTriangles:
    """A hanging lamp: cord and shade, or a chandelier with arms and candles."""
    drop = between(rng, 0.3, 0.8)
    cord = [cylinder(0.008, drop, sides=6), cylinder(0.06, 0.03, top=0.04).moved(z=drop)]
    if chance(rng, 0.5):
        return merge(coat(cord, plain((0.15, 0.15, 0.15))) + lamp_shade(rng, 0.0, between(rng, 0.15, 0.35)))
    number, reach = count(rng, 3, 8), between(rng, 0.25, 0.45)
    bend = [(0.02, 0, 0.05), (0.5 * reach, 0, -0.14), (reach, 0, -0.1), (reach, 0, 0.0)]
    arm, cup = tube(spline(bend), 0.012, sides=6), cylinder(0.02, 0.03, top=0.04, sides=10).moved(x=reach)
    lights = (cylinder(0.016, 0.1, sides=8), superquadric((0.05, 0.05, 0.05), rings=8, sides=12).moved(z=0.06))
    hub = revolve([(0, -0.16), (0.05, -0.1), (0.03, 0.0), (0.05, 0.08), (0.02, 0.14), (0, 0.14)], sides=14)
    frame = coat([*cord, *around(number, arm, cup), hub], pick(rng, (metal, paint, wood))(rng))
    return merge(frame + coat(around(number, pick(rng, lights).moved(reach, 0, 0.02)), plain(GLOW)))


def lantern(rng: Rng) -> TexturedTriangles:
    """A lantern: four posts with panes and a roof with a ring, or of stone on a foot."""
    if chance(rng, 0.35):
        return merge(coat(stone_lantern(rng), stone(rng)))
    finish, width, height = pick(rng, (metal, wood))(rng), between(rng, 0.16, 0.26), between(rng, 0.25, 0.45)
    posts = [box(0.02, 0.02, height).moved(x, y) for x, y in corners_of(width, width)]
    plate = box(1.2 * width, 1.2 * width, 0.022)
    rise = between(rng, 0.06, 0.16)
    roof = cylinder(0.85 * width, rise, top=0.1 * width, sides=4).turned("z", 45).moved(z=height + 0.02)
    ring = torus(0.04, 0.008, sides=16, rings=6).turned("x", 90).moved(z=height + rise + 0.05)
    panes = around(4, box(width, 0.004, height).moved(y=width / 2))
    candle = painted(cylinder(0.03, 0.4 * height, sides=12).moved(z=0.02), plain((0.95, 0.92, 0.85)))
    frame = coat([*posts, plate, plate.moved(z=height), roof, ring], finish)
    return merge([*frame, candle, *coat(panes, glass(rng))])


def stone_lantern(rng: Rng) -> list[Solid]:
    """Foot, pillar, plate, fire box, roof and bud of a garden lantern, with four or six corners, or round."""
    sides, wide = pick(rng, (4, 6, 20)), between(rng, 0.8, 1.2)
    # Radius below and above, height of the lower end, height of the piece.
    pieces = (
        (0.3, 0.22, 0.0, 0.1),
        (0.11, 0.09, 0.1, 0.35),
        (0.13, 0.25, 0.45, 0.08),
        (0.17, 0.17, 0.53, 0.18),
        (0.38, 0.07, 0.71, 0.16),
    )
    solids = [cylinder(low * wide, tall, top=top * wide, sides=sides).moved(z=z) for low, top, z, tall in pieces]
    windows = around(4, box(0.12, 0.02, 0.1).moved(0, 0.16 * wide, 0.57))
    bud = superquadric((0.06, 0.06, 0.09), rings=8, sides=12).moved(z=0.94)
    return [*(solid.turned("z", 180 / sides) for solid in solids), *windows, bud]
