"""Risk and coverage against all orders by brute force, against scikit-learn, and by hand."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import auc, precision_score

from wsss.method.risk_coverage import order_scores, risk_curve


def curve_of(risks):
    """Mean of each beginning, as a loop."""
    return [sum(risks[: k + 1]) / (k + 1) for k in range(len(risks))]


def test_equal_doubt_is_the_mean_over_all_its_orders():
    rng = np.random.default_rng(0)
    risks, doubts = rng.random(7), np.array([3, 1, 3, 2, 3, 1, 9])
    orders = [
        order
        for order in itertools.permutations(range(7))
        if all(doubts[a] <= doubts[b] for a, b in itertools.pairwise(order))
    ]
    assert len(orders) == math.factorial(3) * math.factorial(2)
    expected = np.mean([curve_of(risks[list(order)]) for order in orders], axis=0)
    np.testing.assert_allclose(risk_curve(risks, doubts), expected)


def test_for_right_and_wrong_it_is_one_minus_precision():
    """With risks of 0 and 1 the risk at a coverage is the share of errors among what is trusted."""
    rng = np.random.default_rng(1)
    right, doubts = rng.integers(0, 2, 40), rng.permutation(40)
    expected = [1 - precision_score(right, doubts < k) for k in range(1, 41)]
    np.testing.assert_allclose(risk_curve(1 - right, doubts), expected)


def test_the_area_is_the_one_under_the_curve():
    """The curve is drawn by many points here, between which the trapezoids of scikit-learn lie."""
    rng = np.random.default_rng(2)
    ious = rng.random(2000)
    doubts = 1 - ious + rng.normal(0, 0.3, 2000)
    curve = curve_of((1 - ious)[np.argsort(doubts)])
    scores = order_scores(ious, doubts)
    assert scores["area"] == pytest.approx(np.mean(curve))
    assert scores["area"] == pytest.approx(auc(np.linspace(0, 1, 2000), curve), abs=1e-3)
    assert scores["area_best"] < scores["area"] < scores["area_random"]


def test_random_and_best_are_the_mean_and_the_least_of_all_orders():
    ious = np.array([0.9, 0.2, 0.55, 0.7, 0.05, 0.61])
    areas = [np.mean(curve_of(1 - ious[list(o)])) for o in itertools.permutations(range(6))]
    scores = order_scores(ious, np.zeros(6))
    assert scores["area_random"] == pytest.approx(np.mean(areas))
    assert scores["area"] == pytest.approx(np.mean(areas))  # all of the same doubt
    assert scores["area_best"] == pytest.approx(min(areas))


def test_the_worst_tenth_by_hand():
    ious = np.linspace(0, 1, 21)  # 3 of 21
    scores = order_scores(ious, -ious)
    assert scores["worst_tenth"] == pytest.approx(0.05)
    assert scores["rest"] == pytest.approx(np.linspace(0.15, 1, 18).mean())
    assert order_scores(ious, ious)["worst_tenth"] == pytest.approx(0.95)


def test_none_and_one():
    assert all(math.isnan(score) for score in order_scores(np.empty(0), np.empty(0)).values())
    scores = order_scores(np.array([0.25]), np.array([0.5]))
    assert scores.pop("worst_tenth") == 0.25 and math.isnan(scores.pop("rest"))
    assert set(scores.values()) == {0.75}
