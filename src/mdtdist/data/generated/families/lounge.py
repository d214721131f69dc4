"""Sofas, armchairs and beds."""

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.assembly import Parts, coat, merge, painted, placed
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, fabric, hard, patterned
from mdtdist.data.generated.parts.backs import any_back
from mdtdist.data.generated.parts.upholstery import cushion, pillow
from mdtdist.data.generated.solids import Solid, corners_of, in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, upright
from mdtdist.representations.triangles import TexturedTriangles


def sofa(rng: Rng) -> TexturedTriangles:
    """Two to four seats with back and arms, every fifth with a chaise at one end."""
    cover, seats = fabric(rng), pick(rng, (2, 3, 4), (4, 3, 1))
    depth, height, seat = between(rng, 0.75, 0.95), between(rng, 0.34, 0.44), between(rng, 0.55, 0.75)
    parts = couch(rng, seats * seat, depth, height, seats, cover)
    if chance(rng, 0.2):
        longer, side = between(rng, 0.4, 0.7), pick(rng, (-1, 1)) * (seats - 1) / 2 * seat
        base = rounded_box(seat, longer, height - 0.14, radius=0.02).moved(z=0.06)
        pad = cushion(seat - 0.01, longer + 0.04, 0.15, puff=0.15).moved(z=height - 0.09)
        parts += coat([solid.moved(side, -(depth + longer) / 2 + 0.02) for solid in (base, pad)], cover)
    return merge(parts + throw_pillows(rng, seats * seat, height + 0.08))


def armchair(rng: Rng) -> TexturedTriangles:
    """One upholstered seat: boxy, rounded, or a tub with a round back."""
    cover, width = fabric(rng), between(rng, 0.52, 0.66)
    if chance(rng, 0.35):
        return merge(tub(rng, width, cover))
    height = between(rng, 0.34, 0.44)
    parts = couch(rng, width, between(rng, 0.7, 0.85), height, 1, cover)
    return merge(parts + (throw_pillows(rng, 0.3, height + 0.08) if chance(rng, 0.4) else []))


def couch(rng: Rng, width: float, depth: float, seat_height: float, seats: int, cover: Finish) -> Parts:
    """Plinth, back, seat and back cushions, two arms and feet; ``width`` is between the arms."""
    arm, tall, lift = between(rng, 0.1, 0.24), seat_height + between(rng, 0.3, 0.5), between(rng, 0.03, 0.14)
    whole, room = width + 2 * arm, width / seats - 0.01
    plinth = rounded_box(whole - 0.02, depth - 0.02, seat_height - 0.1 - lift, radius=0.02).moved(z=lift)
    back = rounded_box(whole - 0.04, 0.16, tall - lift - 0.06, radius=0.05, segments=2).moved(0, depth / 2 - 0.1, lift)
    pad = cushion(room, depth - 0.12, 0.16, puff=0.12).moved(y=-0.06, z=seat_height - 0.11)
    rest = cushion(room, tall - seat_height + 0.02, 0.2, puff=0.3).turned("x", 90).turned("x", -between(rng, 2, 12))
    rest = rest.moved(y=depth / 2 - 0.1, z=(seat_height + tall) / 2 + 0.02)
    soft = [*in_row(seats, width / seats, pad), *in_row(seats, width / seats, rest)]
    side = couch_arm(rng, arm, depth, seat_height + between(rng, 0.08, 0.24) - lift).moved((width + arm) / 2, 0, lift)
    leg = cylinder(0.02, lift + 0.02, top=0.03, sides=8)
    feet = [leg.moved(x, y) for x, y in corners_of(whole - 0.14, depth - 0.14)]
    return coat([plinth, back, *soft, *pair(side)], cover) + coat(feet, hard(rng))


def couch_arm(rng: Rng, width: float, depth: float, height: float) -> Solid:
    """One arm on z = 0: a block, a rounded slab, with a roll on top, or sloping to the front."""
    kind = pick(rng, ("block", "slab", "roll", "slope"))
    if kind == "roll":
        angle, radius = np.radians(np.linspace(-50, 230, 13)), 0.55 * width
        roll = np.stack([radius * np.cos(angle), height + radius * (np.sin(angle) - 1)], axis=1)
        return upright([(-0.3 * width, 0.0), (0.3 * width, 0.0), *roll], depth)
    if kind == "slope":
        outline = [(-depth / 2, 0.0), (depth / 2, 0.0), (depth / 2, 1.15 * height), (-depth / 2, 0.75 * height)]
        return upright(outline, width).turned("z", 90)
    return rounded_box(width, depth, height, radius=0.02 if kind == "block" else 0.5 * width, segments=2)


