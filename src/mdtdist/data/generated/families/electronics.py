"""Screens, loudspeakers, clocks, fans, cameras, telephones."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import BLACK, DARK, WHITE, metal_color, neutral_color, paint_color, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.families.appliances import blender, mixer, toaster
from mdtdist.data.generated.finishes import Finish, metal, paint, plain, poster, wood
from mdtdist.data.generated.parts.panels import panel
from mdtdist.data.generated.solids import Solid, around, box, facing, in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, narrowed, revolve, spline, torus, tube, upright
from mdtdist.representations.triangles import TexturedTriangles

_KEYS, _BRASS = (0.15, 0.15, 0.16), (0.8, 0.65, 0.3)


def screen(rng: Rng) -> TexturedTriangles:
    """A television, a monitor, a picture tube or a laptop, with something on the screen or nothing."""
    if chance(rng, 0.3):
        return merge(laptop(rng))
    width, rim, lift = between(rng, 0.5, 1.3), between(rng, 0.01, 0.035), between(rng, 0.04, 0.16)
    height, deep = width * between(rng, 0.56, 0.7), pick(rng, (0.04, 0.3 * width), (4, 1))
    case = plain(pick(rng, (DARK, WHITE, metal_color(rng)), (3, 1, 1)))
    body = rounded_box(width, deep, height, radius=0.012).moved(0, deep / 2, lift)
    lit = panel(width - 2 * rim, height - 2 * rim).moved(0, -0.002, lift + rim)
    shown = poster(rng, width - 2 * rim, height - 2 * rim) if chance(rng, 0.55) else plain((0.05, 0.05, 0.07))
    if chance(rng, 0.5):
        foot = [
            rounded_box(0.4 * width, 0.2, 0.015, radius=0.004).moved(y=0.03),
            box(0.1, 0.03, lift + 0.1).moved(y=0.05),
        ]
    else:
        foot = pair(tube([(0, -0.1, 0.01), (0, 0.03, lift + 0.02), (0, 0.15, 0.01)], 0.012).moved(0.35 * width))
    return merge([painted(body, case), painted(lit, shown), *coat(foot, pick(rng, (case, metal(rng))))])


def laptop(rng: Rng) -> Parts:
    """An open portable computer."""
    width, depth, tilt = between(rng, 0.3, 0.4), between(rng, 0.2, 0.27), -between(rng, 5, 35)
    lid = rounded_box(width, 0.01, depth, radius=0.004).turned("x", tilt).moved(0, depth / 2, 0.012)
    lit = panel(0.92 * width, 0.88 * depth).moved(0, -0.006, 0.06 * depth).turned("x", tilt).moved(0, depth / 2, 0.012)
    row = in_row(11, 0.075 * width, box(0.06 * width, 0.1 * depth, 0.004).moved(0, 0.28 * depth, 0.018))
    keys = [key.moved(y=-0.13 * level * depth) for level in range(4) for key in row]
    pad = box(0.3 * width, 0.22 * depth, 0.002).moved(0, -0.33 * depth, 0.018)
    case = plain(pick(rng, (metal_color(rng), DARK, neutral_color(rng))))
    parts = coat([rounded_box(width, depth, 0.018, radius=0.006), lid], case)
    parts.append(painted(lit, poster(rng, 0.92 * width, 0.88 * depth)))
    return parts + coat(keys, plain(_KEYS)) + [painted(pad, plain((0.4, 0.4, 0.42)))]


def speaker(rng: Rng) -> TexturedTriangles:
    """A loudspeaker with one to three cones."""
    width = between(rng, 0.18, 0.32)
    depth, height = width * between(rng, 0.7, 1.2), width * between(rng, 1.3, 3.6)
    body = rounded_box(width, depth, height, radius=0.01)
    parts = [painted(body, pick(rng, (wood, paint))(rng))]
    number = max(1, min(3, round(height / width / 1.2)))
    for index in range(number):
        size = width * (between(rng, 0.18, 0.38) if index else 0.4)
        place = (-depth / 2, (index + 0.5) * height / number)
        cone = revolve(size * np.array([(0, -0.2), (0.3, -0.12), (0.9, 0.1), (1, 0.1), (1, 0), (0, -0.3)]), sides=24)
        cap = superquadric((0.3 * size, 0.3 * size, 0.02), rings=6, sides=12)
        parts += [painted(facing(cone, *place), plain(DARK)), painted(facing(cap, *place), plain(paint_color(rng)))]
        parts.append(painted(facing(torus(size, 0.008, rings=6), *place), plain(metal_color(rng))))
    return merge(parts)


def clock(rng: Rng) -> TexturedTriangles:
    """An alarm clock with bells, a mantel clock in a little house, or a tall case clock."""
    finish, radius = pick(rng, (wood, metal, paint))(rng), between(rng, 0.12, 0.2)
    kind, height = pick(rng, (("alarm", 1.2), ("mantel", 1.6), ("tall", 7.5)))
    height *= radius
    parts = coat(alarm_case(radius, height) if kind == "alarm" else house_case(radius, height), finish)
    if kind == "tall":
        pane = box(1.6 * radius, 0.01, 0.5 * height).moved(0, -0.003, 0.22 * height)
        bob = [
            facing(cylinder(0.3 * radius, 0.01), -0.008, 0.3 * height),
            box(0.012, 0.006, 0.4 * height).moved(0, -0.012, 0.3 * height),
        ]
        parts += [painted(pane, plain(DARK)), *coat(bob, plain(_BRASS))]
    return merge(parts + clock_face(rng, radius, height))


def clock_face(rng: Rng, radius: float, height: float) -> Parts:
    """A disc with hours and two hands, in front of y = 0."""
    disc = facing(cylinder(0.92 * radius, 0.012, sides=28), 0.0, height)
    mark = box(0.02, 0.16 * radius, 0.005).moved(0, 0.78 * radius)
    marks = [facing(solid, -0.012, height) for solid in around(12, mark)]
    hands = [
        rounded_box(0.016, 0.004, share * radius, radius=0.001).turned("y", between(rng, 0, 360))
        for share in (0.5, 0.75)
    ]
    face = plain(pick(rng, (WHITE, paint_color(rng))))
    return [painted(disc, face), *coat([*marks, *(hand.moved(0, -0.018, height) for hand in hands)], plain(BLACK))]


def alarm_case(radius: float, height: float) -> list[Solid]:
    """A drum on two feet with two bells; its face is at y = 0."""
    foot = tube([(0.12, 0.07, 0), (0.07, 0.07, 0.4 * height)], 0.018)
    bell = superquadric((0.06, 0.05, 0.05)).moved(0.09, 0.07, height + radius)
    return [facing(cylinder(radius, 0.14, sides=28), 0.14, height), *pair(foot, bell)]


def house_case(radius: float, height: float) -> list[Solid]:
    """A case with a base, a cornice and a gable around a dial at ``height``; its front is at y = 0."""
    top = height + 1.3 * radius
    plate = rounded_box(2.9 * radius, 0.26, 0.06, radius=0.01).moved(y=0.1)
    gable = upright([(-1.4 * radius, top), (1.4 * radius, top), (0.0, top + 0.9 * radius)], 0.2).moved(y=0.1)
    return [rounded_box(2.5 * radius, 0.2, top, radius=0.01).moved(y=0.1), plate, plate.moved(z=top - 0.03), gable]


def fan(rng: Rng) -> TexturedTriangles:
    """A fan in a cage on a stand."""
    radius, height, number = between(rng, 0.16, 0.24), between(rng, 0.35, 1.2), count(rng, 3, 5)
    hoops = [torus(radius * size, 0.006, rings=5).moved(z=z) for size, z in ((1.0, 0.0), (0.75, 0.05), (0.45, 0.065))]
    spoke = tube([(0.03, 0, 0.07), (0.5 * radius, 0, 0.062), (radius, 0, 0)], 0.003, sides=4)
    motor = cylinder(0.05, 0.15, sides=14).moved(z=-0.16)
    blade = rounded_box(0.75 * radius, 0.4 * radius, 0.008, radius=0.002).moved(0.45 * radius).turned("x", 20)
    frame = [facing(solid, -0.12, height) for solid in (*hoops, *around(20, spoke), motor)]
    base = [cylinder(0.9 * radius, 0.03, sides=24), cylinder(0.016, height, sides=10)]
    return merge(
        coat([*frame, *base], metal(rng)) + coat([facing(s, -0.12, height) for s in around(number, blade)], paint(rng))
    )


def gadget(rng: Rng) -> TexturedTriangles:
    """A small machine with a few telling parts: camera, telephone, toaster, blender, mixer."""
    return merge(pick(rng, (camera, telephone, toaster, blender, mixer))(rng))


def camera(rng: Rng) -> Parts:
    """A camera body with a lens, finder and knobs."""
    body, dark, long = plain(pick(rng, (DARK, paint_color(rng)))), plain(DARK), between(rng, 0.1, 0.4)
    hood = rounded_box(0.22, 0.2, 0.1, radius=0.03).moved(z=0.36)
    outer = [(0, 0), (0.15, 0), (0.15, 0.4), (0.165, 0.45), (0.165, 0.8), (0.14, 1), (0.12, 1), (0.1, 0.8), (0, 0.8)]
    lens = facing(revolve(np.array(outer) * [1, long], sides=24), -0.1, 0.2)
    rings = [facing(torus(0.155, 0.014, rings=6), -0.1 - share * long, 0.2) for share in (0.2, 0.6)]
    pupil = facing(superquadric((0.1, 0.1, 0.03), rings=6), -0.1 - 0.8 * long, 0.2)
    fittings = [*rings, *pair(cylinder(0.04, 0.05, sides=12).moved(0.22, 0, 0.37))]
    parts = coat([rounded_box(0.6, 0.22, 0.38, radius=0.04, segments=2), hood], body)
    return [*parts, painted(lens, dark), *coat(fittings, metal(rng)), painted(pupil, plain((0.2, 0.25, 0.45)))]


def telephone(rng: Rng) -> Parts:
    """An old telephone: sloping body, dial, receiver on a cradle."""
    body: Finish = plain(pick(rng, (BLACK, vivid_color(rng), WHITE)))
    case = narrowed(rounded_box(0.5, 0.44, 0.22, radius=0.03), lambda z: 1 - 1.2 * z)
    disc = cylinder(0.13, 0.02, sides=24).turned("x", 28).moved(0, -0.14, 0.12)
    holes = [
        hole.turned("x", 28).moved(0, -0.14, 0.12) for hole in around(10, cylinder(0.022, 0.026, sides=8).moved(y=0.09))
    ]
    receiver = tube(spline([(-0.3, 0.1, 0.24), (-0.2, 0.1, 0.32), (0.2, 0.1, 0.32), (0.3, 0.1, 0.24)]), 0.035)
    cups = pair(cylinder(0.07, 0.06, top=0.05).moved(0.29, 0.1, 0.2), box(0.04, 0.1, 0.1).moved(0.12, 0.1, 0.19))
    parts = coat([case, receiver, *cups], body)
    return [*parts, painted(disc, plain(WHITE)), *coat(holes, plain((0.3, 0.3, 0.3)))]
