"""Cars, lorries, buses, carts, bicycles, toy trains; their front is towards -Y."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted, placed
from mdtdist.data.generated.colors import BLACK, WINDOW
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, metal, paint, patterned, plain, wood
from mdtdist.data.generated.parts.wheels import spoked_wheel, wheel_pairs
from mdtdist.data.generated.solids import Solid, around, box, in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import (
    Line,
    cylinder,
    hollow,
    narrowed,
    revolve,
    rod,
    rounded_path,
    spline,
    torus,
    tube,
    upright,
)
from mdtdist.representations.triangles import TexturedTriangles

_HEADLIGHT, _TAILLIGHT = (0.95, 0.93, 0.8), (0.75, 0.08, 0.08)


def car(rng: Rng) -> TexturedTriangles:
    """A saloon, estate or beach buggy: in profile a bonnet, a cabin with windows all around, and a boot."""
    length, width, height = between(rng, 3.6, 4.8), between(rng, 1.6, 1.9), between(rng, 1.3, 1.65)
    hood, tail = between(rng, 0.52, 0.6) * height, between(rng, 0.52, 0.62) * height
    nose, front = between(rng, 0.75, 0.92) * hood, between(rng, 0.2, 0.32)
    rear = pick(rng, (between(rng, 0.7, 0.8), between(rng, 0.9, 0.97)))
    finish, low = paint(rng), 0.16 * height
    lower = [(0, low), (1, low), (1, 0.9 * tail), (0.96, tail), (front - 0.02, hood), (0.02, nose)]
    body = side_profile(lower, length, width, 0.14)
    slope, waist = between(rng, 0.1, 0.18), 0.94 * min(hood, tail)
    upper = [(front - 0.04, waist), (rear + 0.03, waist), (rear - 0.06, height), (front + slope, height)]
    cabin = narrowed(side_profile(upper, length, 0.9 * width, 0.1), lambda z: 1 - 0.18 * (z - waist) / height, "x")
    roof = rounded_box(0.78 * width, (rear - front - slope - 0.02) * length, 0.09, radius=0.03, segments=2)
    roof = roof.moved(0, ((front + slope + rear - 0.06) / 2 - 0.5) * length, height - 0.07)
    parts = coat([body, roof, *pillars(upper, length, width, height)], finish) + [painted(cabin, plain(WINDOW))]
    parts += lights(length, width, nose, 0.9 * tail)
    radius, axles = between(rng, 0.2, 0.25) * height, [-0.3 * length, 0.3 * length]
    return merge(parts + wheel_pairs(width, radius, axles, metal(rng)))


def pillars(upper: list[tuple[float, float]], length: float, width: float, height: float) -> list[Solid]:
    """Bars at the four corners of a cabin and in the middle of its sides, over its windows."""
    (front, waist), (rear, _), (rear_top, _), (front_top, _) = upper
    middle = (front + rear_top) / 2 + 0.02
    bars = []
    for low, high in ((front, front_top), (rear, rear_top), (middle, middle)):
        start = (0.45 * width, (low - 0.5) * length, waist)
        bars.append(rod(start, (0.4 * width, (high - 0.5) * length, height - 0.03), 0.05, sides=4))
    return pair(*bars)


def side_profile(outline: Line, length: float, width: float, rounding: float) -> Solid:
    """A body from its side view: (share of the length from the front, z), counter-clockwise seen from +X.

    Its front faces -Y. The corners of the outline are rounded by ``rounding``.
    """
    line = np.asarray(outline, dtype=np.float64) * [length, 1.0] - [length / 2, 0.0]
    smooth = rounded_path(np.concatenate([line[-1:], line, line[:1]]), rounding)[1:-1]
    return upright(smooth, width).turned("z", 90)


def lights(length: float, width: float, front: float, rear: float) -> Parts:
    """Headlights, tail lights and bumpers."""
    lamp = superquadric((0.15, 0.06, 0.09), roundness=(0.6, 0.6), rings=6, sides=12).moved(0.36 * width)
    bumper = rounded_box(0.98 * width, 0.12, 0.14, radius=0.04)
    parts = coat(pair(lamp.moved(0, -length / 2 + 0.03, 0.8 * front)), plain(_HEADLIGHT))
    parts += coat(pair(lamp.moved(0, length / 2 - 0.01, 0.85 * rear)), plain(_TAILLIGHT))
    return parts + coat(
        [bumper.moved(0, sign * (length / 2 - 0.02), 0.3) for sign in (-1, 1)], plain((0.25, 0.25, 0.27))
    )


def truck(rng: Rng) -> TexturedTriangles:
    """A lorry, a flat bed with a load, or a bus: boxes on a frame, two or three axles."""
    length, width, height = between(rng, 4.5, 9.0), between(rng, 1.9, 2.3), between(rng, 2.2, 3.0)
    finish, lift = paint(rng), 0.55
    if chance(rng, 0.35):
        parts = bus_body(length, width, height, lift, finish)
    else:
        cab = between(rng, 1.5, 2.0)
        parts = truck_cab(length, width, height * between(rng, 0.75, 0.95), cab, lift, finish)
        frame = box(0.8 * width, length - 0.3, 0.2).moved(z=lift - 0.05)
        parts.append(painted(frame, plain((0.2, 0.2, 0.2))))
        cargo = merge(truck_load(rng, width, length - cab - 0.15, height - lift))
        parts.append(placed(cargo, 0, (cab + 0.15) / 2, lift + 0.1))
    axles = (-0.35, 0.24, 0.37) if length > 6.5 else (-0.33, 0.3)
    return merge(parts + wheel_pairs(width, 0.45, [axle * length for axle in axles], metal(rng), thickness=0.3))


def truck_cab(length: float, width: float, height: float, deep: float, lift: float, finish: Finish) -> Parts:
    """A driver's cab at the front end, with windows, lights and grille."""
    y, front = (deep - length) / 2, -length / 2 - 0.01
    cab = rounded_box(width, deep, height - lift, radius=0.12, segments=2).moved(0, y, lift)
    screen = rounded_box(0.86 * width, 0.05, 0.36 * height, radius=0.02).moved(0, front, 0.56 * height)
    side = rounded_box(1.01 * width, 0.5 * deep, 0.3 * height, radius=0.02).moved(0, y - 0.1, 0.58 * height)
    lamp = cylinder(0.12, 0.06, sides=12).turned("x", 90).moved(0.38 * width, front + 0.02, lift + 0.25)
    grille = [box(0.5 * width, 0.04, 0.05).moved(0, front, lift + 0.1 + 0.1 * index) for index in range(4)]
    glazed = coat([screen, side], plain(WINDOW)) + coat(pair(lamp), plain(_HEADLIGHT))
    return [painted(cab, finish), *glazed, *coat(grille, plain(BLACK))]


