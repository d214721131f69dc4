"""Coverage, matching distance and diversity of features that are placed by hand."""

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.metrics.diversity import coverage, diversity, minimum_matching_distance

REFERENCES = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])


def test_references_cover_themselves() -> None:
    assert coverage(REFERENCES, REFERENCES) == 1
    assert minimum_matching_distance(REFERENCES, REFERENCES) == 0


def test_collapse_covers_one_reference_only() -> None:
    collapsed = np.array([[1.1, 0.0]] * 4)
    assert coverage(collapsed, REFERENCES) == 0.25
    assert minimum_matching_distance(collapsed, REFERENCES) == pytest.approx((1.1 + 0.1 + 0.9 + 1.9) / 4)


def test_coverage_asks_which_reference_is_nearest_to_an_output() -> None:
    """Two of four outputs are nearest to one reference; every reference has a near output all the same."""
    outputs = np.array([[0.0, 0.0], [0.4, 0.0], [2.1, 0.0], [2.2, 0.0]])
    assert coverage(outputs, REFERENCES) == 0.5
    assert coverage(REFERENCES, outputs) == 1  # 0 to 0.0, 1 to 0.4, 2 to 2.1, 3 to 2.2
    assert minimum_matching_distance(outputs, REFERENCES) == pytest.approx((0 + 0.6 + 0.1 + 0.8) / 4)


def test_distant_features_keep_their_small_differences() -> None:
    """The same far from the origin, where the expanded square would cancel."""
    far = REFERENCES * 1e-3 + 1e5
    assert coverage(far, far) == 1
    assert minimum_matching_distance(far + [0, 1e-4], far) == pytest.approx(1e-4, rel=1e-3)


def test_diversity_is_the_mean_distance_of_pairs_of_seeds_per_object() -> None:
    first = np.zeros((3, 2))
    outputs = np.stack([first, first + [[0, 0], [3, 4], [1, 0]], first + [[0, 0], [3, 4], [-1, 0]]])
    # Pairs 01, 02, 12: object 0 always alike; object 1 5, 5, 0; object 2 1, 1, 2.
    np.testing.assert_allclose(diversity(outputs), [0, 10 / 3, 4 / 3])


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="two seeds or more"):
        diversity(np.zeros((1, 3, 2)))
    with pytest.raises(InputError, match="two seeds or more"):
        diversity(np.zeros((3, 2)))
    with pytest.raises(InputError, match="equally long"):
        coverage(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError, match="rows on both sides"):
        coverage(np.zeros((0, 3)), np.zeros((2, 3)))
