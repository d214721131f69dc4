"""Washbasins, toilets, tubs, radiators and towel rails."""

import numpy as np
from jaxtyping import Float

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import MIRROR, WHITE, jittered, paint_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, fabric, hard, metal, plain
from mdtdist.data.generated.solids import Solid, box, corners_of, in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import cylinder, hollow, revolve, rod, rounded_path, spline, tube
from mdtdist.representations.triangles import TexturedTriangles


def washbasin(rng: Rng) -> TexturedTriangles:
    """A basin on a pedestal, a cabinet, or a frame, with a tap; sometimes a mirror above."""
    china, chrome = _china(rng), metal(rng)
    width, depth, height = between(rng, 0.45, 0.75), between(rng, 0.38, 0.5), between(rng, 0.75, 0.85)
    parts = [painted(basin(rng, width, depth, 0.17).moved(z=height - 0.17), china)]
    parts += coat([solid.moved(0, 0.4 * depth, height - 0.01) for solid in tap(rng)], chrome)
    kind = pick(rng, ("pedestal", "cabinet", "frame"))
    if kind == "pedestal":
        line = spline([(0.14, 0), (0.08, 0.2), (0.075, 0.5), (0.13, height - 0.12)])
        parts.append(painted(revolve([(0, 0), *line, (0, height - 0.12)]), china))
    elif kind == "cabinet":
        parts += vanity(rng, width, depth, height, chrome)
    else:
        legs = [cylinder(0.014, height - 0.06, sides=8).moved(x, y) for x, y in corners_of(0.85 * width, 0.8 * depth)]
        x, y = 0.42 * width, 0.4 * depth
        parts += coat([*legs, *(rod((-x, level, 0.4), (x, level, 0.4), 0.01) for level in (-y, y))], chrome)
    if chance(rng, 0.35):
        tall = between(rng, 0.5, 0.7)
        board = rounded_box(width, 0.025, tall + 0.3, radius=0.005).moved(0, 0.5 * depth, height - 0.1)
        pane = box(0.88 * width, 0.01, tall - 0.06).moved(0, 0.5 * depth - 0.016, height + 0.16)
        parts += [painted(board, hard(rng)), painted(pane, plain(MIRROR))]
    return merge(parts)


def vanity(rng: Rng, width: float, depth: float, height: float, chrome: Finish) -> Parts:
    """A cabinet with two doors under a basin."""
    body = hard(rng)
    case = rounded_box(0.96 * width, 0.9 * depth, height - 0.1, radius=0.008).moved(z=0.02)
    door = rounded_box(0.44 * width, 0.02, height - 0.24, radius=0.005).moved(0.235 * width, -0.455 * depth, 0.08)
    knob = superquadric((0.014, 0.02, 0.014), rings=6, sides=8).moved(0.05, -0.49 * depth, 0.6 * height)
    return [painted(case, body), *coat(pair(door), pick(rng, (body, hard(rng)))), *coat(pair(knob), chrome)]


