"""The optimum: never beaten by any thresholds, found without trying them all."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import table, tiers_of
from hypothesis import given
from hypothesis import strategies as st
from test_tally import many, tally_of

from hybrid.errors import TierError
from hybrid.metrics.flips import chain_of_three, with_threshold
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.summary import summarize
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import NEVER
from hybrid.tuning import pair_search as search
from hybrid.tuning.pair_search import Goal, best_pair, optimum_at_edges


def brute(policy, predictions, truth, goal):
    """Try every combination of distinct confidences, by replay; returns the best (accuracy, cost), or None."""
    lines = policy.thresholds()
    levels = [
        sorted({0.0, NEVER, *policy.pattern.gauge(predictions.select(policy.names), x.name, x.index)}) for x in lines
    ]
    best = None
    for values in product(*levels):
        moved = policy
        for line, value in zip(lines, values, strict=True):
            moved = with_threshold(moved, line.name, line.index, float(value))
        o = replay(moved, predictions)
        accuracy, cost = (o.label == truth).mean(), 1000 * o.cost.mean()
        if goal.min_accuracy is not None:
            if accuracy >= goal.min_accuracy - 1e-12 and (best is None or (cost, -accuracy) < (best[1], -best[0])):
                best = accuracy, cost
        elif cost <= goal.max_cost_per_1000 + 1e-9 and (best is None or (accuracy, -cost) > (best[0], -best[1])):
            best = accuracy, cost
    return best


def best(policy, predictions, truth, goal):
    return best_pair(policy, chain_of_three(policy, predictions, truth), goal)


def check(found, policy, predictions, truth, goal):
    expected = brute(policy, predictions, truth, goal)
    if expected is None:
        assert found is None
        return
    assert (found.accuracy, found.cost_per_1000) == pytest.approx(expected, abs=1e-9)
    s = summarize(replay(found.policy, predictions), truth)  # the thresholds say what the numbers say
    assert s.accuracy.value == pytest.approx(found.accuracy)
    assert s.cost_per_1000.value == pytest.approx(found.cost_per_1000)


goals = st.one_of(
    st.sampled_from((0.0, 0.4, 0.5, 0.6, 0.75, 1.0)).map(lambda a: Goal(min_accuracy=a)),
    st.sampled_from((0.0, 0.5, 1.0, 1.5, 2.0, 9.0)).map(lambda c: Goal(max_cost_per_1000=c)),
)


def three(n, seed, *, levels, steady):
    """Draw a cascade of three tiers; few levels make ties common."""
    rng = np.random.default_rng(seed)
    predictions, truth = many(n, 3, seed)
    confidence = np.round(predictions.confidence * levels) / levels
    cost = np.broadcast_to([0.0, 0.001, 0.003], (n, 3)).copy() if steady else np.round(rng.random((n, 3)), 2) / 100
    label = rng.integers(-1, 3, (n, 3)) if seed % 2 else predictions.label
    confidence = np.where(label < 0, 0.0, confidence)
    return (
        Policy(Cascade((0.5, 0.5)), predictions.tiers),
        replace(predictions, label=label, confidence=confidence, cost=cost),
        truth,
    )


@given(
    st.integers(1, 25), st.integers(0, 10_000), st.sampled_from((3, 10, 1000)), st.booleans(), goals, st.integers(1, 9)
)
def test_the_best_pair_of_thresholds_is_that_of_all_pairs(n, seed, levels, steady, goal, most):
    policy, predictions, truth = three(n, seed, levels=levels, steady=steady)
    with pytest.MonkeyPatch.context() as patch:  # however the axes are cut, and in however many parts pairs are seen
        patch.setattr(search, "PAIRS", most)
        patch.setattr(search, "_levels", lambda values, _: np.unique(np.append(np.linspace(0, 1, most + 1), [0, 1])))
        found = best(policy, predictions, truth, goal)
    check(found, policy, predictions, truth, goal)


@pytest.mark.parametrize("goal", [Goal(min_accuracy=0.8), Goal(max_cost_per_1000=1.2)])
@pytest.mark.parametrize("seed", range(2))
def test_bounds_shut_most_cells_and_none_that_wins(seed, goal):
    policy, predictions, truth = three(900, 2 * seed, levels=30, steady=True)
    found = best(policy, predictions, truth, goal)
    check(found, policy, predictions, truth, goal)
    assert found.opened < 64


def test_a_goal_out_of_reach_has_no_optimum():
    tiers = tiers_of(3)
    wrong = table(tiers, [[(1, 0.5), (1, 0.5), (1, 1.0)]] * 4)
    policy = Policy(Cascade((0.5, 0.5)), tiers)
    assert best(policy, wrong, np.zeros(4, dtype=int), Goal(min_accuracy=0.1)) is None


def test_a_goal_that_makes_no_sense_is_refused():
    for wrong in ({}, {"min_accuracy": 0.9, "max_cost_per_1000": 1.0}):
        with pytest.raises(TierError, match="either"):
            Goal(**wrong)
    with pytest.raises(TierError, match="Divide by 100"):
        Goal(min_accuracy=90)
    with pytest.raises(TierError, match="0 or more"):
        Goal(max_cost_per_1000=-1.0)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("goal", [Goal(min_accuracy=0.88), Goal(max_cost_per_1000=600.0)])
def test_the_bound_between_edges_holds_for_the_exact_optimum(k, goal):
    predictions, truth = many(2_000, k, seed=3)
    pattern = Triage(0.5) if k == 2 else Cascade((0.5, 0.5))
    policy = Policy(pattern, predictions.tiers)
    at_edges = optimum_at_edges(tally_of(policy, predictions, truth, lattice=Lattice(5, 4)), goal)
    if k == 2:
        accuracy, cost = brute(policy, predictions, truth, goal)
    else:
        exact = best(policy, predictions, truth, goal)
        accuracy, cost = exact.accuracy, exact.cost_per_1000
    if goal.min_accuracy is not None:
        assert at_edges.bound - 1e-6 <= cost <= at_edges.cost_per_1000 + 1e-6
        assert at_edges.accuracy >= 0.88
    else:
        assert at_edges.bound + 1e-9 >= accuracy >= at_edges.accuracy
    moved = policy
    for line, value in zip(policy.thresholds(), at_edges.thresholds, strict=True):
        moved = with_threshold(moved, line.name, line.index, value)
    s = summarize(replay(moved, predictions), truth)
    assert s.accuracy.value == pytest.approx(at_edges.accuracy)
    assert s.cost_per_1000.value == pytest.approx(at_edges.cost_per_1000, abs=1e-6)
