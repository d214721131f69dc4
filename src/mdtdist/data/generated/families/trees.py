"""Trees: broad-leaved, clipped, conifers, palms, bare."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import bark_color, vivid_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.families.plants import palm_of
from mdtdist.data.generated.finishes import Finish, foliage, plain
from mdtdist.data.generated.parts.leaves import bumpy_ball, crown
from mdtdist.data.generated.solids import Solid, superquadric
from mdtdist.data.generated.sweeps import cylinder, fluted, spline, tube
from mdtdist.representations.triangles import TexturedTriangles


def tree(rng: Rng) -> TexturedTriangles:
    """One of the kinds."""
    bark, tall = plain(bark_color(rng)), between(rng, 0.5, 1.2)
    kind = pick(rng, ("leafy", "clipped", "conifer", "palm", "bare"), (3, 3, 2, 1, 0.5))
    if kind == "palm":
        return merge(palm_of(rng, between(rng, 0.8, 1.4)))
    if kind == "conifer":
        return merge(conifer(rng, bark))
    limbs, tips = branches(rng, tall)
    if kind == "bare":
        return merge(coat(limbs, bark))
    green: list[Solid] = []
    for x, y, z in tips:
        size = between(rng, 0.22, 0.36)
        ball = [bumpy_ball(rng, size)] if kind == "clipped" else crown(rng, 60, (size, size, size), 0.12)
        green += [solid.moved(x, y, z) for solid in ball]
    return merge(coat(limbs, bark) + coat(green, foliage(rng)))


def branches(rng: Rng, tall: float) -> tuple[list[Solid], list[tuple[float, float, float]]]:
    """A trunk with limbs that fork from it, and where they end."""
    trunk = spline([(0, 0, 0), (0.03, 0, 0.5 * tall), (0, 0.02, 1.1 * tall)])
    limbs, tips = [tube(trunk, np.linspace(0.08, 0.03, len(trunk)))], [(0.0, 0.0, 1.2 * tall)]
    number = count(rng, 4, 7)
    for index in range(number):
        angle, out = 2 * np.pi * (index + between(rng, -0.3, 0.3)) / number, between(rng, 0.25, 0.5)
        start = np.array([0.0, 0.0, between(rng, 0.5, 0.95) * tall])
        tip = start + [out * np.cos(angle), out * np.sin(angle), between(rng, 0.15, 0.45)]
        middle = (start + tip) / 2 - [0, 0, 0.03]
        limbs.append(tube(spline([start, middle, tip]), np.linspace(0.035, 0.014, 9), sides=6))
        twigs = [middle + rng.uniform(-0.2, 0.2, 3) + [0, 0, 0.18] for _ in range(2)]
        limbs += [tube([middle, twig], np.array([0.018, 0.008]), sides=5) for twig in twigs]
        tips.append((float(tip[0]), float(tip[1]), float(tip[2])))
    return limbs, tips


def conifer(rng: Rng, bark: Finish) -> Parts:
    """Scalloped cones one above the other, sometimes with baubles."""
    levels, wide = count(rng, 3, 6), between(rng, 0.35, 0.55)
    radii = [wide * (1 - 0.8 * level / levels) for level in range(levels)]
    cones = [cylinder(radius, 0.5, top=0.02, sides=27).moved(z=0.2 + 0.26 * i) for i, radius in enumerate(radii)]
    parts = [painted(cylinder(0.06, 0.3), bark), *coat([fluted(cone, 9, 0.09) for cone in cones], foliage(rng))]
    for index in range(16 if chance(rng, 0.3) else 0):
        level, angle = count(rng, 0, levels - 1), 2.4 * index
        ball = superquadric((0.035, 0.035, 0.035), rings=6, sides=8)
        x, y = (0.9 * radii[level] * wave for wave in (np.cos(angle), np.sin(angle)))
        parts.append(painted(ball.moved(x, y, 0.2 + 0.26 * level), plain(vivid_color(rng))))
    return parts
