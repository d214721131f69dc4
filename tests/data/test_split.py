import random
from collections import Counter
from pathlib import Path

from mdtdist.data.sources import Asset
from mdtdist.data.split import EXCLUDED_CATEGORIES, frozen_split, split_by_name


def _assets():
    names = [("Kitchen", f"thing {i // 3}") for i in range(120)] + [("Office", f"desk {i}") for i in range(40)]
    names += [("Office", "THING 0"), ("Office", "chair"), ("Kitchen", "Chair")]
    return [
        Asset(source_id=str(i), sha256=f"{i:064x}", path=Path("x"), name=name, category=category)
        for i, (category, name) in enumerate(names)
    ]


def test_a_name_never_falls_into_two_splits():
    assets = _assets()
    splits = split_by_name(assets)
    by_name = {}
    for asset in assets:
        by_name.setdefault(asset.name.casefold(), set()).add(splits[asset.sha256])
    assert all(len(found) == 1 for found in by_name.values())


def test_shares_and_order_independence():
    assets = _assets()
    splits = split_by_name(assets)
    counts = Counter(splits.values())
    assert len(splits) == len(assets)
    assert abs(counts["test"] - 17) <= 3 and abs(counts["val"] - 8) <= 3
    random.Random(0).shuffle(assets)
    assert split_by_name(assets) == splits


def test_every_category_is_tested():
    assets = _assets()
    splits = split_by_name(assets)
    assert {asset.category for asset in assets if splits[asset.sha256] == "test"} == {"Kitchen", "Office"}


def test_frozen_split_is_sound():
    entries = frozen_split().values()
    assert Counter(entry.split for entry in entries) == {"train": 642, "val": 37, "test": 81, "excluded": 60}
    assert len({entry.sha256 for entry in entries}) == 820
    used = [entry for entry in entries if entry.split != "excluded"]
    assert not {entry.category for entry in used} & set(EXCLUDED_CATEGORIES)
    names = {split: {e.name.casefold() for e in used if e.split == split} for split in ("train", "val", "test")}
    assert not names["train"] & names["val"] | names["train"] & names["test"] | names["val"] & names["test"]
