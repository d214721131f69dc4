"""Train, validation and test sets: by name within category, deterministic, and frozen for the shipped models."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from mdtdist.data.sources import Asset

SPLITS = ("train", "val", "test")
EXCLUDED = "excluded"
# Shares of the Sweet Home assets: 642 / 38 / 80 of 760.
TEST_SHARE, VAL_SHARE = 80 / 760, 38 / 760

EXCLUDED_CATEGORIES = ("Doors and windows", "Staircases")
MIN_FLATNESS = 0.02  # thinnest extent over longest; below it an object is a sheet
FROZEN_FILE = "sweethome_split.csv"


@dataclass(frozen=True, kw_only=True)
class FrozenEntry:
    """One line of the committed list; ``split`` may be ``excluded``."""

    source_id: str
    name: str
    category: str
    sha256: str
    split: str


def split_by_name(assets: Iterable[Asset]) -> dict[str, str]:
    """Split assets so that all that share a name (ignoring case) land in the same set.

    A name belongs to the category most of its assets have. Within a category the names are ordered by a hash and
    fill the test set up to its share, then the validation set; names with too many assets for the room that is left
    go to train.

    Returns:
        ``sha256 -> split``.
    """
    groups: dict[str, list[Asset]] = defaultdict(list)
    for asset in assets:
        groups[asset.name.casefold()].append(asset)
    by_category: dict[str, list[str]] = defaultdict(list)
    for name, members in groups.items():
        categories = sorted(member.category for member in members)
        by_category[max(sorted(set(categories)), key=categories.count)].append(name)
    result: dict[str, str] = {}
    for names in by_category.values():
        result |= _split_category({name: groups[name] for name in sorted(names, key=_name_hash)})
    return result


def frozen_split() -> dict[str, FrozenEntry]:
    """The committed split of the Sweet Home assets, by ``source_id``."""
    text = resources.files("mdtdist.data").joinpath(FROZEN_FILE).read_text(encoding="utf-8")
    return {row["source_id"]: FrozenEntry(**row) for row in csv.DictReader(text.splitlines())}


def _name_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _split_category(groups: dict[str, list[Asset]]) -> dict[str, str]:
    total = sum(len(members) for members in groups.values())
    room = {"test": round(TEST_SHARE * total), "val": round(VAL_SHARE * total)}
    result: dict[str, str] = {}
    for members in groups.values():
        split = next((name for name in ("test", "val") if len(members) <= room[name]), "train")
        if split != "train":
            room[split] -= len(members)
        result |= {member.sha256: split for member in members}
    return result
