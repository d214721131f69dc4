"""Kernel distance: written out, unbiased, and blind to pairs within an object."""

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.kernel import KernelPairs


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
