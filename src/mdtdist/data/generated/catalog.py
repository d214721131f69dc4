"""All families of generated objects, how often each is drawn, and one object from a number."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdtdist.data.generated.families import (
    abstract,
    animals,
    appliances,
    bathroom,
    composites,
    craft,
    electronics,
    garden,
    lamps,
    lounge,
    people,
    plants,
    seating,
    storage,
    structures,
    tables,
    tools,
    toys,
    trees,
    vehicles,
    vessels,
)
from mdtdist.data.normalize import fit_to_cube
from mdtdist.errors import InputError
from mdtdist.representations.triangles import TexturedTriangles

Family = Callable[[np.random.Generator], TexturedTriangles]

# Share of each family, in any unit. What furniture libraries hold most of comes most often; single shapes that vary
# little (a bicycle, a fish) come rarely.
_WEIGHTED: dict[str, tuple[float, Family]] = {
    "chair": (9, seating.chair),
    "stool": (4, seating.stool),
    "bench": (3, seating.bench),
    "office chair": (1.5, seating.office_chair),
    "deck chair": (1.5, seating.deck_chair),
    "papasan chair": (0.7, seating.papasan),
    "sofa": (4, lounge.sofa),
    "armchair": (4, lounge.armchair),
    "bed": (4, lounge.bed),
    "table": (8, tables.table),
    "desk": (4, tables.desk),
    "cabinet": (7, storage.cabinet),
    "shelf": (5, storage.shelf),
    "chest": (2, storage.chest),
    "picture frame": (1.5, storage.picture_frame),
    "lamp": (5, lamps.lamp),
    "desk lamp": (1.5, lamps.desk_lamp),
    "pendant lamp": (2, lamps.pendant),
    "lantern": (1.5, lamps.lantern),
    "vase": (3.5, vessels.vase),
    "cup": (2.5, vessels.cup),
    "bottle": (2.5, vessels.bottle),
    "bowl": (2, vessels.bowl),
    "jar": (1.5, vessels.jar),
    "pot": (1.5, vessels.pot),
    "candle": (1.5, vessels.candle),
    "goblet": (1.5, vessels.goblet),
    "potted plant": (6, plants.potted_plant),
    "flower box": (2, plants.flower_box),
    "tree": (3, trees.tree),
    "car": (3, vehicles.car),
    "truck": (2, vehicles.truck),
    "cart": (1.5, vehicles.cart),
    "bicycle": (1, vehicles.bicycle),
    "locomotive": (1, vehicles.locomotive),
    "boat": (1, craft.boat),
    "plane": (1.5, craft.plane),
    "person": (4, people.person),
    "animal": (3, animals.animal),
    "bird": (1.5, animals.bird),
    "fish": (0.7, animals.fish),
    "stuffed animal": (1, animals.teddy),
    "robot": (0.8, toys.robot),
    "turned figure": (1.5, toys.turned_figure),
    "ball game": (1, toys.ball_game),
    "building blocks": (1.5, toys.blocks),
    "appliance": (4, appliances.appliance),
    "screen": (2.5, electronics.screen),
    "loudspeaker": (1, electronics.speaker),
    "clock": (1.5, electronics.clock),
    "fan": (1, electronics.fan),
    "gadget": (2, electronics.gadget),
    "washbasin": (2, bathroom.washbasin),
    "toilet": (1.5, bathroom.toilet),
    "bathtub": (1.5, bathroom.bathtub),
    "radiator": (2, bathroom.radiator),
    "fence": (2, structures.fence),
    "column": (1, structures.column),
    "ladder": (1, structures.ladder),
    "umbrella": (1, structures.umbrella),
    "street sign": (1.5, structures.street_sign),
    "coat stand": (1.2, structures.coat_stand),
    "house": (2, garden.house),
    "playground": (1, garden.playground),
    "fountain": (1, garden.fountain),
    "tool": (2, tools.tool),
    "scissors": (0.5, tools.scissors),
    "pencils": (1, tools.pencils),
    "guitar": (0.7, tools.guitar),
    "drum": (1, tools.drum),
    "composition": (7, abstract.composition),
    "sculpture": (1.5, abstract.sculpture),
    "laid table": (4, composites.laid_table),
    "dining set": (2.5, composites.dining_set),
    "room corner": (4, composites.room_corner),
    "books": (1.5, composites.book_pile),
    "tray": (1.5, composites.tray),
}
FAMILIES: dict[str, Family] = {name: family for name, (_, family) in _WEIGHTED.items()}


@dataclass(frozen=True, kw_only=True)
class GeneratedObject:
    """One object made by a program.

    Attributes:
        name: its family, a key of ``FAMILIES``.
        triangles: upright in the unit cube, its front towards -Y.
    """

    name: str
    triangles: TexturedTriangles


def generate_object(seed: int) -> GeneratedObject:
    """The object of a seed: always the same, and unlike that of any other.

    Raises:
        InputError: if ``seed`` is negative.
    """
    if seed < 0:
        raise InputError(f"the seed of a generated object is {seed}; expected 0 or a positive integer.")
    rng = np.random.default_rng(seed)
    weights = np.array([weight for weight, _ in _WEIGHTED.values()])
    name = list(_WEIGHTED)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    return GeneratedObject(name=name, triangles=fit_to_cube(FAMILIES[name](rng)))
