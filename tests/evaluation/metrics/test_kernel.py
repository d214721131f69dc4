"""Kernel distance: written out, unbiased, and blind to pairs within an object."""

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.metrics import kernel
from mdtdist.evaluation.metrics.kernel import (
    KernelPairs,
    cubic_kernel,
    draw_subsets,
    kernel_distance,
    subset_kernel_distance,
)
from tests.evaluation.metrics.torch_fidelity import TORCH_FIDELITY, independent_sets


def k(x: np.ndarray, y: np.ndarray) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def test_equals_the_written_out_sum_over_pairs_of_objects():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 2, 4)) + 1
    terms = []
    for i in range(3):
        for j in range(3):
            if i != j:
                for v in range(2):
                    for w in range(2):
                        same = k(a[i, v], a[j, w]) + k(b[i, v], b[j, w])
                        terms.append(same - k(a[i, v], b[j, w]) - k(b[i, v], a[j, w]))
    found = KernelPairs.of(a.reshape(6, 4), b.reshape(6, 4), views=2).distance()
    assert found == pytest.approx(np.mean(terms), rel=1e-12)


def test_constant_features_have_the_closed_form():
    a, b = np.zeros((5, 2)), np.full((5, 2), 1.0)
    assert KernelPairs.of(a, b).distance() == pytest.approx(1 + 8 - 2)  # k(0,0) = 1, k(1,1) = 2^3, k(0,1) = 1


def test_is_unbiased_where_the_frechet_distance_is_not():
    rng = np.random.default_rng(1)
    found = [KernelPairs.of(*rng.standard_normal((2, 10, 6))).distance() for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20


def test_weights_count_objects_but_not_copies_with_themselves():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 4, 3))
    pairs = KernelPairs.of(a, b)
    keep = np.array([0, 1, 3])
    assert pairs.distance(np.array([1, 1, 0, 1])) == pytest.approx(KernelPairs.of(a[keep], b[keep]).distance())
    doubled = pairs.distance(np.array([2, 1, 0, 0]))
    assert doubled == pytest.approx(pairs.pairs[0, 1])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="at least two objects"):
        KernelPairs.of(np.zeros((4, 2)), np.zeros((4, 2)), views=4)
    with pytest.raises(InputError, match="one shape"):
        KernelPairs.of(np.zeros((4, 2)), np.zeros((5, 2)))


def test_full_estimate_is_the_written_out_sum_at_unequal_counts():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((6, 3)) + 1
    within = [np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b)]
    expected = sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(b, a) == pytest.approx(expected, rel=1e-12)


def test_full_estimate_is_unbiased():
    """Exactly 0 on average for one distribution at unequal counts, and the true value for two.

    With x = +-1 and y = +-1 + m in one channel, ``E k(x, x')`` is the mean over the signs.
    """
    rng = np.random.default_rng(5)
    signs, shift = (-1.0, 1.0), 0.5

    def expected(p: float, q: float) -> float:
        return np.mean([((x + p) * (y + q) + 1) ** 3 for x in signs for y in signs])

    truth = expected(0, 0) + expected(shift, shift) - 2 * expected(0, shift)
    for offset, value in ((0.0, 0.0), (shift, truth)):
        draws = [kernel_distance(rng.choice(signs, (5, 1)), rng.choice(signs, (8, 1)) + offset) for _ in range(800)]
        assert abs(np.mean(draws) - value) < 3 * np.std(draws) / 800**0.5
        assert min(draws) < 0 or offset


@pytest.mark.parametrize("sizes", TORCH_FIDELITY)
def test_subsets_have_the_arithmetic_of_torch_fidelity(sizes):
    found = subset_kernel_distance(*independent_sets(*sizes), num_subsets=100, size=50)
    _, mean, std = TORCH_FIDELITY[sizes]
    assert (found.mean, found.std) == (pytest.approx(mean, rel=1e-10), pytest.approx(std, rel=1e-9))


@pytest.mark.slow
def test_default_subsets_are_those_of_torch_fidelity():
    found = subset_kernel_distance(*independent_sets(1100, 1200, 16))  # 100 subsets of 1000; 8 s
    assert found.mean == pytest.approx(0.9303153085224983, rel=1e-9)
    assert found.std == pytest.approx(0.026745102737332098, rel=1e-7)


def test_subsets_are_drawn_without_replacement_and_in_turns():
    first, second = draw_subsets(20, 30, num_subsets=3, size=10)
    assert first.shape == second.shape == (3, 10) and second.max() > 20
    assert all(len(set(row)) == 10 for row in (*first, *second))
    random = np.random.RandomState(2020)
    for i, j in zip(first, second, strict=True):
        assert np.array_equal(i, random.choice(20, 10, replace=False))
        assert np.array_equal(j, random.choice(30, 10, replace=False))


def test_the_whole_set_as_one_subset_is_the_full_estimate():
    a, b = independent_sets(40, 40, 8)
    found = subset_kernel_distance(a, b, num_subsets=2, size=40)
    assert found.values == pytest.approx([kernel_distance(a, b)] * 2) and found.std == pytest.approx(0, abs=1e-12)


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(InputError, match=r"\(5, 2\) and \(5, 3\)"):
        kernel_distance(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(InputError, match="1000 rows or more"):
        subset_kernel_distance(np.zeros((2000, 2)), np.zeros((999, 2)))
    with pytest.raises(InputError, match="2 rows or more"):
        kernel_distance(np.zeros((1, 2)), np.zeros((5, 2)))


def test_rows_beyond_one_block_count_too():
    a, b = independent_sets(1030, 1200, 2)
    full = [cubic_kernel(x, x) for x in (a, b)]
    within = sum((values.sum() - np.trace(values)) / (len(values) * (len(values) - 1)) for values in full)
    assert kernel_distance(a, b) == pytest.approx(within - 2 * cubic_kernel(a, b).mean(), rel=1e-10)


def test_pairs_do_not_depend_on_the_size_of_the_blocks(monkeypatch):
    generator = np.random.default_rng(5)
    a, b = generator.standard_normal((2, 14, 3))
    whole = KernelPairs.of(a, b, views=2).pairs
    monkeypatch.setattr(kernel, "_ROWS", 5)  # two objects a block, one in the last
    assert np.allclose(KernelPairs.of(a, b, views=2).pairs, whole, rtol=1e-12)
    within = sum(cubic_kernel(x[0:2], x[6:8]).mean() for x in (a, b))
    across = cubic_kernel(a[0:2], b[6:8]).mean() + cubic_kernel(a[6:8], b[0:2]).mean()
    assert whole[0, 3] == pytest.approx(within - across)


def test_copies_of_an_object_make_no_pair():
    a, b = np.random.default_rng(6).standard_normal((2, 8, 3))
    pairs = KernelPairs.of(a, b, views=2)
    weights = np.array([2.0, 1.0, 0.0, 3.0])
    products = np.outer(weights, weights)
    np.fill_diagonal(products, 0)
    assert pairs.distance(weights) == pytest.approx((products * pairs.pairs).sum() / products.sum(), rel=1e-12)
