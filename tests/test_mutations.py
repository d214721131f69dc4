"""The table of mutations is up to date; running them is left to ``python -m tests.mutations``."""

from pathlib import Path

import pytest

from mdtdist.objectives import OBJECTIVES
from tests.mutations import ROOMS, ROOT, mutations


@pytest.mark.parametrize("mutation", list(mutations()), ids=lambda mutation: f"{mutation.name}-{mutation.kind}")
def test_mutation_has_one_place(mutation):
    text = (ROOT / "src" / "mdtdist" / mutation.file).read_text()
    assert text.count(mutation.old) == 1, (
        f"{mutation.old!r} is no longer one place of {mutation.file}: update the table"
    )
    assert mutation.old != mutation.new


def test_every_method_is_broken_in_three_ways_or_more():
    files = {Path(loss.__code__.co_filename).name for o in OBJECTIVES.values() for loss in o.losses.values()}
    for name in files:
        assert len(ROOMS[f"objectives/{name}"].mutations) >= 3
    assert all((ROOT / test).exists() for room in ROOMS.values() for test in room.tests)
