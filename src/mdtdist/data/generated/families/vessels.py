"""Vases, cups, bottles, bowls, jars, pots, candles: surfaces of revolution with handles, spouts and lids."""

import numpy as np

from mdtdist.data.generated.assembly import coat, merge, painted
from mdtdist.data.generated.colors import WHITE, paint_color, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import ceramic, glass, metal, paint, plain, poster, stone, wood
from mdtdist.data.generated.solids import Solid, pair, superquadric
from mdtdist.data.generated.sweeps import cylinder, fluted, hollow, revolve, rod, spline, tube
from mdtdist.representations.triangles import TexturedTriangles

_DRINKS = ((0.25, 0.13, 0.06), (0.6, 0.4, 0.15), WHITE)


def vase(rng: Rng) -> TexturedTriangles:
    """A vase of any waist and belly; some fluted, some with two ears."""
    number, height = count(rng, 4, 6), between(rng, 0.6, 1.2)
    radii = rng.uniform(0.1, 0.42, number)
    radii[0] = radii[0].clip(0.14)
    line = spline(np.stack([radii, np.linspace(0, height, number)], axis=1))
    line[:, 0] = line[:, 0].clip(0.05)
    body = revolve(hollow(line, 0.025), sides=24)
    if chance(rng, 0.2):
        body = fluted(body, count(rng, 5, 8), between(rng, 0.04, 0.12))
    finish = pick(rng, (ceramic, stone, glass, metal), (6, 1, 1.5, 1))(rng)
    ear = bow(float(line[len(line) // 2, 0]), 0.5 * height, 0.8 * height, 0.18, 0.022)
    return merge(coat([body, *(pair(ear) if chance(rng, 0.2) else [])], finish))


def bow(radius: float, low: float, high: float, reach: float, thickness: float) -> Solid:
    """A handle on the right side of a vessel, from one height to another."""
    inner = radius - 0.5 * thickness
    line = [(inner, 0, low), (radius + reach, 0, low + 0.2 * (high - low)), (radius + reach, 0, high), (inner, 0, high)]
    return tube(spline(line), thickness)


def cup(rng: Rng) -> TexturedTriangles:
    """A mug or tea cup with a handle; often full, often on a saucer."""
    height, bottom = between(rng, 0.5, 1.1), between(rng, 0.22, 0.4)
    top = bottom * between(rng, 0.95, 1.7)
    line = spline([(bottom, 0.0), ((bottom + top) * between(rng, 0.42, 0.58), 0.5 * height), (top, height)])
    reach = top * between(rng, 1.6, 2.1)
    handle = bow(0.55 * (bottom + top), 0.25 * height, 0.8 * height, between(rng, 0.14, 0.26), 0.045)
    solids = [revolve(hollow(line, 0.04), sides=24), handle]
    if chance(rng, 0.4):
        plate = spline([(0.5 * reach, -0.1), (0.8 * reach, -0.06), (reach, 0.0)], steps=3)
        solids.append(revolve(hollow(plate, 0.03), sides=24))
    parts = coat(solids, ceramic(rng))
    if chance(rng, 0.6):
        drink = cylinder(0.84 * top - 0.03, 0.02, sides=24).moved(z=0.74 * height)
        parts.append(painted(drink, plain(pick(rng, _DRINKS))))
    return merge(parts)


def bottle(rng: Rng) -> TexturedTriangles:
    """A bottle or flask, round or flat: body, shoulder, neck, cap and label."""
    radius, neck, tall = between(rng, 0.15, 0.3), between(rng, 0.05, 0.09), between(rng, 0.45, 0.8)
    end, flat = tall + between(rng, 0.1, 0.45), pick(rng, (1.0, between(rng, 0.5, 0.9)), (3, 1))
    shoulder = spline([(radius, tall), (0.75 * radius, tall + 0.3 * (end - tall)), (neck, end)])
    line = [(0, 0), (0.92 * radius, 0), (radius, 0.03), *shoulder, (neck, end + 0.08), (1.25 * neck, end + 0.09)]
    body = revolve([*line, (1.25 * neck, end + 0.12), (0, end + 0.12)], sides=24).scaled(y=flat)
    cap = cylinder(1.35 * neck, between(rng, 0.05, 0.12)).moved(z=end + 0.11).scaled(y=flat)
    parts = [painted(body, pick(rng, (glass, ceramic, paint, metal), (4, 2, 3, 1))(rng))]
    parts.append(painted(cap, pick(rng, (paint, metal, wood))(rng)))
    if chance(rng, 0.7):
        low, high = between(rng, 0.08, 0.4) * tall, between(rng, 0.55, 0.95) * tall
        band = revolve([(1.01 * radius, low), (1.01 * radius, high)], sides=24).scaled(y=flat)
        parts.append(painted(band, poster(rng, high - low, 2 * np.pi * radius)))
    return merge(parts)


def bowl(rng: Rng) -> TexturedTriangles:
    """A bowl, dish or plate, sometimes with fruit."""
    radius, height = 0.5, between(rng, 0.08, 0.4)
    middle = (between(rng, 0.75, 0.95) * radius, between(rng, 0.3, 0.55) * height)
    line = spline([(between(rng, 0.3, 0.7) * radius, 0), middle, (radius, height)])
    finish = pick(rng, (ceramic, wood, metal, glass), (5, 2, 1, 1))(rng)
    parts = [painted(revolve(hollow(line, 0.025), sides=28), finish)]
    for index in range(count(rng, 3, 6) if chance(rng, 0.45) else 0):
        size, angle, away = between(rng, 0.1, 0.16), 2.4 * index, 0.24 if index else 0.0
        fruit = superquadric((size, size, size * between(rng, 0.85, 1.15)), rings=8, sides=12)
        spot = fruit.moved(away * np.cos(angle), away * np.sin(angle), size + 0.04 + 0.25 * height)
        parts.append(painted(spot, plain(vivid_color(rng))))
    return merge(parts)


def jar(rng: Rng) -> TexturedTriangles:
    """A jar, can or tin with a lid and a knob."""
    radius, height = between(rng, 0.25, 0.42), between(rng, 0.4, 0.9)
    line = spline([(0.9 * radius, 0), (radius * between(rng, 0.9, 1.25), 0.5 * height), (radius, height)])
    body = revolve([(0, 0), *line, (0, height)], sides=24)
    rim, crown = 1.06 * radius, between(rng, 0.05, 0.17)
    lid = revolve([(0, 0), (rim, 0), (rim, 0.05), (0.5 * radius, crown), (0, max(crown, 0.1))], sides=24)
    tops = [lid.moved(z=height)]
    if chance(rng, 0.6):
        tops.append(superquadric((0.05, 0.05, 0.05), rings=6, sides=12).moved(z=height + max(crown, 0.1) + 0.03))
    finish = pick(rng, (ceramic, glass, metal), (5, 2, 1))(rng)
    return merge([painted(body, finish), *coat(tops, pick(rng, (ceramic, wood, metal))(rng))])


def pot(rng: Rng) -> TexturedTriangles:
    """Kitchen ware: saucepan, casserole, kettle or teapot."""
    radius, height, dark = 0.4, between(rng, 0.25, 0.6), plain((0.1, 0.1, 0.11))
    finish = pick(rng, (metal, ceramic, paint))(rng)
    line = spline([(0.85 * radius, 0), (between(rng, 0.95, 1.25) * radius, 0.45 * height), (0.9 * radius, height)])
    cover = [(0, 0), (0.93 * radius, 0), (0.9 * radius, 0.03), (0.4 * radius, 0.1), (0, 0.12)]
    lid, knob = revolve(cover, sides=24), superquadric((0.06, 0.06, 0.05), rings=6, sides=12).moved(z=0.16)
    parts = coat([revolve(hollow(line, 0.02), sides=24), lid.moved(z=height)], finish)
    parts.append(painted(knob.moved(z=height), dark))
    kind = pick(rng, ("pan", "casserole", "kettle"))
    if kind == "pan":
        parts.append(painted(rod((0.38, 0, 0.85 * height), (1.0, 0, height), 0.045), dark))
    elif kind == "casserole":
        parts += coat(pair(bow(0.88 * radius, 0.7 * height, 0.85 * height, 0.12, 0.03).scaled(y=2.5)), dark)
    else:
        spout = spline([(-0.36, 0, 0.25 * height), (-0.55, 0, 0.5 * height), (-0.66, 0, height)])
        parts.append(painted(tube(spout, np.linspace(0.09, 0.045, len(spout)), sides=10), finish))
        parts.append(painted(bow(0.36, 0.2 * height, 0.9 * height, 0.22, 0.035), dark))
    return merge(parts)


def candle(rng: Rng) -> TexturedTriangles:
    """A candlestick with one candle, or a branched one."""
    height, thick, color = between(rng, 0.4, 1.0), between(rng, 0.025, 0.05), pick(rng, (WHITE, paint_color(rng)))
    waist = spline(np.stack([rng.uniform(0.03, 0.09, 5), np.linspace(0.08, height - 0.06, 5)], axis=1), steps=3)
    line = [(0, 0), (0.2, 0), (0.22, 0.03), *waist, (0.1, height - 0.02), (0.1, height), (0, height)]
    solids, places = [revolve(line, sides=18)], [0.0]
    if chance(rng, 0.35):
        reach = between(rng, 0.25, 0.4)
        bend = [(0, 0, 0.6 * height), (0.6 * reach, 0, 0.5 * height), (reach, 0, 0.7 * height), (reach, 0, height)]
        cup_shape = cylinder(0.04, 0.04, top=0.08, sides=12).moved(reach, 0, height - 0.02)
        solids += pair(tube(spline(bend), 0.022), cup_shape)
        places += [-reach, reach]
    length = between(rng, 0.2, 0.5)
    candles = [cylinder(thick, length, sides=12).moved(x, 0, height) for x in places]
    flame = superquadric((0.018, 0.018, 0.05), rings=6, sides=8).moved(z=height + length + 0.05)
    parts = coat(solids, metal(rng)) + coat(candles, plain(color))
    return merge(parts + coat([flame.moved(x) for x in places], plain((1.0, 0.75, 0.2))))


def goblet(rng: Rng) -> TexturedTriangles:
    """A stemmed glass or goblet, empty or with a drink in it."""
    height, radius, stem = between(rng, 0.7, 1.2), between(rng, 0.2, 0.32), between(rng, 0.02, 0.05)
    low, rim = between(rng, 0.35, 0.6) * height, radius * between(rng, 0.65, 1.2)
    deep = height - low
    shape = spline([(stem, low), (0.9 * radius, low + 0.2 * deep), (radius, low + 0.5 * deep), (rim, height)])
    inside = [(max(r - 0.02, 0.004), z + 0.01) for r, z in shape[::-1]]
    foot = [(0, 0), (0.85 * radius, 0), (0.85 * radius, 0.02), (stem, 0.06)]
    body = revolve([*foot, *shape, *inside, (0, low + 0.02)], sides=24)
    parts = [painted(body, pick(rng, (glass, metal, ceramic), (3, 1, 1))(rng))]
    if chance(rng, 0.5):
        drink = superquadric((0.8 * radius, 0.8 * radius, 0.22 * deep), rings=8)
        parts.append(painted(drink.moved(z=low + 0.3 * deep), plain(vivid_color(rng))))
    return merge(parts)
