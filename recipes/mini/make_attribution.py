"""Write ``docs/models/mini-data.md``: whose objects the model ``mini`` was trained and measured on.

    python recipes/mini/make_attribution.py [--data runs/data] [--out docs/models/mini-data.md]

Counts come from ``metadata.csv`` of the prepared folder; the facts about the libraries were read in their licence
files by hand.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mdtdist.data import PreparedFolder
from mdtdist.data.files import whole_file
from mdtdist.data.split import SPLITS
from mdtdist.data.sweethome import FILE_NAME, SHA256

LICENSES = {
    "CC0-1.0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "CC-BY-3.0": ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
    "CC-BY-3.0-US": ("CC BY 3.0 US", "https://creativecommons.org/licenses/by/3.0/us/"),
}


@dataclass(frozen=True, kw_only=True)
class Library:
    """What a library's licence file says, in short."""

    title: str
    holder: str
    terms: str


LIBRARIES = {
    "BlendSwap-CC-0": Library(
        title="Blend Swap CC-0",
        holder="the authors below, through blendswap.com",
        terms="Any use, credit not required. The library is CC0; the files that came with `winchesterArmchair` and "
        "`winchesterSofa` (Gnanasaireddy) name CC BY 3.0 instead, so treat these two as CC BY 3.0.",
    ),
    "BlendSwap-CC-BY": Library(
        title="Blend Swap CC-BY",
        holder="the authors below, through blendswap.com",
        terms="Sharing, adapting and commercial use with credit to the author of each model. The file that came with "
        "`wire-coathanger` (Loopo) names CC0.",
    ),
    "KatorLegaz": Library(
        title="Kator Legaz catalog",
        holder="(C) 2003-2008 Andrew Kator & Jennifer Legaz",
        terms="Sharing and remixing with credit; the licence has to be named wherever the work is passed on.",
    ),
    "Reallusion": Library(
        title="Reallusion catalog",
        holder="(C) 2008-2016 Reallusion, reallusion.com",
        terms="Sharing and remixing with credit; the licence has to be named wherever the work is passed on.",
    ),
    "Scopia": Library(
        title="Scopia catalog",
        holder="(C) 2006-2020 Scopia Visual Interfaces Systems, s.l. (scopia.es); (C) 2014-2020 Emmanuel Puybaret / "
        "eTeks and Scopia for 265 models that its licence file lists",
        terms="Sharing, adapting and commercial use with credit to Emmanuel Puybaret / eTeks and Scopia Visual "
        "Interfaces Systems, s.l.",
    ),
}
TEXT = """\
# The data of `mini`: sources, creators, licences

`mini` was trained on {train} objects of the furniture libraries of [Sweet Home 3D](https://www.sweethome3d.com)
(Debian package `{package}`, sha256 `{sha256}`); {val} more served for validation and {test} as test objects. {excluded}
objects of the package were left out (doors, windows, stairs, flat sheets). Which object is in which set is frozen in
`src/mdtdist/data/sweethome_split.csv`.

We thank all creators below. What we did with their models: scaled them into the unit cube, turned them upright,
voxelised them, rendered views, computed image features, and trained networks on these. This repository holds no model
file of the libraries; it holds trained weights, pictures of test objects, and figures with views of some objects.
Nothing here suggests that a creator endorses this project.

This page is written by `recipes/mini/make_attribution.py` from `metadata.csv` of the prepared data.

## Libraries

| library | objects | train | val | test | licence | holder |
|---|---:|---:|---:|---:|---|---|
{libraries}

What their licence files ask for, in short (the files themselves come with the package):

{terms}

## Creators

Names as the catalogues give them.

| library | creator | objects | train | val | test | licence |
|---|---|---:|---:|---:|---:|---|
{creators}
"""


def write_page(data: PreparedFolder) -> str:
    """The whole page."""
    rows = [data.rows[sha] for sha in data.ids()]
    keys = sorted({(_library(row), row["creator"], row["license"]) for row in rows}, key=lambda key: str(key).lower())
    splits = Counter(row["split"] for row in rows)
    by_library, by_creator = [], []
    for name, library in LIBRARIES.items():
        inside = [row for row in rows if _library(row) == name]
        licenses = ", ".join(_link(license_id) for license_id in sorted({row["license"] for row in inside}))
        by_library.append([library.title, *_counts(inside), licenses, library.holder])
    for name, creator, license_id in keys:
        inside = [row for row in rows if (_library(row), row["creator"], row["license"]) == (name, creator, license_id)]
        by_creator.append([LIBRARIES[name].title, creator, *_counts(inside), LICENSES[license_id][0]])
    return TEXT.format(
        package=FILE_NAME,
        sha256=SHA256,
        excluded=sum(row["status"] == "excluded" for row in data.rows.values()),
        libraries=_table(by_library),
        terms="\n".join(f"- **{library.title}**: {library.terms}" for library in LIBRARIES.values()),
        creators=_table(by_creator),
        **{split: splits[split] for split in SPLITS},
    )


def _library(row: dict[str, str]) -> str:
    return row["source_id"].split("/")[0]


def _counts(rows: list[dict[str, str]]) -> list[int]:
    splits = Counter(row["split"] for row in rows)
    return [len(rows), *(splits[split] for split in SPLITS)]


def _link(license_id: str) -> str:
    title, address = LICENSES[license_id]
    return f"[{title}]({address})"


def _table(rows: list[list[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/models/mini-data.md"))
    args = parser.parse_args()
    page = write_page(PreparedFolder(args.data))
    with whole_file(args.out) as file:
        file.write(page.encode())
    print(args.out)


if __name__ == "__main__":
    main()
