"""Known answers: Goldstein measure, intervals, paired tests, the bound of a bias."""

import numpy as np
import pytest

from hmpc_ros.learning.goldstein import goldstein, least_norm
from hmpc_ros.studies.mismatch_pieces import compared, contraction
from hmpc_ros.studies.mismatch_summary import best_trusts, foretold_ratio
from hmpc_ros.studies.statistics import bias_bound, holm, interval, paired


def test_the_least_norm_point_of_a_hull_is_found():
    square = np.array([[1.0, 1.0], [1.0, -1.0], [3.0, 0.5]])
    np.testing.assert_allclose(least_norm(square), [1.0, 0.0], atol=1e-12)
    around = np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_allclose(least_norm(around), 0.0, atol=1e-12)
    np.testing.assert_allclose(least_norm(1e6 * np.array([[3.0, 4.0]])), [3e6, 4e6])
    np.testing.assert_array_equal(least_norm(np.zeros((2, 3))), np.zeros(3))


def test_at_a_kink_the_goldstein_measure_vanishes_though_no_gradient_does():
    def slope(x):
        return np.array([np.sign(x[0]), 2 * x[1]])  # of |x| + y^2

    rng = np.random.default_rng(0)
    assert goldstein(np.array([0.003, 0.0]), slope, 0.01, 20, rng) < 0.02
    away = goldstein(np.array([0.5, 0.0]), slope, 0.01, 20, rng)
    assert away == pytest.approx(1.0, abs=1e-3)
    assert goldstein(np.zeros(2), lambda _: None, 0.01, 5, rng) is None


def test_gradients_of_a_quadratic_are_compared_by_length_and_angle():
    x = np.array([1.0, 2.0])
    true, model = 2 * x, np.array([2.0, 1.0]) * 2  # of |x|^2, and of one with its axes swapped
    found = compared(model, true)
    assert found['cosine'] == pytest.approx(0.8)
    assert found['model'] == found['true'] == pytest.approx(2 * np.sqrt(5))
    assert found['bias'] == pytest.approx(np.sqrt(8))


def test_holm_adjusts_in_steps_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_pairs_are_compared_by_ranks():
    # all of 8 differences on one side: 2 of the 2^8 assignments of signs are as far out
    assert paired(range(8), np.arange(8) + np.arange(1, 9)) == pytest.approx(2 / 2**8)
    assert paired([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert paired([np.inf] * 3, [np.inf] * 3) == 1.0


def test_intervals_hold_the_statistic_and_may_be_unbounded():
    low, high = interval(np.arange(100.0))
    assert 35 < low < 49.5 < high < 65
    assert interval([3.0, 3.0]) == (3.0, 3.0)
    assert interval([1.0, 2.0, np.inf, np.inf])[1] == np.inf
    with pytest.raises(ValueError, match='needs a value'):
        interval([])


def test_the_tightest_bound_of_a_bias_holds_everywhere_and_is_found_again():
    g = np.array([0.0, 1.0, 5.0, 20.0, 7.0])
    error = np.sqrt(0.3 * g**2 + 4.0)
    error[-1] *= 0.5  # below the bound
    m, zeta = bias_bound(g, error)
    assert m == pytest.approx(0.3, rel=1e-6)
    assert zeta == pytest.approx(2.0, rel=1e-6)
    assert bias_bound([1.0], [0.0]) == (0.0, 0.0)


def test_bias_and_variance_foretell_the_hybrid():
    n = 94
    at = {'true': 1.0, 'trust': 0.5, 'step': 1.0}
    no_bias, break_even = {**at, 'bias': 0.0}, {**at, 'bias': np.sqrt(3 * (n - 1))}
    assert foretold_ratio([no_bias]) == pytest.approx(0.25)
    assert foretold_ratio([break_even]) == pytest.approx(1.0)  # |bias|^2 = V (2 - eta) / eta
    assert best_trusts([no_bias, break_even]) == pytest.approx((1.0, 0.25))
    assert foretold_ratio([]) is None


def test_a_loop_that_doubles_and_one_that_forgets():
    assert contraction(np.tile(np.diag([0.5, 0.9]), (30, 1, 1))) == pytest.approx(0.9)
    grows = np.tile(np.diag([0.5, 0.9]), (30, 1, 1))
    grows[10:20] *= 2
    assert contraction(grows, window=5) == pytest.approx(1.8)
