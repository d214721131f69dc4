"""Kitchen and laundry machines: washer, cooker, refrigerator, microwave, toaster, mixer, blender."""

from mdtdist.data.generated.assembly import Parts, coat, merge, painted
from mdtdist.data.generated.colors import DARK, WHITE, metal_color, neutral_color, paint_color
from mdtdist.data.generated.draws import Rng, between, chance, count, pick
from mdtdist.data.generated.finishes import Finish, glass, metal, paint, plain
from mdtdist.data.generated.solids import Solid, box, corners_of, facing, in_row, pair, rounded_box, superquadric
from mdtdist.data.generated.sweeps import arc, cylinder, revolve, rounded_path, spline, torus, tube
from mdtdist.representations.triangles import TexturedTriangles


def appliance(rng: Rng) -> TexturedTriangles:
    """A large machine: washer, cooker, refrigerator or microwave, white, of steel, or coloured."""
    body = plain(pick(rng, (WHITE, metal_color(rng), neutral_color(rng), paint_color(rng)), (3, 3, 2, 2)))
    return merge(pick(rng, (washer, cooker, refrigerator, microwave))(rng, body))


def washer(rng: Rng, body: Finish) -> Parts:
    """A cube with a round door, a drawer, a knob."""
    width, depth, height = between(rng, 0.55, 0.62), between(rng, 0.45, 0.62), between(rng, 0.8, 0.9)
    front, radius, trim = -depth / 2, between(rng, 0.14, 0.2), plain(metal_color(rng))
    door = facing(torus(radius, 0.028), front - 0.01, 0.45 * height)
    pane = facing(superquadric((0.9 * radius, 0.9 * radius, 0.05), rings=8, sides=24), front, 0.45 * height)
    tray = rounded_box(0.2, 0.02, 0.1, radius=0.005).moved(-0.3 * width, front - 0.005, 0.85 * height)
    knob = facing(cylinder(0.045, 0.03, top=0.038), front, 0.9 * height).moved(0.1)
    button = facing(cylinder(0.012, 0.012, sides=8), front, 0.9 * height)
    strip = box(0.98 * width, 0.008, 0.012).moved(0, front - 0.002, 0.81 * height)
    case = rounded_box(width, depth, height, radius=0.02, segments=2)
    small = [tray, knob, button.moved(0.2), button.moved(0.24)]
    return [painted(case, body), *coat([door, *small], trim), *coat([pane, strip], plain(DARK))]


def cooker(rng: Rng, body: Finish) -> Parts:
    """An oven with a window and a bar handle, knobs in a row, and a hob with four plates."""
    width, depth, height = between(rng, 0.55, 0.8), between(rng, 0.55, 0.62), between(rng, 0.82, 0.9)
    front, dark, trim, number = -depth / 2, plain(DARK), metal(rng), count(rng, 4, 6)
    door = rounded_box(0.94 * width, 0.03, 0.58 * height, radius=0.008).moved(0, front - 0.01, 0.12 * height)
    pane = box(0.72 * width, 0.012, 0.32 * height).moved(0, front - 0.026, 0.22 * height)
    grip = rail(0.8 * width, 0.05).moved(0, front - 0.02, 0.65 * height)
    knob = facing(cylinder(0.024, 0.035, top=0.02, sides=12), front, 0.85 * height)
    spots = corners_of(0.46 * width, 0.44 * depth)
    plates = [cylinder(between(rng, 0.07, 0.11), 0.012, sides=20).moved(x, y, height) for x, y in spots]
    hob = rounded_box(width, depth, 0.01, radius=0.003).moved(z=height - 0.005)
    back = rounded_box(width, 0.04, 0.14, radius=0.008).moved(0, depth / 2 - 0.02, height)
    case = [rounded_box(width, depth, height, radius=0.01), door, *([back] if chance(rng, 0.4) else [])]
    small = [grip, *in_row(number, 0.8 * width / number, knob)]
    return coat(case, body) + coat([pane, *plates], dark) + coat(small, trim) + [painted(hob, pick(rng, (trim, dark)))]


def rail(width: float, reach: float) -> Solid:
    """A bar handle along x on a front at y = 0, sticking out to -Y."""
    line = [(-width / 2, 0, 0), (-width / 2, -reach, 0), (width / 2, -reach, 0), (width / 2, 0, 0)]
    return tube(rounded_path(line, 0.02), 0.012)