def basin(rng: Rng, width: float, depth: float, height: float) -> Solid:
    """A bowl with a wall, round or with four rounded sides, on z = 0."""
    line = hollow(spline([(0.55, 0.0), (0.85, 0.4 * height), (1.0, height)]), 0.06)
    power = pick(rng, (1.0, between(rng, 0.3, 0.6)))

    def shape(v: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        radius = np.linalg.norm(v[:, :2], axis=1, keepdims=True).clip(1e-9)
        wave = v[:, :2] / radius
        outline = np.sign(wave) * np.abs(wave) ** power * radius
        return np.column_stack([outline * np.array([width / 2, depth / 2]), v[:, 2]])

    return revolve(line, sides=32).mapped(shape)


def tap(rng: Rng) -> list[Solid]:
    """A mixer tap on z = 0 that reaches to the front, with a lever or two knobs."""
    height, reach, radius = between(rng, 0.1, 0.26), between(rng, 0.1, 0.18), between(rng, 0.011, 0.018)
    line = [(0, 0, 0), (0, 0, height), (0, -reach, height), (0, -reach, 0.6 * height)]
    spout = tube(rounded_path(line, between(rng, 0.02, 0.09), steps=4), radius)
    knob = revolve([(0, 0), (0.022, 0.0), (0.015, 0.03), (0.03, 0.05), (0, 0.06)], sides=10).moved(0.1)
    lever = rod((0, 0, 0.6 * height), (0.09, 0, 0.75 * height), 0.008, sides=6)
    return [spout, cylinder(1.6 * radius, 0.02, sides=12), *(pair(knob) if chance(rng, 0.4) else [lever])]


def toilet(rng: Rng) -> TexturedTriangles:
    """A bowl with seat and lid, open or closed, and a cistern; or a bidet with a tap."""
    china, height, long = _china(rng), between(rng, 0.36, 0.42), between(rng, 0.23, 0.26)
    line = hollow(spline([(0.6, 0.0), (0.55, 0.35 * height), (0.85, 0.75 * height), (1.0, height)]), 0.16)
    shell = [revolve(line, sides=28).scaled(0.19, long), rounded_box(0.22, 0.3, height, radius=0.03).moved(y=long)]
    if chance(rng, 0.2):
        mixer = [solid.moved(0, 0.9 * long, height - 0.02) for solid in tap(rng)]
        return merge(coat(shell, china) + coat(mixer, metal(rng)))
    rim = revolve([(0.62, 0), (1.02, 0), (1.02, 0.02), (0.62, 0.02), (0.62, 0)], sides=28).scaled(0.19, long)
    lid = cylinder(1.02, 0.02, sides=28).scaled(0.19, long).moved(z=0.022)
    if chance(rng, 0.5):
        lid = lid.moved(0, -long).turned("x", -between(rng, 92, 100)).moved(0, 0.9 * long, 0.02)
    tall, wide, rear = between(rng, 0.32, 0.42), between(rng, 0.36, 0.44), long + 0.14
    tank = rounded_box(wide, 0.18, tall, radius=0.03, segments=2).moved(0, rear, height - 0.02)
    top = rounded_box(wide + 0.02, 0.2, 0.03, radius=0.01).moved(0, rear, height + tall - 0.03)
    knob = cylinder(0.03, 0.02, sides=12).moved(0, rear, height + tall)
    seat = plain(pick(rng, (WHITE, jittered(rng, (0.5, 0.33, 0.2)), paint_color(rng)), (4, 1, 1)))
    parts = coat([solid.moved(z=height) for solid in (rim, lid)], seat) + coat([*shell, tank, top], china)
    return merge([*parts, painted(knob, metal(rng))])


def bathtub(rng: Rng) -> TexturedTriangles:
    """A tub: free-standing on feet, or boxed in; with a tap and sometimes water."""
    china, lift = _china(rng), between(rng, 0.08, 0.15)
    length, width, height = between(rng, 1.4, 1.8), between(rng, 0.68, 0.85), between(rng, 0.5, 0.6)
    parts = [painted(basin(rng, length, width, height - lift).moved(z=lift), china)]
    parts += coat([solid.scaled(1.4, 1.4, 1.4).moved(0, 0.5 * width, height - 0.02) for solid in tap(rng)], metal(rng))
    if chance(rng, 0.5):
        foot = superquadric((0.05, 0.05, 0.5 * lift + 0.03)).moved(z=0.5 * lift + 0.03)
        parts += coat([foot.moved(x, y) for x, y in corners_of(0.6 * length, 0.55 * width)], metal(rng))
    else:
        front = box(length, 0.02, height - 0.03).moved(y=width / 2)
        side = box(width, 0.02, height - 0.03).turned("z", 90).moved(length / 2)
        parts += coat([front, front.scaled(y=-1), *pair(side)], pick(rng, (china, hard(rng))))
    if chance(rng, 0.4):
        water = cylinder(0.5, 0.01, sides=28).scaled(0.82 * length, 0.8 * width)
        parts.append(painted(water.moved(z=lift + 0.65 * (height - lift)), plain((0.6, 0.8, 0.88))))
    return merge(parts)


def radiator(rng: Rng) -> TexturedTriangles:
    """A sectional radiator, a panel with ribs, or a towel rail with towels."""
    width, height = between(rng, 0.5, 1.3), between(rng, 0.5, 0.9)
    finish = pick(rng, (_china, metal))(rng)
    kind = pick(rng, ("sections", "panel", "towels"))
    if kind == "towels":
        return merge(towel_rail(rng, 0.55 * width + 0.15, 1.3 * height, finish))
    if kind == "panel":
        ribs = int(width / 0.05)
        rib = rounded_box(0.022, 0.02, 0.88 * height, radius=0.006).moved(0, -0.024, 0.06 * height)
        solids = [rounded_box(width, 0.04, height, radius=0.012), *in_row(ribs, width / ribs, rib)]
    else:
        deep, number = between(rng, 0.1, 0.18), max(6, min(14, int(width / 0.07)))
        width = 0.06 * number
        end = superquadric((0.026, deep / 2 + 0.03, 0.04), roundness=(0.7, 0.5), rings=6, sides=12)
        column = [end, end.moved(z=height), *(rod((0, y, 0), (0, y, height), 0.022) for y in (-deep / 2, deep / 2))]
        solids = [copy for solid in column for copy in in_row(number, 0.06, solid)]
    feet = pair(box(0.03, 0.12, 0.12).moved(0.4 * width))
    return merge(coat([*(solid.moved(z=0.1) for solid in solids), *feet], finish))


def towel_rail(rng: Rng, width: float, height: float, finish: Finish) -> Parts:
    """Two posts with rungs, and folded towels over some."""
    half = width / 2
    levels = [float(level) for level in np.linspace(0.08, 0.96, count(rng, 7, 14)) * height]
    rungs = [rod((-half, 0, level), (half, 0, level), 0.011, sides=6) for level in levels]
    parts = coat([*pair(cylinder(0.018, height, sides=10).moved(half)), *rungs, box(1.1 * width, 0.2, 0.02)], finish)
    for level in levels[::-4][: count(rng, 0, 2)]:
        cloth = rounded_box(between(rng, 0.5, 0.9) * width, 0.05, between(rng, 0.2, 0.32), radius=0.02, segments=2)
        parts.append(painted(cloth.scaled(z=-1).moved(z=level + 0.02), fabric(rng)))
    return parts


def _china(rng: Rng) -> Finish:
    """Sanitary china: white, or one of the pastels of its time."""
    pastels = (WHITE, (0.9, 0.86, 0.78), (0.75, 0.85, 0.85), (0.9, 0.75, 0.75))
    return plain(jittered(rng, pick(rng, pastels, (6, 1, 1, 1)), 0.02))
