"""Edges: what a tally tells about the best thresholds, and how far the others can be."""

import numpy as np
import pytest
from test_tally import many, tally_of

from hybrid.metrics.flips import with_threshold
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.summary import summarize
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import NEVER
from hybrid.tuning import Goal
from hybrid.tuning.edges import _most, optimum_at_edges
from hybrid.tuning.search import search


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("goal", [Goal("cheapest", floor=0.88), Goal("most_accurate", budget=600.0)])
def test_the_bound_between_edges_holds_for_the_exact_optimum(k, goal):
    predictions, truth = many(2_000, k, seed=3)
    pattern = Triage(0.5) if k == 2 else Cascade((0.5, 0.5))
    policy = Policy(pattern, predictions.tiers)
    at_edges = optimum_at_edges(tally_of(policy, predictions, truth, lattice=Lattice(5, 4)), goal)
    exact = search(policy, predictions, truth, goal)
    assert exact.exact
    o = replay(exact.policy, predictions)
    accuracy, cost = np.mean(o.label == truth), 1000 * o.cost.mean()
    if goal.floor is not None:
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


def test_the_bound_inside_a_cell_gives_each_row_its_best_end_there():
    predictions, truth = many(200, 3, seed=1)
    lattice = Lattice(2, 2)
    sums = tally_of(Policy(Cascade((0.5, 0.5)), predictions.tiers), predictions, truth, lattice=lattice)
    ok, (first, second) = predictions.label == truth[:, None], map(lattice.bin, predictions.confidence[:, :2].T)
    expected = np.zeros((lattice.n_bins, lattice.n_bins))
    for i, j in np.ndindex(expected.shape):  # thresholds from an edge up to below the next one
        later = np.where(second < j, ok[:, 2], ok[:, 1] | (second == j) & ok[:, 2])
        expected[i, j] = np.where(first < i, later, ok[:, 0] | (first == i) & later).sum()
    np.testing.assert_array_equal(_most(sums.right, sums.correct()), expected)


def test_where_a_tier_is_wrong_at_a_confidence_of_1_it_keeps_nothing():
    predictions, truth = many(400, 2)
    predictions.confidence[:, 0] = 1.0
    predictions.label[:, 1] = truth
    sums = tally_of(Policy(Triage(0.5), predictions.tiers), predictions, truth)
    found = optimum_at_edges(sums, Goal("most_accurate"))
    assert (found.thresholds, found.accuracy) == ((NEVER,), 1)
    found = optimum_at_edges(sums, Goal("cheapest", floor=1.0))
    assert (found.thresholds, found.bound) == ((NEVER,), found.cost_per_1000)


def test_limits_that_no_edge_keeps_have_no_optimum():
    predictions, truth = many(200, 2)
    sums = tally_of(Policy(Triage(0.5), predictions.tiers), predictions, truth)
    assert optimum_at_edges(sums, Goal("cheapest", floor=1.0)) is None
    most = optimum_at_edges(sums, Goal("most_accurate")).accuracy
    assert optimum_at_edges(sums, Goal("cheapest", floor=most)).accuracy == most
    assert optimum_at_edges(sums, Goal("cheapest", floor=most + 0.005)) is None  # one row more
