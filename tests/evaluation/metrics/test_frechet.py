"""Frechet distance: closed forms, recorded numbers, and the short cut through inner products."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import sqrtm

from mdtdist.errors import InputError
from mdtdist.evaluation.metrics.frechet import FeatureGrams, fit_gaussian, frechet_distance, frechet_statistic
from tests.evaluation.metrics.torch_fidelity import TORCH_FIDELITY, independent_sets

RECORDED = Path(__file__).parents[1] / "data" / "frechet.npz"


def random_rotation(size: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(3).standard_normal((size, size)))[0]


def test_commuting_gaussians_have_the_closed_form():
    """``|m_a - m_b|^2 + sum (s_a - s_b)^2`` when the covariances share their axes."""
    axes, std_a, std_b = random_rotation(4), np.array([1.0, 2, 0.5, 0]), np.array([3.0, 0.5, 0.5, 1])
    mean_a, mean_b = np.array([1.0, 0, 2, 0]), np.array([0.0, 0, 2, 3])
    found = frechet_distance(mean_a, axes * std_a**2 @ axes.T, mean_b, axes * std_b**2 @ axes.T)
    assert found == pytest.approx(10 + 4 + 2.25 + 0 + 1, rel=1e-7)  # a variance of 0 costs half of the digits: 2e-9


def test_non_commuting_covariances_differ_from_the_commuting_bound():
    a, b = np.diag([4.0, 1.0]), random_rotation(2) @ np.diag([4.0, 1.0]) @ random_rotation(2).T
    root = np.linalg.eigvals(a @ b)
    found = frechet_distance(np.zeros(2), a, np.zeros(2), b)
    assert found == pytest.approx(10 - 2 * np.sqrt(root.real).sum(), rel=1e-10)
    assert found == pytest.approx(frechet_distance(np.zeros(2), b, np.zeros(2), a), rel=1e-10)


@pytest.mark.parametrize("names", [("a1", "a2", "frechet"), ("r1", "r2", "frechet_deficient")])
def test_matches_recorded_numbers(names):
    with np.load(RECORDED) as data:
        a, b, expected = (data[name] for name in names)
    found = frechet_distance(*fit_gaussian(a), *fit_gaussian(b))
    assert found == pytest.approx(float(expected), rel=1e-6)  # 1e-12 full rank, 4e-9 with fewer rows than channels


def test_inner_products_give_the_same_distance():
    generator = np.random.default_rng(0)
    for num_rows, channels in ((40, 6), (12, 30)):
        a = generator.standard_normal((num_rows, channels)) + 5
        b = 2 * generator.standard_normal((num_rows, channels)) - 1
        expected = frechet_distance(*fit_gaussian(a), *fit_gaussian(b))
        assert FeatureGrams.of(a, b).distance() == pytest.approx(expected, rel=1e-7)


def test_weights_count_the_rows_of_an_object():
    generator = np.random.default_rng(1)
    a, b = generator.standard_normal((2, 10, 4))
    b = 3 * b + 1
    weights = np.array([2.0, 0, 1, 1, 1])  # five objects with two rows each
    rows = np.repeat(np.arange(10), np.repeat(weights.astype(int), 2))
    expected = frechet_distance(*fit_gaussian(a[rows]), *fit_gaussian(b[rows]))
    assert FeatureGrams.of(a, b, views=2).distance(weights) == pytest.approx(expected, rel=1e-7)


def test_same_features_are_at_distance_zero():
    a = np.random.default_rng(2).standard_normal((8, 20))
    assert FeatureGrams.of(a, a).distance() == pytest.approx(0, abs=1e-7)


def test_rows_have_to_divide_into_objects():
    with pytest.raises(InputError, match="multiple of the views"):
        FeatureGrams.of(np.zeros((7, 3)), np.zeros((7, 3)), views=2)


@pytest.mark.parametrize("sizes", TORCH_FIDELITY)
def test_has_the_arithmetic_of_torch_fidelity(sizes):
    a, b = independent_sets(*sizes)
    expected = TORCH_FIDELITY[sizes][0]
    # Observed 1e-14 where the rows outnumber the channels, 3e-9 where not.
    is_full = min(sizes[:2]) > sizes[2]
    assert frechet_distance(*fit_gaussian(a), *fit_gaussian(b)) == pytest.approx(
        expected, rel=1e-11 if is_full else 1e-7
    )
    if sizes[0] == sizes[1]:
        assert FeatureGrams.of(a, b).distance() == pytest.approx(expected, rel=1e-11 if is_full else 1e-7)


@pytest.mark.parametrize("sizes", [(300, 300, 64), (200, 260, 48)])
def test_agrees_with_the_matrix_square_root_of_scipy(sizes):
    """The Schur root of the product, as pytorch-fid takes it."""
    a, b = independent_sets(*sizes)
    (mean_a, covariance_a), (mean_b, covariance_b) = fit_gaussian(a), fit_gaussian(b)
    root = sqrtm(covariance_a @ covariance_b)
    trace = np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.trace(root).real
    expected = (mean_a - mean_b) @ (mean_a - mean_b) + trace
    assert frechet_distance(mean_a, covariance_a, mean_b, covariance_b) == pytest.approx(expected, rel=1e-11)


def test_distance_of_samples_tends_to_that_of_their_gaussians():
    """N(0, 1) and N(m, s^2) per channel: ``D (m^2 + (1 - s)^2)``."""
    random = np.random.default_rng(4)
    a, b = random.standard_normal((40_000, 3)), 0.5 + 2 * random.standard_normal((40_000, 3))
    assert frechet_distance(*fit_gaussian(a), *fit_gaussian(b)) == pytest.approx(3 * (0.25 + 1), rel=0.02)


def test_fitted_covariance_is_unbiased():
    mean, covariance = fit_gaussian(np.array([[0.0, 0], [2, 4]], dtype=np.float32))
    assert mean.tolist() == [1, 2] and covariance.tolist() == [[2, 4], [4, 8]]  # over n - 1 = 1


def test_sets_of_two_sizes_are_refused_with_both():
    with pytest.raises(InputError, match=r"\(7, 3\) and \(8, 3\)"):
        FeatureGrams.of(np.zeros((7, 3)), np.zeros((8, 3)))


@pytest.mark.parametrize("weights", [None, np.array([2.0, 0, 1, 1, 3, 1])])
def test_many_rows_take_another_way_to_the_same_distance(weights):
    generator = np.random.default_rng(2)
    a, b = generator.standard_normal((2, 12, 4))
    found = frechet_statistic(a, 2 * b + 1, views=2)(weights)  # 12 rows, 4 channels: through covariances
    assert found == pytest.approx(FeatureGrams.of(a, 2 * b + 1, views=2).distance(weights), rel=1e-8)
    with pytest.raises(InputError, match="one shape"):
        frechet_statistic(a, b[:10], views=2)
