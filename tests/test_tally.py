"""Tallies: sums that add up in any order, and the curves drawn from them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import cases, table, tiers_of
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TierError
from hybrid.metrics.curve import surface, sweep, sweep_macro_f1
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.summary import summarize
from hybrid.metrics.tally import total
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade, Ensemble, Triage
from hybrid.tuning import tallied

COARSE = Lattice(octaves=4, parts=2)


def many(n, k, seed=0):
    """Make up predictions of k tiers with rough confidences that mean something."""
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.beta(2, 0.5, (n, k)), 4)
    truth = rng.integers(0, 3, n)
    label = np.where(rng.random((n, k)) < confidence, truth[:, None], rng.integers(-1, 3, (n, k)))
    tiers = tiers_of(k)
    made = table(tiers, [[(0, 0.5)] * k] * n)
    confidence = np.where(label < 0, 0.0, confidence)
    return replace(made, label=label, confidence=confidence, cost=np.round(rng.random((n, k)), 6)), truth


@given(cases(names=("triage",)))
def test_a_tallied_curve_is_the_sweep_at_its_edges(case):
    policy, predictions, truth = case
    policy = replace(policy, pattern=Triage(policy.pattern.threshold))  # one for all classes
    sums = tallied.tally_of(policy, predictions, truth, lattice=COARSE, classes=True)
    found = tallied.curve(sums)
    exact = sweep(policy, predictions, truth, name="threshold").on(COARSE.edges)
    for field in ("accuracy", "escalation_rate", "cost_per_1000", "latency_mean", "kept"):
        np.testing.assert_allclose(getattr(found, field), getattr(exact, field), atol=1e-9)
    f1 = sweep_macro_f1(policy, predictions, truth, name="threshold")
    points = sweep(policy, predictions, truth, name="threshold").at(COARSE.edges)
    np.testing.assert_allclose(sums.classes.macro_f1(), f1[points], atol=1e-12)


@pytest.mark.parametrize("k", [3, 4])
def test_a_tallied_cascade_is_replay_at_every_corner(k):
    predictions, truth = many(300, k)
    lattice = Lattice(octaves=2, parts=2)
    policy = Policy(Cascade((0.5,) * (k - 1)), predictions.tiers)
    sums = tallied.tally_of(policy, predictions, truth, lattice=lattice)
    correct, cost, last, latency = sums.correct(), sums.cost_grid(), sums.reached(k - 1), sums.latency_grid()
    for at in np.ndindex(correct.shape):
        there = replace(policy, pattern=Cascade(tuple(lattice.edges[i] for i in at)))
        outcomes = replay(there, predictions)
        assert correct[at] == (outcomes.label == truth).sum()
        assert cost[at] == pytest.approx(outcomes.cost.sum(), abs=1e-6)
        assert last[at] == outcomes.asked[:, -1].sum()
        assert latency[at] == pytest.approx(outcomes.latency.sum(), abs=1e-3)


def test_a_tallied_surface_is_the_surface():
    predictions, truth = many(500, 3)
    policy = Policy(Cascade((0.5, 0.5)), predictions.tiers)
    found = tallied.surface(tallied.tally_of(policy, predictions, truth, lattice=COARSE))
    exact = surface(policy, predictions, truth, axes=policy.thresholds(), first=COARSE.edges, second=COARSE.edges)
    np.testing.assert_allclose(found.accuracy, exact.accuracy)
    np.testing.assert_allclose(found.escalation_rate, exact.escalation_rate)
    np.testing.assert_allclose(found.cost_per_1000, exact.cost_per_1000, atol=1e-6)


@given(st.lists(st.integers(1, 199), max_size=6), st.randoms())
def test_batches_add_up_to_the_same_bits_in_any_order(cuts, random):
    predictions, truth = many(200, 2)
    policy = Policy(Triage(0.5), predictions.tiers)
    whole = tallied.tally_of(policy, predictions, truth, classes=True)
    edges = [0, *sorted(set(cuts)), 200]
    parts = [np.arange(a, b) for a, b in pairwise(edges)]
    random.shuffle(parts)
    summed = total([tallied.tally_of(policy, predictions.take(r), truth[r], classes=True) for r in parts])
    np.testing.assert_array_equal(summed.right, whole.right)
    for a, b in zip((*summed.cost, *summed.latency), (*whole.cost, *whole.latency), strict=True):
        np.testing.assert_array_equal(a, b)
    for field in ("true", "answers"):
        np.testing.assert_array_equal(getattr(summed.classes, field), getattr(whole.classes, field))


def test_between_two_edges_the_accuracy_is_off_by_no_more_than_the_slack():
    predictions, truth = many(2_000, 2)
    policy = Policy(Triage(0.5), predictions.tiers)
    sums = tallied.tally_of(policy, predictions, truth, lattice=COARSE)
    at_edges, slack, edges = sums.correct() / sums.n_rows, sums.slack(), COARSE.edges
    exact = sweep(policy, predictions, truth, name="threshold")
    inside = exact.threshold
    bin_ = np.searchsorted(edges, inside, side="left") - 1  # a threshold at an edge belongs to the bin below it
    above_0 = bin_ >= 0
    gap = np.abs(exact.accuracy[above_0] - at_edges[bin_[above_0]])
    assert (gap <= slack[bin_[above_0]] + 1e-12).all()
    assert gap.max() > slack[bin_[above_0]].max() / 4  # the bound is not idle


def test_curves_of_drawn_cells_follow_the_law_of_drawn_rows():
    predictions, truth = many(400, 2)
    policy = Policy(Triage(0.5), predictions.tiers)
    sums = tallied.tally_of(policy, predictions, truth, lattice=COARSE)
    accuracy, escalation = tallied.resample(sums, replicates=4_000, seed=1)
    rng = np.random.default_rng(2)
    right = predictions.label == truth[:, None]
    kept = predictions.confidence[:, :1] >= COARSE.edges
    final = np.where(kept, right[:, :1], right[:, 1:])
    rows = rng.multinomial(400, np.full(400, 1 / 400), size=4_000)
    by_rows, sent = rows @ final / 400, rows @ ~kept / 400
    np.testing.assert_allclose(accuracy.mean(axis=0), final.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(accuracy.std(axis=0), by_rows.std(axis=0), rtol=0.06)
    np.testing.assert_allclose(escalation.std(axis=0), sent.std(axis=0), rtol=0.06, atol=1e-4)
    # thresholds move together: neighbouring points of one curve are from the same rows
    np.testing.assert_allclose(np.corrcoef(accuracy.T)[2, 3], np.corrcoef(by_rows.T)[2, 3], atol=0.05)
    found = tallied.bands(sums, seed=1)
    low = summarize(replay(Policy(Triage(0.75), policy.tiers), predictions), truth).accuracy.low
    at = COARSE.edges.tolist().index(0.75)
    assert found.accuracy[0, at] == pytest.approx(low, abs=0.01)
    assert (found.accuracy[1] >= found.accuracy[0]).all()


def test_what_cannot_be_tallied_is_refused():
    predictions, truth = many(20, 3)
    tiers = predictions.tiers
    with pytest.raises(TierError, match="triage and cascades"):
        tallied.tally_of(Policy(Ensemble(), tiers), predictions, truth)
    holed = predictions.take(np.arange(20))
    holed.confidence[3, 1] = np.nan
    with pytest.raises(TierError, match="missing or out of range"):
        tallied.tally_of(Policy(Cascade((0.5, 0.5)), tiers), holed, truth)
    three = tallied.tally_of(Policy(Cascade((0.5, 0.5)), tiers), predictions, truth)
    two = tallied.tally_of(Policy(Triage(0.5), tiers[:2]), predictions, truth)
    with pytest.raises(TierError, match="of 2 tiers"):
        tallied.curve(three)
    with pytest.raises(TierError, match="same tiers"):
        two + three
