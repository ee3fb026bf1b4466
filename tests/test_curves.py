"""Curves equal replay at every threshold, for every pattern."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import LEVELS, cases, table, tiers_of
from hypothesis import given
from hypothesis import strategies as st

from hybrid.curves import latency_quantiles, pareto_front, surface, sweep, with_threshold
from hybrid.errors import TierError
from hybrid.metrics import summarize
from hybrid.patterns import PATTERNS, Triage
from hybrid.routing import Policy, replay


def check(curve, i, policy, predictions, truth):
    s = summarize(replay(policy, predictions), truth)
    assert curve.accuracy[i] == pytest.approx(s.accuracy.value, abs=1e-12)
    assert curve.escalation_rate[i] == pytest.approx(s.escalation_rate.value, abs=1e-12)
    assert curve.cost_per_1000[i] == pytest.approx(s.cost_per_1000.value, abs=1e-9)
    low, high = curve.band()
    assert (low[i], high[i]) == pytest.approx((s.accuracy.low, s.accuracy.high), abs=1e-9)


@given(cases(), st.data(), st.sampled_from((*LEVELS, 0.1, 0.77, 0.999)))
def test_sweep_at_any_threshold_is_summarize_of_replay(case, data, threshold):
    policy, predictions, truth = case
    line = data.draw(st.sampled_from(policy.thresholds()))
    curve = sweep(policy, predictions, truth, name=line.name, index=line.index)
    moved = with_threshold(policy, line.name, line.index, threshold)
    check(curve, int(curve.at(threshold)), moved, predictions, truth)
    gauge = moved.pattern.gauge(predictions, line.name, line.index)
    assert curve.kept[curve.at(threshold)] == pytest.approx((gauge >= threshold).mean())


@given(cases(), st.data())
def test_latency_quantiles_are_those_of_replay(case, data):
    policy, predictions, truth = case
    line = data.draw(st.sampled_from(policy.thresholds()))
    at = np.array([0.0, 0.1, 0.5, 0.75, 0.9, 1.0])
    found = latency_quantiles(
        policy, predictions, truth, name=line.name, index=line.index, thresholds=at, q=(0.5, 0.95)
    )
    for i, threshold in enumerate(at):
        s = summarize(replay(with_threshold(policy, line.name, line.index, threshold), predictions), truth)
        assert found[:, i] == pytest.approx((s.latency_p50, s.latency_p95))


def test_many_latencies_have_no_quantiles_at_every_threshold():
    tiers = tiers_of(2)
    predictions = table(tiers, [[(0, 0.5), (1, 1.0)]] * 600)
    predictions.latency[:, 1] = np.arange(600)
    policy = Policy(Triage(0.6), tiers)
    truth = np.zeros(600, dtype=int)
    assert (
        latency_quantiles(policy, predictions, truth, name="threshold", index=None, thresholds=LEVELS, q=(0.5,)) is None
    )


@given(cases(names=("cascade", "router")), st.data())
def test_surface_is_summarize_of_replay_at_every_pair(case, data):
    policy, predictions, truth = case
    lines = policy.thresholds()
    if len(lines) < 2:
        return
    one, two = data.draw(st.permutations(lines))[:2]
    first, second = np.array([0.0, 0.5, 0.77, 1.0]), np.array([0.25, 0.8, 1.0])
    found = surface(policy, predictions, truth, axes=(one, two), first=first, second=second)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            moved = with_threshold(with_threshold(policy, one.name, one.index, a), two.name, two.index, b)
            s = summarize(replay(moved, predictions), truth)
            assert found.accuracy[j, i] == pytest.approx(s.accuracy.value)
            assert found.escalation_rate[j, i] == pytest.approx(s.escalation_rate.value)
            assert found.cost_per_1000[j, i] == pytest.approx(s.cost_per_1000.value)


@given(cases(names=("triage",)))
def test_the_ends_of_a_triage_curve_are_the_tiers_alone(case):
    policy, predictions, truth = case
    policy = replace(policy, pattern=replace(policy.pattern, by_class=()))  # a class of its own does not move along
    curve = sweep(policy, predictions, truth, name="threshold")
    right = predictions.label == truth[:, None]
    assert curve.accuracy[0] == pytest.approx(right[:, 0].mean())
    sure = predictions.confidence[:, 0] == 1  # kept even at 1
    assert curve.accuracy[-1] == pytest.approx(np.where(sure, right[:, 0], right[:, 1]).mean())
    assert (curve.escalation_rate[0], curve.escalation_rate[-1]) == (0, pytest.approx(1 - sure.mean()))


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
