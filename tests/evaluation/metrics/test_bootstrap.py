"""Bootstrap intervals: width, coverage, pairing."""

import numpy as np
import pytest

from mdtdist.evaluation.metrics.bootstrap import (
    bootstrap_mean,
    bootstrap_median,
    bootstrap_statistic,
    percentile_interval,
    resample_counts,
)


def test_counts_are_draws_with_replacement_and_repeat_with_the_seed():
    counts = resample_counts(7, num_resamples=50, seed=4)
    assert counts.shape == (50, 7) and (counts.sum(1) == 7).all() and counts.max() > 1
    assert (counts == resample_counts(7, num_resamples=50, seed=4)).all()
    assert (counts != resample_counts(7, num_resamples=50, seed=5)).any()


def test_mean_interval_has_the_width_of_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    assert interval.low < interval.value < interval.high


def test_mean_interval_covers_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(1)
    intervals = [bootstrap_mean(generator.normal(size=60), num_resamples=400) for _ in range(200)]
    covered = sum(interval.low <= 0 <= interval.high for interval in intervals)
    assert 0.89 <= covered / 200 <= 0.99  # observed 0.94; two standard errors are 0.03


def test_median_of_constant_values_has_no_width():
    interval = bootstrap_median(np.full(9, 2.5), num_resamples=50)
    assert (interval.low, interval.value, interval.high) == (2.5, 2.5, 2.5)


def test_median_interval_lies_around_the_median():
    values = np.random.default_rng(2).exponential(size=101)
    interval = bootstrap_median(values)
    assert interval.value == np.median(values)
    assert interval.low < interval.value < interval.high < values.mean() * 1.2


def test_a_statistic_is_centred_on_its_value():
    values = np.random.default_rng(3).normal(size=50)
    plain = bootstrap_mean(values, num_resamples=400)
    found = bootstrap_statistic(lambda weights: float(weights @ values / 50) + 0.0, 50, num_resamples=400)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.02)

    def biased(weights: np.ndarray) -> float:  # 0 for the sample itself, positive for every resample
        return float(((weights - 1) ** 2).mean())

    interval = bootstrap_statistic(biased, 50, num_resamples=200)
    assert interval.low < 0 == interval.value < interval.high


def test_percentiles():
    interval = percentile_interval(1.0, np.arange(101.0), level=0.9)
    assert (interval.low, interval.high) == pytest.approx((5, 95))
