"""Intervals of means over cases."""

import numpy as np
import pytest

from inference.report.scoring import bootstrap_interval, mean_of_means

NAN = float("nan")


def test_mean_is_over_labels_of_means_over_cases() -> None:
    table = np.array([[0.2, 1.0, NAN], [0.4, NAN, NAN]])
    assert mean_of_means(table) == pytest.approx((0.3 + 1.0) / 2)
    assert np.isnan(mean_of_means(np.full((3, 2), NAN)))


def test_interval_agrees_with_the_normal_one_of_many_cases() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, (400, 1))
    interval = bootstrap_interval(values)
    expected = 1.96 * values.std() / np.sqrt(len(values))
    assert interval is not None
    assert interval.low == pytest.approx(values.mean() - expected, abs=0.1 * expected)
    assert interval.high == pytest.approx(values.mean() + expected, abs=0.1 * expected)


def test_interval_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).beta(8, 2, 25)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", random_state=1).confidence_interval
    assert bootstrap_interval(values[:, None]) == pytest.approx(tuple(theirs), abs=0.004)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    intervals = [bootstrap_interval(random.normal(0.5, 0.1, (30, 1)), seed) for seed in range(200)]
    covered = np.mean([interval is not None and interval.low < 0.5 < interval.high for interval in intervals])
    assert 0.88 < covered < 0.99


def test_labels_of_a_case_are_drawn_together() -> None:
    values = np.random.default_rng(2).random(40)
    together = bootstrap_interval(np.stack([values, 1 - values], axis=1))  # the mean of a case is always 0.5
    assert together == pytest.approx((0.5, 0.5))


def test_cases_without_a_score_change_nothing_and_few_have_no_interval() -> None:
    table = np.array([[0.2], [0.6], [0.7]])
    with_absent = np.array([[0.2], [NAN], [0.6], [0.7]])
    assert bootstrap_interval(with_absent) == bootstrap_interval(table) == bootstrap_interval(table)
    assert bootstrap_interval(table[:1]) is None and bootstrap_interval(np.full((5, 2), NAN)) is None
