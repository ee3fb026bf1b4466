"""Curves equal replay at every threshold, for every pattern."""

import numpy as np
import pytest
from conftest import LEVELS, cases, table, tiers_of
from hypothesis import given
from hypothesis import strategies as st

from hybrid.curves import pareto_front, sweep, with_threshold
from hybrid.errors import TierError
from hybrid.metrics import summarize
from hybrid.patterns import PATTERNS, Cascade, Triage
from hybrid.routing import Policy, replay


def check(curve, i, policy, predictions, truth):
    s = summarize(replay(policy, predictions), truth)
    assert curve.accuracy[i] == pytest.approx(s.accuracy.value, abs=1e-12)
    assert curve.escalation_rate[i] == pytest.approx(s.escalation_rate.value, abs=1e-12)
    assert curve.cost_per_1000[i] == pytest.approx(s.cost_per_1000.value, abs=1e-9)
    low, high = curve.band()
    assert (low[i], high[i]) == pytest.approx((s.accuracy.low, s.accuracy.high), abs=1e-9)


@given(cases(names=("triage",)), st.sampled_from((*LEVELS, 0.1, 0.77, 0.999)))
def test_triage_sweep_at_any_threshold_is_summarize_of_replay(case, threshold):
    policy, predictions, truth = case
    curve = sweep(policy, predictions, truth, name="threshold")
    assert curve.exact
    check(curve, curve.at(threshold), with_threshold(policy, "threshold", None, threshold), predictions, truth)


@given(cases(), st.data())
def test_sweep_of_every_pattern_is_summarize_of_replay(case, data):
    policy, predictions, truth = case
    line = data.draw(st.sampled_from(policy.thresholds()))
    curve = sweep(policy, predictions, truth, name=line.name, index=line.index, grid=LEVELS)
    threshold = data.draw(st.sampled_from(LEVELS))
    moved = with_threshold(policy, line.name, line.index, threshold)
    check(curve, curve.at(threshold), moved, predictions, truth)


@given(cases(names=("triage",)))
def test_the_ends_of_a_triage_curve_are_the_tiers_alone(case):
    policy, predictions, truth = case
    curve = sweep(policy, predictions, truth, name="threshold")
    right = predictions.label == truth[:, None]
    assert curve.accuracy[0] == pytest.approx(right[:, 0].mean())
    assert curve.accuracy[-1] == pytest.approx(right[:, 1].mean())
    assert (curve.escalation_rate[0], curve.escalation_rate[-1]) == (0, 1)


def test_a_grid_holds_the_policys_own_threshold_and_refuses_others():
    tiers = tiers_of(3)
    predictions = table(tiers, [[(0, 0.3), (1, 0.6), (2, 1.0)]] * 3)
    policy = Policy(Cascade((0.12345, 0.5)), tiers)
    curve = sweep(policy, predictions, np.zeros(3, dtype=int), name="thresholds", index=0)
    assert curve.threshold[curve.at(0.12345)] == 0.12345
    with pytest.raises(TierError, match="not on the grid"):
        curve.at(0.54321)


def test_thinning_keeps_the_ends():
    tiers = tiers_of(2)
    rows = [[(0, c), (1, 1.0)] for c in np.linspace(0, 0.9, 50)]
    curve = sweep(Policy(Triage(0.5), tiers), table(tiers, rows), np.zeros(50, dtype=int), name="threshold")
    thin = curve.thin(7)
    assert len(thin.threshold) == 7
    assert (thin.threshold[0], thin.threshold[-1]) == (curve.threshold[0], curve.threshold[-1])


def test_a_curve_of_no_rows_is_an_error():
    tiers = tiers_of(2)
    empty = table(tiers, [[(0, 0.5), (1, 1.0)]]).take(np.array([], dtype=int))
    with pytest.raises(TierError, match="no row"):
        sweep(Policy(Triage(0.5), tiers), empty, np.array([], dtype=int), name="threshold")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_pareto_front_is_what_no_other_point_beats(points):
    cost, accuracy = np.array(points, dtype=float).T
    brute = [not any((c <= x and a > y) or (c < x and a >= y) for c, a in points) for x, y in points]
    assert pareto_front(cost, accuracy).tolist() == brute


def test_every_pattern_has_a_threshold_to_draw():
    for name, kind in PATTERNS.items():
        assert any(p.threshold for p in kind.params()), name
