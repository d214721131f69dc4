"""Write the bundles that ``small`` is trained on: Sweet Home objects, and objects made by programs.

    python recipes/small/make_bundle.py --out runs/small/bundles/objects.bundle [--package DEB] [--limit N]
    python recipes/small/make_bundle.py --generated 2400 --out runs/small/bundles/generated.bundle

Then ``mdtdist prepare runs/small/bundles --out runs/small/data --layout small``. The Sweet Home objects come with
their frozen split, creators and licences; without ``--package`` the Debian package is fetched with apt into ``source/``
beside the bundle, where its libraries are unpacked in either case. Generated objects are for training only.
"""

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from mdtdist.data.bundle import Packed, write_bundle
from mdtdist.data.generated import generate_object
from mdtdist.data.normalize import load_normalized
from mdtdist.data.sources import Asset, list_assets
from mdtdist.data.split import EXCLUDED, SPLITS, frozen_split
from mdtdist.data.sweethome import fetch_package
from mdtdist.representations.triangles import TexturedTriangles


def chosen_objects(package: Path | None, cache: Path, *, limit: int | None) -> list[Asset]:
    """Objects with their split, in catalogue order; with ``limit`` about as many, in proportion but one at least of
    each split, evenly spaced over the catalogue."""
    assets, split = list_assets(package or fetch_package(cache), cache=cache), frozen_split()
    placed = [replace(asset, metadata={"split": split[asset.source_id].split}) for asset in assets]
    usable = [asset for asset in placed if asset.metadata["split"] != EXCLUDED]
    if limit is None:
        return usable
    groups = [[asset for asset in usable if asset.metadata["split"] == name] for name in SPLITS]
    shares = [max(1, round(limit * len(group) / len(usable))) for group in groups]
    return [asset for group, n in zip(groups, shares, strict=True) for asset in group[:: len(group) // n][:n]]


def generated_objects(count: int) -> Iterator[tuple[Asset, TexturedTriangles]]:
    """Training objects of the seeds 0, 1, ...; they come turned as it happens, so one turn of each is enough."""
    for seed in tqdm(range(count), unit="object"):
        made = generate_object(seed)
        yield (
            Asset(
                source_id=f"generated/{seed}",
                sha256=hashlib.sha256(f"generated:{seed}".encode()).hexdigest(),
                path=Path(),
                name=made.name,
                category="generated",
                creator="mdtdist",
                license="CC0",
                metadata={"split": "train", "turns": 1},
            ),
            made.triangles,
        )


def models(assets: Sequence[Asset]) -> Iterator[tuple[Asset, TexturedTriangles]]:
    """Each object with its model, upright in the unit cube; a bar shows the time left."""
    for asset in tqdm(assets, unit="object"):
        yield asset, load_normalized(asset.path, rotation=asset.rotation)


def summary(packed: Sequence[Packed], out: Path) -> str:
    """Megabytes, and how many faces were kept."""
    size = out.stat().st_size
    kept, dropped = sum(item.num_faces for item in packed), sum(item.num_dropped for item in packed)
    return (
        f"{out}: {len(packed)} objects, {size / 1e6:.2f} MB, {size / len(packed) / 1e3:.1f} kB an object; "
        f"{kept:,} faces, {dropped:,} without area or twice there left out"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.bundle")
    parser.add_argument("--package", type=Path, metavar="DEB", help="of Sweet Home 3D, instead of fetching it")
    parser.add_argument("--generated", type=int, metavar="N", help="objects made by programs instead")
    parser.add_argument("--limit", type=int, metavar="N", help="only about so many objects")
    args = parser.parse_args()
    if args.generated is not None:
        objects = generated_objects(args.generated if args.limit is None else min(args.generated, args.limit))
    else:
        objects = models(chosen_objects(args.package, args.out.parent / "source", limit=args.limit))
    print(summary(write_bundle(args.out, objects), args.out))


if __name__ == "__main__":
    main()