def tub(rng: Rng, width: float, cover: Finish) -> Parts:
    """A round seat in a padded shell that sinks towards the front."""
    height, seat, thickness = between(rng, 0.65, 0.85), between(rng, 0.36, 0.42), between(rng, 0.06, 0.12)
    front, radius = between(rng, 0.55, 0.9), width / 2 - 0.2 * thickness
    shell = rounded_box(1.0, thickness, 1.0, radius=0.45 * thickness, segments=2, divisions=(16, 1, 1))

    def wrap(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        angle, away = 1.65 * np.pi * v[:, 0], width / 2 + v[:, 1]
        tall = height * (front + (1 - front) * np.cos(angle / 2) ** 2) * v[:, 2]
        return np.stack([away * np.sin(angle), away * np.cos(angle), 0.08 + tall], axis=1)

    block = cylinder(radius, seat - 0.22, sides=24).moved(z=0.1)
    pad = superquadric((radius, radius, 0.08), roundness=(0.4, 1.0), sides=24).moved(z=seat - 0.06)
    leg = cylinder(0.015, 0.14, top=0.025, sides=8)
    feet = [leg.moved(x, y) for x, y in corners_of(1.2 * radius, 1.2 * radius)]
    return coat([shell.mapped(wrap), block, pad], cover) + coat(feet, hard(rng))


def throw_pillows(rng: Rng, width: float, z: float) -> Parts:
    """Up to three pillows that lean on a back at random places."""
    finish, parts = patterned(rng), []
    for _ in range(count(rng, 0, 3)):
        side = between(rng, 0.3, 0.42)
        leant = painted(pillow(side, side, 0.13).turned("x", -between(rng, 12, 25)), finish)
        parts.append(placed(leant, between(rng, -0.42, 0.42) * width, 0.06, z, turn=between(rng, -25, 25)))
    return parts


def bed(rng: Rng) -> TexturedTriangles:
    """Frame, mattress, blanket and pillows; the head is at the back (+Y)."""
    frame, sheet, blanket = hard(rng), fabric(rng), fabric(rng)
    width, length, base = between(rng, 0.8, 1.7), between(rng, 1.85, 2.05), between(rng, 0.18, 0.34)
    thick, side = between(rng, 0.16, 0.26), between(rng, 0.08, base - 0.04)
    mattress = cushion(width - 0.04, length - 0.06, thick, puff=0.05).moved(z=base)
    boards = rounded_box(width, length, side, radius=0.02).moved(z=base + 0.05 - side)
    legs = [cylinder(0.03, base, sides=10).moved(x, y) for x, y in corners_of(width - 0.1, length - 0.1)]
    covered = between(rng, 0.55, 0.75) * length
    cover = cushion(width + 0.06, covered, thick * 0.8 + 0.06, puff=0.1)
    parts = coat([boards, *legs], frame) + [painted(mattress, sheet)]
    parts.append(painted(cover.moved(0, (covered - length) / 2 - 0.02, base + 0.24 * thick), blanket))
    number = 2 if width > 1.2 else 1
    flat = pillow(0.8 * width / number, 0.4, 0.16).turned("x", -80).moved(0, length / 2 - 0.5, base + thick + 0.08)
    parts += coat(in_row(number, width / number, flat), sheet)
    return merge(parts + headboard(rng, width, length / 2, base, frame, blanket))


def headboard(rng: Rng, width: float, y: float, base: float, frame: Finish, cover: Finish) -> Parts:
    """What stands at the head: a back as of a chair, wider; often a lower one at the foot."""
    bars, filling = any_back(rng, width, between(rng, 0.35, 0.7), between(rng, 0.03, 0.06))
    foot = [solid.scaled(y=-1, z=0.5).moved(0, -y, base) for solid in bars] if chance(rng, 0.4) else []
    parts = coat([*(solid.moved(0, y, base + 0.05) for solid in bars), *foot], frame)
    return parts + coat([solid.moved(0, y, base + 0.05) for solid in filling], pick(rng, (frame, cover)))
