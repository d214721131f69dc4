"""Render the pictures of ``examples/`` from held-out test objects.

    python recipes/mini/make_examples.py [--data runs/data] [--out examples]

The choice looks at no result: in each of the six largest categories the first test object by ``source_id``, seen from
the front, 35 degrees to the side of its +x axis and 20 degrees above, 512 pixels, RGBA. Needs the folder that
``mdtdist prepare --source sweethome`` writes.
"""

import argparse
import math
import re
from collections import Counter
from pathlib import Path

from PIL import Image

from mdtdist.data import Asset, PreparedFolder, list_assets
from mdtdist.data.files import whole_file
from mdtdist.data.normalize import load_normalized
from mdtdist.data.views import fitting_radius
from mdtdist.render.cameras import orbit_camera
from mdtdist.render.ray_caster import RayCaster

NUM_CATEGORIES = 6
YAW, PITCH = math.radians(-55), math.radians(20)  # the front is yaw -90
SIZE, SUPERSAMPLING = 512, 3
LICENSES = {
    "CC0-1.0": "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)",
    "CC-BY-3.0": "[CC BY 3.0](https://creativecommons.org/licenses/by/3.0/)",
    "CC-BY-3.0-US": "[CC BY 3.0 US](https://creativecommons.org/licenses/by/3.0/us/)",
}
README = """\
# Example pictures

Six input pictures for `mdtdist generate` and `make demo`: RGBA, 512 pixels, transparent background. They show objects
of the **test** split, which no network of the model `mini` was trained on. They were chosen by a rule and not by how
well they come out: in each of the six largest categories of the data the first test object by its id, all seen
from the same direction. `recipes/mini/make_examples.py` renders them.

| picture | object | category | creator | library | licence |
|---|---|---|---|---|---|
{rows}

The objects come from the furniture libraries of [Sweet Home 3D](https://www.sweethome3d.com), which name creator and
licence of each. Changes: scaled to the unit cube and rendered with our own shading.
"""


def choose(data: PreparedFolder) -> list[str]:
    """The first test object by source id in each of the largest categories, largest first."""
    rows = [data.rows[sha] for sha in data.ids()]
    counts = Counter(row["category"] for row in rows)
    largest = sorted(counts, key=lambda category: (-counts[category], category))[:NUM_CATEGORIES]
    tests = [row for row in rows if row["split"] == "test"]
    first = [
        min((row for row in tests if row["category"] == name), key=lambda row: row["source_id"]) for name in largest
    ]
    return [row["sha256"] for row in first]


def render(asset: Asset) -> Image.Image:
    """The object from the direction all examples share."""
    triangles = load_normalized(asset.path, rotation=asset.rotation)
    camera = orbit_camera(YAW, PITCH, radius=fitting_radius(triangles))
    return Image.fromarray(RayCaster(triangles).render(camera, size=SIZE, supersampling=SUPERSAMPLING).rgba)


def file_name(name: str) -> str:
    """``Stone lantern`` -> ``stone_lantern.png``."""
    stem = re.sub(r"[^a-z0-9]+", "_", name.encode("ascii", "ignore").decode().lower()).strip("_")
    return f"{stem}.png"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, default=Path("examples"))
    args = parser.parse_args()
    source = args.data / "source"
    assets = {asset.sha256: asset for asset in list_assets(source, cache=source)}
    chosen = [assets[sha] for sha in choose(PreparedFolder(args.data))]
    rows = []
    for asset in chosen:
        name = file_name(asset.name)
        with whole_file(args.out / name) as file:
            render(asset).save(file, format="PNG", optimize=True)
        library = asset.source_id.split("/")[0]
        cells = (f"`{name}`", asset.name, asset.category, asset.creator, library, LICENSES[asset.license])
        rows.append(f"| {' | '.join(cells)} |")
        print(args.out / name)
    text = README.format(rows="\n".join(rows))
    with whole_file(args.out / "README.md") as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