def refrigerator(rng: Rng, body: Finish) -> Parts:
    """A tall case with two doors, above each other or, where it is wide, side by side."""
    width, depth, height = between(rng, 0.55, 0.9), between(rng, 0.55, 0.7), between(rng, 0.9, 1.9)
    front, rounding, trim = -depth / 2, between(rng, 0.008, 0.05), metal(rng)
    split = between(rng, 0.3, 0.7) * height
    # x of the middle, z of the lower edge, width and height of a door, x of its handle.
    doors = [(0.0, 0.03, width, split - 0.04, 0.4), (0.0, split, width, height - split - 0.01, 0.4)]
    if width > 0.75:
        doors = [(sign * width / 4, 0.03, width / 2, height - 0.04, -0.4 * sign) for sign in (-1, 1)]
    parts = [painted(rounded_box(width, depth, height, radius=0.01), body)]
    for x, low, wide, tall, side in doors:
        door = rounded_box(wide - 0.01, 0.06, tall, radius=rounding, segments=2).moved(x, front - 0.03, low)
        grip = rail(0.45 * tall, 0.05).turned("y", 90).moved(x + side * wide, front - 0.05, low + 0.5 * tall)
        parts += [painted(door, body), painted(grip, trim)]
    return parts


def microwave(rng: Rng, body: Finish) -> Parts:
    """A low box with a window, a grip and a panel of keys."""
    width, depth, height = 0.5, 0.36, between(rng, 0.26, 0.34)
    front = -depth / 2
    pane = rounded_box(0.6 * width, 0.012, 0.74 * height, radius=0.004).moved(
        -0.13 * width, front - 0.003, 0.13 * height
    )
    grip = rounded_box(0.018, 0.03, 0.7 * height, radius=0.006).moved(0.2 * width, front - 0.015, 0.15 * height)
    row = in_row(3, 0.034, box(0.028, 0.008, 0.022).moved(0.35 * width, front - 0.003, 0.15 * height))
    keys = [key.moved(z=0.13 * level * height) for level in range(4) for key in row]
    display = box(0.1, 0.006, 0.035).moved(0.35 * width, front - 0.002, 0.78 * height)
    feet = [cylinder(0.012, 0.012, sides=8).moved(x, y, -0.01) for x, y in corners_of(0.4, 0.26)]
    case = painted(rounded_box(width, depth, height, radius=0.012), body)
    lit = painted(display, plain((0.1, 0.3, 0.2)))
    return [case, lit, *coat([pane, *feet], plain(DARK)), *coat([grip, *keys], metal(rng))]


def toaster(rng: Rng) -> Parts:
    """A toaster with two slices."""
    case = rounded_box(0.6, 0.34, 0.38, radius=between(rng, 0.04, 0.12), segments=2).moved(z=0.03)
    slot, slice_ = box(0.4, 0.05, 0.01).moved(z=0.405), rounded_box(0.34, 0.035, 0.3, radius=0.015)
    bread = [slice_.moved(0, y, between(rng, 0.12, 0.3)) for y in (-0.07, 0.07)]
    lever = rounded_box(0.05, 0.1, 0.03, radius=0.01).moved(0.32, 0, 0.28)
    knob, foot = cylinder(0.03, 0.02).turned("y", 90).moved(0.3, 0, 0.12), box(0.06, 0.28, 0.04).moved(0.22)
    dark = [slot.moved(y=-0.07), slot.moved(y=0.07), lever, knob, *pair(foot)]
    toast = plain((0.78, 0.55, 0.3))
    return [painted(case, pick(rng, (metal, paint))(rng)), *coat(dark, plain(DARK)), *coat(bread, toast)]


def blender(rng: Rng) -> Parts:
    """A base with a knob and a glass jug with a lid."""
    base = revolve([(0, 0), (0.2, 0), (0.16, 0.25), (0.12, 0.28), (0, 0.28)])
    jug = revolve([(0.1, 0.28), (0.17, 0.75), (0.16, 0.75), (0.09, 0.29), (0.1, 0.28)])
    lid, knob = cylinder(0.18, 0.06, top=0.12, sides=20).moved(z=0.74), facing(cylinder(0.04, 0.03), -0.18, 0.12)
    parts = [painted(base, paint(rng)), painted(jug, glass(rng)), painted(lid, plain(DARK))]
    return [*parts, painted(knob, metal(rng))]


def mixer(rng: Rng) -> Parts:
    """A stand mixer with a bowl and a whisk."""
    column = rounded_box(0.18, 0.18, 0.4, radius=0.06, segments=2).moved(0, 0.2, 0.03)
    foot = rounded_box(0.3, 0.62, 0.06, radius=0.025, segments=2)
    head = superquadric((0.13, 0.36, 0.12), roundness=(0.7, 0.6)).moved(0, -0.02, 0.5)
    line = spline([(0.1, 0.06), (0.19, 0.15), (0.21, 0.32)])
    bowl = revolve([(0, 0.06), *line, (0.2, 0.32), (0.1, 0.1), (0, 0.1)], sides=24).moved(y=-0.14)
    wire = arc(0.06, 90, 450, pieces=8)[:-1] * [1, 1.4]
    whisk = tube(wire @ [[1, 0, 0], [0, 0, 1]], 0.006, sides=4, is_loop=True)
    wires = [whisk.turned("z", turn).moved(0, -0.16, 0.32) for turn in (0, 60, 120)]
    return coat([foot, column, head], paint(rng)) + coat([bowl, *wires], metal(rng))