def bus_body(length: float, width: float, height: float, lift: float, finish: Finish) -> Parts:
    """One long body with a row of windows."""
    body, number = rounded_box(width, length, height - lift, radius=0.2, segments=2).moved(z=lift), int(length / 1.1)
    pane = rounded_box(0.8 * length / number, 1.01 * width, 0.3 * height, radius=0.02).moved(z=0.58 * height)
    panes = [solid.turned("z", 90) for solid in in_row(number, length / number, pane)]
    ends = rounded_box(0.84 * width, 1.005 * length, 0.36 * height, radius=0.02).moved(z=0.55 * height)
    lamp = cylinder(0.12, 0.05, sides=12).turned("x", 90).moved(0.36 * width, -length / 2 + 0.02, lift + 0.3)
    return [painted(body, finish), *coat([*panes, ends], plain(WINDOW)), *coat(pair(lamp), plain(_HEADLIGHT))]


def truck_load(rng: Rng, width: float, length: float, height: float) -> Parts:
    """What a lorry carries, on z = 0: a closed box, a tank, a tray with logs or crates."""
    kind = pick(rng, ("box", "tank", "logs", "crates"), (3, 1, 1, 1))
    if kind == "box":
        return [painted(rounded_box(width, length, height, radius=0.03), pick(rng, (paint, patterned))(rng))]
    if kind == "tank":
        tank = superquadric((0.5 * width, 0.5 * length, 0.5 * width), roundness=(1.0, 0.3), sides=24)
        return [painted(tank.moved(z=0.45 * width), metal(rng))]
    bed = rounded_box(width, length, 0.15, radius=0.02)
    if kind == "logs":
        log = cylinder(0.12 * width, 0.94 * length, sides=12).turned("x", 90)
        log = log.moved(0, 0.47 * length, 0.15 + 0.12 * width)
        logs = [*in_row(4, 0.25 * width, log), *in_row(3, 0.25 * width, log.moved(z=0.21 * width))]
        return [painted(bed, paint(rng)), *coat(logs, wood(rng))]
    parts = [painted(bed, paint(rng))]
    for index in range(count(rng, 2, 4)):
        size = between(rng, 0.3, 0.45) * width
        crate = rounded_box(size, size, size, radius=0.02).moved(pick(rng, (-0.25, 0.22)) * width, z=0.15)
        parts.append(painted(crate.moved(y=(index - 1.5) * 0.24 * length), pick(rng, (wood, paint))(rng)))
    return parts


