"""People: standing or sitting, in trousers or a skirt, with hair or a hat; they look to the front."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import paint_color, shaded, skin_color, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, pick
from mdtdist.data.generated.finishes import Finish, fabric, plain
from mdtdist.data.generated.parts.bodies import EYE, ball, limb
from mdtdist.data.generated.solids import pair
from mdtdist.data.generated.sweeps import cylinder, revolve, spline
from mdtdist.representations.triangles import TexturedTriangles

# Elbow and hand of a right arm, from the shoulder.
_POSES = {
    "down": ((0.07, 0.0, -0.27), (0.08, -0.05, -0.52)),
    "forward": ((0.05, -0.12, -0.2), (0.02, -0.38, -0.12)),
    "hip": ((0.2, 0.04, -0.24), (0.0, -0.08, -0.36)),
    "raised": ((0.2, -0.02, 0.08), (0.22, -0.04, 0.36)),
    "out": ((0.26, 0.0, -0.03), (0.5, -0.02, -0.02)),
}


def person(rng: Rng) -> TexturedTriangles:
    """One person, metres."""
    skin, cloth = plain(skin_color(rng)), fabric(rng)
    stout, sits = between(rng, 0.8, 1.25), chance(rng, 0.3)
    hips = 0.5 if sits else 0.88
    parts = upper_body(rng, hips, stout, skin)
    if not sits and chance(rng, 0.35):
        skirt = revolve([(0, 0), (between(rng, 0.2, 0.34), 0), (0.13 * stout, 0.52), (0, 0.52)], sides=18)
        calf = limb((0.08, 0, 0.5), (0.08, 0, 0.3), (0.08, 0, 0.06), (0.06, 0.055, 0.04))
        parts += [painted(skirt.moved(z=hips - 0.45), cloth), *coat(pair(calf), skin)]
        return merge(parts + shoes(rng, 0.08, 0.0))
    apart, hip = between(rng, 0.08, 0.16), 0.085 * stout
    knee = (apart, -0.42, hips - 0.02) if sits else ((hip + apart) / 2, -0.01, 0.5 * hips)
    foot = (apart, -0.44, 0.06) if sits else (apart, 0.01, 0.06)
    leg = limb((hip, 0, hips), knee, foot, (0.09 * stout, 0.07, 0.05))
    return merge(parts + coat(pair(leg), cloth) + shoes(rng, apart, foot[1]))


def upper_body(rng: Rng, hips: float, stout: float, skin: Finish) -> Parts:
    """Torso, neck, head and arms above the hips."""
    top = fabric(rng)
    chest = spline([(0.155 * stout, 0.1), (0.135 * stout, 0.2), (0.165 * stout, 0.42), (0.06, 0.56)], steps=3)
    torso = revolve([(0, 0.0), (0.15 * stout, 0.02), *chest, (0, 0.56)], sides=16).scaled(y=0.65).moved(z=hips - 0.04)
    neck, skull = cylinder(0.05, 0.12, sides=10).moved(z=hips + 0.48), ball((0.085, 0.1, 0.125), (0, -0.01, hips + 0.7))
    parts = [painted(torso, top), *coat([neck, skull], skin), *head_details(rng, hips + 0.7)]
    both = pick(rng, list(_POSES))
    for side in (-1, 1):
        elbow, hand = _POSES[both if chance(rng, 0.6) else pick(rng, list(_POSES))]
        shoulder = np.array([0.17 * stout, 0.0, hips + 0.46])
        arm = limb(shoulder, shoulder + elbow, shoulder + hand, (0.06, 0.048, 0.038))
        palm = ball((0.035, 0.04, 0.055), shoulder + hand, rings=6, sides=10)
        parts += [painted(arm.scaled(x=side), top), painted(palm.scaled(x=side), skin)]
    return parts


def head_details(rng: Rng, height: float) -> Parts:
    """Eyes, and hair, a cap, or a brimmed hat, for a head around a height."""
    parts = coat(pair(ball(0.012, (0.035, -0.1, height + 0.02), rings=4, sides=6)), plain(EYE))
    kind = pick(rng, ("short", "long", "hat", "cap"), (3, 2, 1, 1))
    hair = plain(shaded(skin_color(rng), 0.4) if chance(rng, 0.8) else vivid_color(rng))
    cover = ball((0.095, 0.105, 0.1), (0, 0.02, height + 0.055))
    if kind == "short":
        return [*parts, painted(cover, hair)]
    if kind == "long":
        return parts + coat([cover, ball((0.1, 0.06, 0.19), (0, 0.07, height - 0.06))], hair)
    top = cylinder(0.1, 0.09, top=0.085).moved(z=height + 0.06)
    reach, forward = (0.19, 0.0) if kind == "hat" else (0.1, -0.07)
    return parts + coat([top, cylinder(reach, 0.015).moved(0, forward, height + 0.06)], fabric(rng))


def shoes(rng: Rng, x: float, y: float) -> Parts:
    """A pair of shoes on the floor."""
    color = pick(rng, ((0.1, 0.09, 0.09), paint_color(rng)))
    return coat(pair(ball((0.05, 0.11, 0.05), (x, y - 0.05, 0.05), rings=6)), plain(color))
