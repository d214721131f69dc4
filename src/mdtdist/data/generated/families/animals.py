"""Animals: four-legged, birds, fish, stuffed; they look to the front."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import paint_color, shaded
from mdtdist.data.generated.draws import Rng, between, chance, pick
from mdtdist.data.generated.finishes import Finish, anything, fur, plain
from mdtdist.data.generated.parts.bodies import EYE, Point, ball, limb
from mdtdist.data.generated.parts.leaves import leaf
from mdtdist.data.generated.solids import Solid, pair, superquadric
from mdtdist.data.generated.sweeps import revolve, rod, spline, tube
from mdtdist.representations.triangles import TexturedTriangles

# Half extents of an ear and its height on the skull, in sizes of the skull.
_EARS = {
    "pointed": ((0.28, 0.12, 0.5), 0.9),
    "round": ((0.4, 0.12, 0.4), 0.75),
    "hanging": ((0.14, 0.3, 0.6), 0.0),
    "long": ((0.2, 0.1, 1.1), 1.5),
}


def animal(rng: Rng) -> TexturedTriangles:
    """Something like a horse, deer, dog, cat, cow, sheep or donkey, by its proportions."""
    finish = fur(rng)
    long, high, thick = between(rng, 0.7, 1.2), between(rng, 0.25, 0.7), between(rng, 0.16, 0.34)
    back = high + 0.7 * thick
    trunk = ball((thick, long / 2, thick * between(rng, 0.9, 1.15)), (0, 0, back), rings=12, sides=16)
    rumps = [ball(0.95 * thick, (0, place * long, back)) for place in (-0.27, 0.29)]
    reach, lift = between(rng, 0.05, 0.35), between(rng, 0.1, 0.65)
    head = (0.0, -0.42 * long - reach, high + thick + lift)
    nape = (0, -0.42 * long - 0.3 * reach, high + thick + 0.4 * lift)
    neck = limb((0, -0.33 * long, high + 0.8 * thick), nape, head, (0.75 * thick, 0.5 * thick, 0.42 * thick))
    raised, tip = high + thick * between(rng, 0.8, 1.8), high + thick * between(rng, -0.6, 2.2)
    line = spline([(0, 0.48 * long, high + 0.9 * thick), (0, 0.6 * long, raised), (0, 0.7 * long, tip)])
    tail = tube(line, np.linspace(0.22, 0.1, len(line)) * thick)
    legs = animal_legs(rng, long, high, thick)
    return merge(coat([trunk, *rumps, neck, tail, *legs], finish) + animal_head(rng, head, 0.55 * thick, finish))


def animal_legs(rng: Rng, long: float, high: float, thick: float) -> list[Solid]:
    """Four legs with paws, straight or bent a little."""
    girth, bend, x = between(rng, 0.22, 0.45) * thick, between(rng, 0, 0.06) * long, 0.55 * thick
    legs = []
    for sign in (-1, 1):
        hip, foot = (x, sign * 0.32 * long, high + 0.5 * thick), (x, sign * 0.34 * long, 0.5 * girth)
        knee = (x, sign * (0.32 * long + bend), 0.5 * high)
        paw = ball((girth, 1.2 * girth, 0.6 * girth), (x, foot[1] - 0.03, 0.5 * girth), rings=6)
        legs += pair(limb(hip, knee, foot, (1.5 * girth, girth, 0.9 * girth)), paw)
    return legs


def animal_head(rng: Rng, place: Point, size: float, finish: Finish) -> Parts:
    """Skull, muzzle, ears, eyes, nose; horns or antlers on some. ``size`` is about the radius of the skull."""
    _, y, z = place
    length, kind = between(rng, 0.7, 1.9) * size, pick(rng, list(_EARS))
    (a, b, c), lift = _EARS[kind]
    skull = ball((0.8 * size, size, 0.85 * size), place)
    muzzle = ball((0.5 * size, length, 0.5 * size), (0, y - 0.75 * length, z - 0.25 * size))
    apart = 0.85 if kind == "hanging" else 0.5
    ear = ball((a * size, b * size, c * size), (apart * size, y + 0.2 * size, z + lift * size), rings=6, sides=10)
    eye = ball(0.13 * size, (0.5 * size, y - 0.72 * size, z + 0.3 * size), rings=6, sides=8)
    nose = ball((0.25 * size, 0.2 * size, 0.2 * size), (0, y - 1.72 * length, z - 0.2 * size), rings=6, sides=8)
    parts = coat([skull, muzzle, *pair(ear)], finish) + coat([*pair(eye), nose], plain(EYE))
    if chance(rng, 0.25):
        tall, out = between(rng, 0.8, 2.2) * size, between(rng, 0.4, 1.4) * size
        line = [(0.35 * size, y, z + 0.7 * size), (0.9 * size, y, z + size + 0.4 * tall)]
        line.append((out, y - 0.2 * tall, z + 0.8 * size + tall))
        parts += coat(pair(tube(spline(line), np.linspace(0.15, 0.03, 9) * size)), plain((0.82, 0.77, 0.66)))
    return parts


def bird(rng: Rng) -> TexturedTriangles:
    """A duck, hen, parrot or penguin: body, head, beak, wings, tail, legs."""
    feathers, accent = pick(rng, (fur(rng), plain(paint_color(rng)))), plain(paint_color(rng))
    size, tilt, leg = between(rng, 0.2, 0.3), between(rng, -75, -10), between(rng, 0.02, 0.3)
    middle = leg + size * between(rng, 1.15, 1.4)
    out, up = between(rng, 0.5, 1.0) * size, middle + between(rng, 0.9, 1.8) * size
    body = superquadric((size, 1.5 * size, size), rings=12).turned("x", tilt).moved(z=middle)
    nape = (0, -0.8 * out, (middle + up) / 2)
    neck = limb((0, -0.3 * size, middle + 0.1 * size), nape, (0, -out, up), (0.7 * size, 0.45 * size, 0.4 * size))
    wing = superquadric((0.12 * size, size, 0.55 * size), rings=8, sides=14).turned("x", 0.6 * tilt)
    tail = superquadric((0.45 * size, 0.8 * size, 0.08 * size), rings=6, sides=12).turned("x", 0.5 * tilt + 30)
    plumes = [
        *pair(wing.moved(0.95 * size, 0.2 * size, middle + 0.1 * size)),
        tail.moved(0, 1.5 * size, middle - 0.2 * size),
    ]
    parts = coat([body, neck, ball(0.5 * size, (0, -out, up))], feathers) + coat(plumes, accent)
    x = 0.4 * size
    beak = rod(
        (0, -out - 0.4 * size, up),
        (0, -out - between(rng, 0.8, 1.3) * size, up - 0.1 * size),
        0.17 * size,
        tip=0.03 * size,
    )
    shank = rod((x, 0, 0.02), (x, 0.05, middle - 0.3 * size), 0.05 * size + 0.006, sides=6)
    toes = ball((0.28 * size, 0.4 * size, 0.06 * size), (x, -0.12 * size, 0.02), rings=4, sides=10)
    parts += coat([beak, *pair(shank, toes)], plain((0.92, 0.6, 0.12)))
    eye = ball(0.09 * size, (0.36 * size, -out - 0.3 * size, up + 0.14 * size), rings=4, sides=8)
    return merge(parts + coat(pair(eye), plain(EYE)))


def fish(rng: Rng) -> TexturedTriangles:
    """A fish or whale in mid-water: body, fins, tail."""
    finish, fins = pick(rng, (fur, anything))(rng), plain(paint_color(rng))
    tall, wide = between(rng, 0.18, 0.4), between(rng, 0.08, 0.2)
    line = spline([(0.05, -0.6), (0.7, -0.4), (1.0, -0.1), (0.6, 0.3), (0.16, 0.6)])
    body = revolve([(0, -0.62), *line, (0, 0.62)]).scaled(wide, tall, 1.0).turned("x", -90)
    blade = leaf(0.32, 0.2, droop=0.0, rise=0).turned("z", 90).turned("y", 90)
    upper = [blade.turned("x", turn).moved(y=0.55) for turn in (-40, 40)]
    upper.append(blade.turned("x", 35).moved(0, -0.15, 0.85 * tall))
    side = leaf(0.25, 0.14, droop=0.2, rise=-20).turned("z", 40).moved(0.8 * wide, -0.15, -0.05)
    eye = ball(0.035, (0.72 * wide, -0.42, 0.05), rings=6, sides=8)
    return merge([painted(body, finish), *coat([*upper, *pair(side)], fins), *coat(pair(eye), plain(EYE))])


def teddy(rng: Rng) -> TexturedTriangles:
    """A sitting stuffed animal: teddy, rabbit or mouse, by its ears."""
    finish, pale, dark = fur(rng), plain(shaded(paint_color(rng), 2.0)), plain(EYE)
    b, size = between(rng, 0.2, 0.28), between(rng, 0.16, 0.23)  # radii of belly and head
    top = 2.0 * b + 0.6 * size
    arm = limb((0.7 * b, -0.05, 1.5 * b), (1.3 * b, -0.15, 1.2 * b), (1.35 * b, -0.3, 0.9 * b), (0.08, 0.075, 0.07))
    leg = limb((0.5 * b, -0.1, 0.1), (0.8 * b, -0.3, 0.09), (0.95 * b, -0.5, 0.1), (0.1, 0.09, 0.09))
    shape = pick(rng, ((0.08, 0.04, 0.08), (0.06, 0.03, 0.22), (0.13, 0.03, 0.13)))
    ear = ball(shape, (0.75 * size, 0.02, top + 0.7 * size + 0.8 * shape[2]))
    body = [ball((b, 0.9 * b, b), (0, 0, b)), ball((1.05 * size, size, 0.95 * size), (0, 0, top))]
    muzzle = ball((0.45 * size, 0.35 * size, 0.35 * size), (0, -0.85 * size, top - 0.2 * size))
    belly = ball((0.65 * b, 0.3 * b, 0.75 * b), (0, -0.72 * b, b))
    pad = ball((0.09, 0.04, 0.11), (0.95 * b, -0.55, 0.12))
    eye = ball(0.022, (0.4 * size, -0.88 * size, top + 0.2 * size), rings=6, sides=8)
    nose = ball((0.045, 0.03, 0.03), (0, -1.2 * size, top - 0.08 * size), rings=6, sides=8)
    parts = coat([*body, *pair(arm, leg, ear)], finish) + coat([muzzle, belly, *pair(pad)], pale)
    return merge(parts + coat([*pair(eye), nose], dark))