def cart(rng: Rng) -> TexturedTriangles:
    """A barrow or hand cart: an open tray on spoked wheels with handles or a drawbar."""
    width, length, height = between(rng, 0.4, 0.6), between(rng, 0.7, 1.1), between(rng, 0.18, 0.3)
    radius, reach = between(rng, 0.1, 0.22), between(rng, 0.35, 0.6)
    line = hollow([(between(rng, 0.6, 0.95), 0.0), (1.0, height)], 0.06)
    tray = revolve(line, sides=4).turned("z", 45).scaled(0.707 * width, 0.707 * length, 1.0)
    parts = [painted(tray.moved(z=0.8 * radius), pick(rng, (wood, paint))(rng))]
    wheels = [solid.moved(0.5 * width + 0.03, 0, radius) for solid in spoked_wheel(radius)]
    places = pick(rng, ((-0.32, 0.32), (0.05,)))
    fitting = [image for place in places for image in pair(*(solid.moved(y=place * length) for solid in wheels))]
    if chance(rng, 0.5):
        grip = (0.15, 0.5 * length + reach, 0.75)
        fitting += pair(rod((0.15, 0.35 * length, radius + 0.3 * height), grip, 0.018))
        fitting.append(rod((-0.2, grip[1], grip[2]), (0.2, grip[1], grip[2]), 0.02))
    else:
        end = -0.5 * length - reach
        path = [(0.0, -0.48 * length, radius), (0.0, end + 0.4 * reach, radius + 0.1), (0.0, end, 0.6)]
        fitting += [tube(rounded_path(path, 0.15), 0.018), rod((-0.12, end, 0.6), (0.12, end, 0.6), 0.018)]
    return merge(parts + coat(fitting, metal(rng)))


def bicycle(rng: Rng) -> TexturedTriangles:
    """A bicycle: two spoked wheels in one line, frame, saddle, handlebar."""
    radius, base, dark = between(rng, 0.28, 0.34), between(rng, 0.95, 1.1), plain(BLACK)
    spokes = count(rng, 8, 12)
    rims = [part.moved(0, sign * base / 2, radius) for sign in (-1, 1) for part in spoked_wheel(radius, spokes=spokes)]
    crank, seat, head = (0, 0.05, radius - 0.03), (0, 0.2, 0.78), (0, -0.33, 0.8)
    front, rear, joint = (0, -base / 2, radius), (0, base / 2, radius), (0, 0.17, 0.68)
    tubes = ((crank, seat), (crank, head), (joint, head), (crank, rear), (joint, rear), (head, front))
    frame = [rod(start, end, 0.019) for start, end in tubes]
    bar = [(-0.28, -0.2, 0.93), (-0.2, -0.32, 0.95), (0, -0.35, 0.92), (0.2, -0.32, 0.95), (0.28, -0.2, 0.93)]
    frame += [tube(spline(bar), 0.014), rod(head, (0, -0.35, 0.93), 0.016)]
    saddle = superquadric((0.09, 0.14, 0.035), roundness=(0.8, 0.8), rings=6, sides=14).moved(0, 0.22, 0.83)
    pedal = rounded_box(0.1, 0.07, 0.02, radius=0.004).moved(0.12, 0.12, 0)
    pedals = [solid.moved(0, 0.05, radius - 0.03) for solid in (pedal, pedal.scaled(x=-1, y=-1))]
    gear = cylinder(0.09, 0.015, sides=18).turned("y", 90).moved(0.02, 0.05, radius - 0.03)
    tires = pick(rng, (dark, metal(rng)))
    return merge(coat(rims, tires) + coat(frame, paint(rng)) + coat([saddle, *pedals, gear], dark))


def locomotive(rng: Rng) -> TexturedTriangles:
    """A toy steam engine, perhaps with a wagon behind it."""
    finish, accent, fitting = paint(rng), paint(rng), metal(rng)
    boiler = cylinder(0.2, 0.75, sides=20).turned("x", 90).moved(0, 0.2, 0.48)
    roof = rounded_box(0.58, 0.46, 0.05, radius=0.02).moved(0, 0.36, 0.82)
    cab = [roof, rounded_box(0.5, 0.35, 0.5, radius=0.02).moved(0, 0.36, 0.25)]
    panes = rounded_box(0.51, 0.2, 0.2, radius=0.01).moved(0, 0.36, 0.58)
    floor = rounded_box(0.5, 1.15, 0.1, radius=0.02).moved(z=0.18)
    line = [(0, 0), (0.07, 0), (0.06, 0.15), (0.11, 0.28), (0.11, 0.32), (0, 0.32)]
    stack = revolve(line, sides=14).moved(0, -0.4, 0.64)
    dome = superquadric((0.08, 0.08, 0.09), rings=6, sides=12).moved(0, -0.05, 0.68)
    rings = [torus(0.2, 0.015, sides=20, rings=6).turned("x", 90).moved(0, y, 0.48) for y in (-0.5, -0.2, 0.1)]
    guard = around(1, cylinder(0.3, 0.2, top=0.12, sides=4).moved(z=0.03), start=45)[0].moved(y=-0.55)
    parts = coat([boiler], finish) + coat([*cab, floor], accent) + coat([stack, dome, *rings, guard], fitting)
    parts += [painted(panes, plain(WINDOW)), *wheel_pairs(0.55, 0.13, [-0.38, -0.05, 0.33], fitting, thickness=0.08)]
    if chance(rng, 0.5):
        parts.append(painted(rounded_box(0.5, 0.7, 0.35, radius=0.02).moved(0, 1.05, 0.2), paint(rng)))
        parts += wheel_pairs(0.55, 0.13, [0.85, 1.25], fitting, thickness=0.08)
    return merge(parts)
