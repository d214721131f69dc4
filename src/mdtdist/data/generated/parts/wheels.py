"""Wheels of vehicles."""

import numpy as np

from mdtdist.data.generated.assembly import Parts, coat
from mdtdist.data.generated.colors import TIRE
from mdtdist.data.generated.finishes import Finish, plain
from mdtdist.data.generated.solids import Solid, around, pair
from mdtdist.data.generated.sweeps import cylinder, revolve, rod, torus


def wheel_pairs(
    width: float, radius: float, places: list[float], hub_finish: Finish, *, thickness: float = 0.22
) -> Parts:
    """Tyres with hubs, left and right of a body ``width`` wide, standing on z = 0 at several y."""
    line = [(0.5, 0.0), (1.0, 0.1), (1.0, 0.9), (0.5, 1.0), (0.5, 0.0)]
    tire = revolve(np.array(line) * [radius, thickness])
    hub = cylinder(0.55 * radius, 0.94 * thickness)
    x = width / 2 - 0.75 * thickness
    tires, hubs = (
        [image for y in places for image in pair(solid.turned("y", 90).moved(x, y, radius))] for solid in (tire, hub)
    )
    return coat(tires, plain(TIRE)) + coat(hubs, hub_finish)


def spoked_wheel(radius: float, *, spokes: int = 6, thickness: float = 0.018) -> list[Solid]:
    """A wheel around the x axis, around the origin."""
    inner = radius - thickness
    spoke = rod((0, 0, 0), (inner, 0, 0), 0.5 * thickness, sides=5)
    hub = cylinder(0.15 * radius, 3 * thickness, sides=10).moved(z=-1.5 * thickness)
    return [solid.turned("y", 90) for solid in (torus(inner, thickness, rings=6), hub, *around(spokes, spoke))]
