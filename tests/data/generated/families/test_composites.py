import numpy as np

from mdtdist.data.generated.assembly import extent
from mdtdist.data.generated.families.composites import book_pile, dining_set


def test_piles_of_books_stand_on_the_floor():
    for seed in range(8):
        model = book_pile(np.random.default_rng(seed))
        assert abs(float(extent(model)[0][2])) < 1e-9


def test_sets_keep_their_table_and_leave_out_what_is_too_much():
    counts = [len(dining_set(np.random.default_rng(seed)).faces) for seed in range(12)]
    assert max(counts) <= 5500
    assert max(counts) > 2000  # and not always the table alone
