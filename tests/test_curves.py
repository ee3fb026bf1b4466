"""Curves equal replay at every threshold, for every pattern."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import LEVELS, cases, groupings, table, tiers_of
from hypothesis import given
from hypothesis import strategies as st
from test_tally import many, tally_of

from hybrid.errors import TierError
from hybrid.metrics import flips
from hybrid.metrics import surface as surfaces
from hybrid.metrics.curve import Order, latency_quantiles, pareto_front, surface, sweep, with_threshold
from hybrid.metrics.flips import Chain, Sum
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.summary import summarize
from hybrid.routing.engine import OUT_OF_SCOPE, Policy, Threshold, replay
from hybrid.routing.patterns import PATTERNS, Cascade, Ensemble, Triage
from hybrid.routing.table import NEVER


def check(curve, i, policy, predictions, truth, groups=None):
    s = summarize(replay(policy, predictions), truth, groups=groups)
    assert curve.accuracy[i] == pytest.approx(s.accuracy.value, abs=1e-12)
    assert curve.escalation_rate[i] == pytest.approx(s.escalation_rate.value, abs=1e-12)
    assert curve.cost_per_1000[i] == pytest.approx(s.cost_per_1000.value, abs=1e-9)
    low, high = curve.band()
    assert (low[i], high[i]) == pytest.approx((s.accuracy.low, s.accuracy.high), abs=1e-9)
    low, high = curve.escalation_band()
    assert (low[i], high[i]) == pytest.approx((s.escalation_rate.low, s.escalation_rate.high), abs=1e-9)


@given(cases(), st.data(), st.sampled_from((*LEVELS, 0.1, 0.77, 0.999)))
def test_sweep_at_any_threshold_is_summarize_of_replay(case, data, threshold):
    policy, predictions, truth = case
    lines = (
        policy.thresholds() if policy.scope is None else (*policy.thresholds(), Threshold(OUT_OF_SCOPE, None, "", 0))
    )
    line, groups = data.draw(st.sampled_from(lines)), data.draw(groupings(len(truth)))
    curve = sweep(policy, predictions, truth, name=line.name, index=line.index, groups=groups)
    moved = with_threshold(policy, line.name, line.index, threshold)
    check(curve, int(curve.at(threshold)), moved, predictions, truth, groups)
    gauge = moved.gauge(predictions, line.name, line.index)
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
    groups = data.draw(groupings(len(truth)))
    found = surface(policy, predictions, truth, axes=(one, two), first=first, second=second, groups=groups)
    (low, high), (least, most) = found.band(), found.escalation_band()
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            moved = with_threshold(with_threshold(policy, one.name, one.index, a), two.name, two.index, b)
            s = summarize(replay(moved, predictions), truth, groups=groups)
            right, last = s.accuracy, s.escalation_rate
            assert (found.accuracy[j, i], low[j, i], high[j, i]) == pytest.approx((right.value, right.low, right.high))
            assert found.escalation_rate[j, i] == pytest.approx(last.value)
            assert (least[j, i], most[j, i]) == pytest.approx((last.low, last.high))
            assert found.cost_per_1000[j, i] == pytest.approx(s.cost_per_1000.value)


@given(cases(names=("triage",), scoped=False))
def test_the_ends_of_a_triage_curve_are_the_tiers_alone(case):
    policy, predictions, truth = case
    policy = replace(policy, pattern=replace(policy.pattern, by_class=()))  # a class of its own does not move along
    curve = sweep(policy, predictions, truth, name="threshold")
    right = predictions.label == truth[:, None]
    assert curve.accuracy[0] == pytest.approx(right[:, 0].mean())
    assert curve.accuracy[-1] == pytest.approx(right[:, 1].mean())  # a confidence of 1 is passed on, too
    assert (curve.escalation_rate[0], curve.escalation_rate[-1]) == (0, 1)


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


def value(metric: Sum, n):
    """Return a metric of every row, kept and passed on."""
    kept = np.broadcast_to(np.asarray(metric.kept, dtype=float), n)
    return np.stack([kept, kept + metric.change])


@given(cases(names=("triage", "cascade"), scoped=False), st.data())
def test_what_is_read_off_the_columns_is_what_two_replays_say(case, data):
    policy, predictions, truth = case
    predictions = replace(predictions, confidence=np.where(predictions.label < 0, 0.9, predictions.confidence))
    if data.draw(st.booleans()):
        predictions.cost[:], predictions.latency[:] = 0.25, 0.5
    line = data.draw(st.sampled_from(policy.thresholds()))
    fast = flips.flips(policy, predictions, truth, name=line.name, index=line.index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flips, "chain_thresholds", lambda pattern: None)
        slow = flips.flips(policy, predictions, truth, name=line.name, index=line.index)
    np.testing.assert_array_equal(fast.gauge, slow.gauge)
    np.testing.assert_array_equal(fast.kept, slow.kept)
    can = fast.gauge < 1  # a row at 1 is passed on at no threshold
    np.testing.assert_array_equal(fast.passed[can], slow.passed[can])
    for metric in ("right", "last", "cost", "latency"):
        a, b = (value(getattr(f, metric), len(truth)) for f in (fast, slow))
        np.testing.assert_allclose(a[:, can], b[:, can], atol=1e-12)
        np.testing.assert_allclose(a[0], b[0], atol=1e-12)


def test_an_answer_that_is_missing_or_out_of_range_is_told_by_the_replay():
    tiers = tiers_of(2)
    policy, truth = Policy(Triage(0.6), tiers), np.zeros(2, dtype=int)
    odd = {"confidence": (1.5, -0.5, np.nan), "cost": (-1.0, np.inf, np.nan), "latency": (-0.1, np.inf, np.nan)}
    for field, bad in ((field, bad) for field, values in odd.items() for bad in values):
        predictions = table(tiers, [[(0, 0.5), (0, 1.0)], [(0, 0.5), (0, 1.0)]])
        getattr(predictions, field)[1, 1] = bad
        assert Chain.of(policy, predictions, truth) is None
        with pytest.raises(TierError, match="Row 2"):
            sweep(policy, predictions, truth, name="threshold")


@pytest.mark.parametrize("kind", ["nine decimals", "single", "double"])
def test_rows_are_sorted_whatever_their_confidences_are_made_of(kind):
    gauge = np.random.default_rng(0).random(5_000) ** 0.2
    gauge = {"nine decimals": np.round(gauge, 9), "single": gauge.astype(np.float32).astype(float), "double": gauge}[
        kind
    ]
    gauge[:100], gauge[100:200], gauge[200:300] = 0.5, 1.0, 0.0
    order = Order.of(gauge)
    assert (np.sort(order.rows) == np.arange(5_000)).all()
    assert (np.diff(gauge[order.rows]) >= 0).all()
    np.testing.assert_array_equal(order.threshold, np.append(np.unique(gauge), NEVER))
    np.testing.assert_array_equal(order.below, [(gauge < t).sum() for t in order.threshold])


@given(cases(names=("triage",), scoped=False), st.randoms())
def test_the_order_of_some_rows_needs_no_sort(case, random):
    policy, predictions, truth = case
    kept = np.array([random.random() < 0.7 for _ in truth])
    if not kept.any():
        return
    gauge = predictions.confidence[:, 0]
    part = predictions.take(kept)
    sorted_before = sweep(policy, part, truth[kept], name="threshold", order=Order.of(gauge).take(kept, gauge))
    fresh = sweep(policy, part, truth[kept], name="threshold")
    np.testing.assert_array_equal(sorted_before.threshold, fresh.threshold)
    np.testing.assert_allclose(sorted_before.accuracy, fresh.accuracy)
    np.testing.assert_allclose(sorted_before.cost_per_1000, fresh.cost_per_1000)


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 200, 1000])
def test_how_many_rows_are_looked_at_at_a_time_makes_no_difference(monkeypatch, rows_at_a_time):
    predictions, truth = many(200, 3, seed=4)
    confidence = np.round(predictions.confidence, 2)  # ties across the borders of the parts
    label = np.where(predictions.label == 2, -1, predictions.label)
    truth = np.minimum(truth, 1)  # a class that is said, and never true
    predictions = replace(predictions, confidence=confidence, label=np.where(label == 1, 2, label))
    two = Policy(Triage(0.5), predictions.tiers[:2])
    three = Policy(Cascade((0.5, 0.5)), predictions.tiers)
    lines = three.thresholds()
    edges = np.linspace(0, 1, 21)

    def everything():
        curves = sweep(two, predictions, truth, name="threshold")
        over_both = surface(three, predictions, truth, axes=(lines[0], lines[1]), first=edges, second=edges)
        votes = replay(Policy(Ensemble("cost_aware"), predictions.tiers), predictions)
        sums = tally_of(two, predictions, truth, lattice=Lattice(2, 2))
        return [
            *(getattr(curves, f) for f in ("threshold", "accuracy", "escalation_rate", "cost_per_1000", "kept")),
            *(over_both.accuracy, over_both.escalation_rate, over_both.cost_per_1000),
            *(votes.label, votes.tier, votes.confidence),
            *(sums.right, *sums.cost),
        ]

    whole = everything()
    for module in ("metrics.lattice", "metrics.order", "metrics.tally", "routing.voting"):
        monkeypatch.setattr(f"hybrid.{module}.CHUNK", rows_at_a_time)
    monkeypatch.setattr("hybrid.metrics.tally.PART", rows_at_a_time)
    for a, b in zip(whole, everything(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@given(cases(names=("cascade",), scoped=False))
def test_a_surface_read_off_the_columns_is_that_of_the_replays(case):
    policy, predictions, truth = case
    lines = policy.thresholds()
    if len(lines) != 2:
        return
    edges = np.array([0.0, 0.25, 0.6, 0.8, 1.0])
    where = {"axes": (lines[0], lines[1]), "first": edges, "second": edges[1:]}
    for cost in (predictions.cost, np.broadcast_to([0.25, 0.5, 1.0], predictions.cost.shape)):
        table = replace(predictions, cost=cost)
        fast = surface(policy, table, truth, **where)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surfaces, "chain_of_three", lambda *_: None)
            slow = surface(policy, table, truth, **where)
        for field in ("accuracy", "escalation_rate", "cost_per_1000"):
            np.testing.assert_allclose(getattr(fast, field), getattr(slow, field), atol=1e-12)
