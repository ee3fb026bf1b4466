"""Recommendations: exact against brute force over every threshold, for every pattern and goal."""

import sys
from dataclasses import replace
from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CLASSES, cases, table, tiers_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hybrid.errors import TierError
from hybrid.metrics.curve import with_threshold
from hybrid.metrics.summary import summarize
from hybrid.metrics.surprise import surprise
from hybrid.routing.engine import Policy, answering, replay
from hybrid.routing.patterns import PATTERNS, Assisted, Cascade, Ensemble, Router, Triage, TriageEnsemble
from hybrid.routing.table import NEVER, UNKNOWN, Answers, Predictions, Tier
from hybrid.tuning import Goal, Labelled, every_way, one_way, per_class_thresholds, recommend, stability
from hybrid.tuning.choosing import Finalist, Judge, folds_of, held_out_of_choosing, hold_out, price_of_wrong
from hybrid.tuning.explore import Explorer, RowSet, Try, _key_of, from_cheap, name_of, way_of
from hybrid.tuning.fronts import Front, Group, hull, merge_groups
from hybrid.tuning.goals import TOLERANCE, best, violation
from hybrid.tuning.pairs import PairSearch
from hybrid.tuning.recommend import (
    Point,
    Recommendation,
    Selection,
    _doubtful,
    _finalists,
    _fronts,
    _main_front,
    _n_common,
    _points,
    _together,
    _trimmed,
    contradiction,
)
from hybrid.tuning.search import search, search_by_class, thresholds_of, with_classes
from hybrid.tuning.states import States, of_replay, states_of

WRONG = ((0.0, 0.01, 0.5), (0.02, 0.0, 0.03), (0.001, 0.2, 0.0))


@st.composite
def goals(draw):
    kind = draw(st.sampled_from(("cheapest", "most_accurate", "least_total")))
    return Goal(
        kind,
        floor=draw(st.none() | st.sampled_from((0.25, 0.5, 0.75, 1.0))),
        budget=draw(st.none() | st.sampled_from((0.0, 0.5, 1.0, 2.0))),
        seconds=draw(st.none() | st.sampled_from((0.0, 0.1, 0.45))),
        wrong=draw(st.sampled_from((0.0, 0.002, WRONG))),
    )


def every_threshold(policy, predictions):
    """Yield the policy at every combination of the distinct values of its thresholds."""
    lines = [x for x in policy.thresholds() if x.value is not None]
    seen = predictions.select(policy.names)
    values = [np.union1d(policy.gauge(seen, x.name, x.index), [NEVER]) for x in lines]
    for combination in product(*values):
        moved = policy
        for line, value in zip(lines, combination, strict=True):
            moved = with_threshold(moved, line.name, line.index, value)
        yield moved


def aim_and_violation(policy, predictions, truth, goal):
    totals = goal.terms(replay(policy, predictions), truth).sum(axis=1)
    over = np.maximum(totals[2:] - goal.caps(len(truth)), 0) / np.maximum(goal.caps(len(truth)), 1e-6)
    return over.sum(), totals[0]


def no_better(found, brute):
    """Whether (violation, aim) of what was found is that of the best by brute force."""
    least = min(over for over, _ in brute)
    aim = min(a for over, a in brute if over <= least * (1 + TOLERANCE))  # as near a tie as the search takes for one
    return found == (pytest.approx(least, rel=1e-8, abs=1e-9), pytest.approx(aim, abs=1e-9))


@settings(max_examples=100)
@given(cases(names=("triage", "triage_ensemble", "cascade", "router", "ensemble", "assisted")), goals())
def test_a_search_is_as_good_as_brute_force(case, goal):
    policy, predictions, truth = case
    policy = with_classes(policy, ())
    lines = [x for x in policy.thresholds() if x.value is not None]
    assume(len(lines) < 3)
    found = search(policy, predictions, truth, goal)
    assert found.exact
    assert "not proven" not in found.method
    brute = [aim_and_violation(p, predictions, truth, goal) for p in every_threshold(policy, predictions)]
    assert no_better(aim_and_violation(found.policy, predictions, truth, goal), brute)
    assert found.totals == pytest.approx(goal.terms(replay(found.policy, predictions), truth).sum(axis=1), abs=1e-9)


@settings(max_examples=30)
@given(cases(names=("triage",), scoped=False), goals())
def test_thresholds_per_class_are_as_good_as_brute_force(case, goal):
    policy, predictions, truth = case
    found = search_by_class(policy, predictions, truth, goal, min_rows=2)
    values = np.union1d(predictions.confidence[:, 0], [NEVER])
    own = [c for c in range(len(CLASSES)) if np.sum(predictions.label[:, 0] == c) >= 2]
    brute = []
    for combination in product(values, repeat=len(own) + 1):
        by_class = [None] * len(CLASSES)
        for c, value in zip(own, combination, strict=False):
            by_class[c] = value
        p = replace(policy, pattern=Triage(combination[-1], tuple(by_class)))
        brute.append(aim_and_violation(p, predictions, truth, goal))
    mine = aim_and_violation(found.policy, predictions, truth, goal)
    if found.exact:
        assert no_better(mine, brute)
    else:  # several limits at once: named as not exact, and never better than possible
        assert len(goal.limits) > 1
        assert min(brute) <= (mine[0] + 1e-9, mine[1] + 1e-9)
    assert found.totals == pytest.approx(goal.terms(replay(found.policy, predictions), truth).sum(axis=1), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_pairs_with_more_values_than_blocks_are_still_exact(seed):
    rng = np.random.default_rng(seed)
    n = 700
    first, second = rng.random(n), np.round(rng.random(n), 2 + seed % 2)
    wrong = rng.random((3, n)) < np.array([[0.6], [0.4], [0.2]]) * (1 - first * second)
    cost = np.array([[0.0], [0.001], [0.01]]) * rng.uniform(0.5, 1.5, (3, n))
    summed = np.cumsum(cost, axis=0)  # of a cascade: kept by the first; by the second; by neither
    terms = np.stack([np.stack([summed[k], wrong[k]]) for k in range(3)])
    states = States(Policy(Cascade((0.5, 0.5)), tiers_of(3)), (), (first, second), terms)
    caps = np.array([wrong[2].sum() * 1.15 + 1])
    pair = PairSearch(states, [0, 1, 1], caps)
    assert pair.n_pairs == 701 * (len(np.unique(second)) + 1)  # and what passes all on
    (a, b), totals, exact = pair.refined()
    assert exact
    # brute force: every pair by cumulative sums of a full table
    best = np.inf
    for t in np.union1d(first, [1.0]):
        left = first < t
        order = np.argsort(second[left])
        values = np.append(second[left][order], 1.0)
        base = terms[0][:, ~left].sum(axis=1) + terms[1][:, left].sum(axis=1)
        steps = np.cumsum((terms[2] - terms[1])[:, left][:, order], axis=1)
        at = np.searchsorted(values[:-1], values, side="left")
        sums = base[:, None] + np.concatenate([np.zeros((2, 1)), steps], axis=1)[:, at]
        allowed = sums[1] <= caps[0]
        best = min(best, sums[0][allowed].min(initial=np.inf))
    assert totals[0] == pytest.approx(best, rel=1e-9)
    chosen = np.where(first >= a, 0, np.where(second >= b, 1, 2))
    assert totals[0] == pytest.approx(summed[chosen, np.arange(n)].sum())
    # what is reached elsewhere shuts every cell, and the proof stands
    beaten = PairSearch(states, [0, 1, 1], caps).refined(beat=np.array([0.0, 0.0, 0.0]))
    assert beaten[2]
    assert beaten[1][0] >= best
    assert not pair.on_lattice()[2]


def test_a_search_that_opens_too_few_cells_is_not_proven(monkeypatch):
    rng = np.random.default_rng(0)
    terms = rng.random((3, 2, 400))
    states = States(Policy(Cascade((0.5, 0.5)), tiers_of(3)), (), tuple(rng.random((2, 400))), terms)
    whole = PairSearch(states, [0, 1], np.zeros(0)).refined()
    monkeypatch.setattr("hybrid.tuning.pairs.MAX_OPEN", 0)
    values, totals, exact = PairSearch(states, [0, 1], np.zeros(0)).refined()
    assert (whole[2], exact) == (True, False)
    assert totals[0] > whole[1][0]
    at = np.where(states.gauges[0] >= values[0], 0, np.where(states.gauges[1] >= values[1], 1, 2))
    assert totals == pytest.approx(terms[at, :, np.arange(400)].sum(axis=0))


def test_a_goal_is_said_with_four_digits_that_mean_something():
    goal = Goal("least_total", floor=0.9, budget=0.123456, seconds=1.5, wrong=0.00002)
    limits = "accuracy at least 90.0%", "at most $0.1235 per 1,000", "95% of texts within 1.5 s"
    assert goal.limits == limits
    assert goal.words == ", ".join(["least total cost at $0.00002 per wrong answer", *limits])
    assert Goal("least_total", wrong=WRONG).words == "least total cost, by a table"
    assert Goal("cheapest").words == "cheapest"


def test_the_bound_of_a_cell_lets_each_row_end_where_each_measure_is_least():
    rng = np.random.default_rng(3)
    n = 60
    gauges, terms = tuple(np.round(rng.random((2, n)), 1)), rng.normal(size=(3, 2, n))
    pair = PairSearch(States(Policy(Cascade((0.5, 0.5)), tiers_of(3)), (), gauges, terms), [0, 1, 1], np.zeros(1))
    starts = pair._cut(4)
    assert all(s[0] == 0 and s[-1] == len(v) - 1 for s, v in zip(starts, pair.values, strict=True))
    found = pair._bounds(starts, pair._first_of_cells(starts))
    for i, j in np.ndindex(*(len(s) for s in starts)):
        ends = []
        for a, b in product(
            *(v[s[k] : [*s, len(v)][k + 1]] for v, s, k in zip(pair.values, starts, (i, j), strict=True))
        ):
            at = np.where(gauges[0] >= a, 0, np.where(gauges[1] >= b, 1, 2))
            ends.append(terms[at, :, np.arange(n)])
        assert found[:, i, j] == pytest.approx(np.min(ends, axis=0).sum(axis=0))


def test_adding_up_many_groups_is_exact_and_pricing_is_near():
    rng = np.random.default_rng(0)
    groups = [
        Group(np.arange(5.0), np.stack([rng.random(5), c := rng.integers(0, 4, 5).astype(float), c])) for _ in range(6)
    ]
    caps = np.array([7.0])
    merged = merge_groups(groups, caps, exact=True)
    every = [
        np.sum([g.totals[:, i] for g, i in zip(groups, pick, strict=True)], axis=0)
        for pick in product(range(5), repeat=6)
    ]
    assert merged.exact
    assert merged.totals[0] == pytest.approx(min(t[0] for t in every if t[2] <= 7))
    priced = merge_groups(groups, caps, exact=False)
    assert not priced.exact
    assert priced.totals[2] <= 7
    assert merged.totals[0] <= priced.totals[0] <= merged.totals[0] + 0.5


TIERS = (Tier("classifier", "classifier"), Tier("llm", "recorded", price=0.003))


def made(n, *, seed=0, n_classes=4):
    """Predictions of a weak tier whose confidence is honest, better in some classes, and of a strong tier."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    skill = np.linspace(0.55, 0.98, n_classes)[truth]
    confidence = np.clip(rng.beta(6 * skill, 6 * (1 - skill)), 0.01, 1.0)
    other = (truth + rng.integers(1, n_classes, n)) % n_classes
    weak = np.where(rng.random(n) < confidence, truth, other)
    strong = np.where(rng.random(n) < 0.92, truth, other)
    predictions = Predictions(
        TIERS,
        tuple(f"c{k}" for k in range(n_classes)),
        np.column_stack([weak, strong]),
        np.column_stack([confidence, np.ones(n)]),
        np.tile([0.0, 0.003], (n, 1)),
        np.tile([0.001, 0.5], (n, 1)),
    )
    return Labelled(predictions, truth)


POLICY = Policy(Triage(), TIERS)


def suggested(policies, tune, goal, **more):
    """Look for the best thresholds of some policies, with every choice of their other parameters."""
    ways = [way for p in policies for way in one_way(p)]
    return recommend(tune.predictions, tune.truth, goal, ways=ways, **more)


def test_the_recommendation_keeps_its_floor_says_what_binds_and_reports_both_sides():
    tune, test = made(2000), made(2000, seed=1)
    alone = suggested([POLICY], tune, Goal("cheapest", floor=0.9, by_class=False))
    values = len(np.unique(tune.predictions.confidence[:, 0])) + 1
    assert (alone.exact, alone.method) == (True, f"exact over all {values:,} distinct thresholds")
    found = suggested([POLICY], tune, Goal("cheapest", floor=0.9), test=test)
    assert found.feasible
    assert found.binding == ("accuracy at least 90.0%",)
    assert found.tune.accuracy.value >= 0.9
    assert found.optimism == found.tune.accuracy.value - found.test.accuracy.value
    assert found.tune == summarize(replay(found.policy, tune.predictions), tune.truth)
    assert found.test == summarize(replay(found.policy, test.predictions), test.truth)
    assert found.totals == (None, None)
    # both ways of triage stand in the list, the better first
    assert [bool(c.policy.pattern.by_class) for c in found.candidates] == [True, False]
    assert found.candidates[0].tune.cost_per_1000.value <= found.candidates[1].tune.cost_per_1000.value


def test_copies_of_rows_tell_no_more_than_the_rows_themselves():
    """Ten copies of each of 300 rows, as one customer's: whatever is said of them is as unsure as of the 300."""
    goal = Goal("least_total", wrong=0.01, by_class=False)
    sides = [made(300), made(300, seed=1)]
    often = [
        Labelled(
            s.predictions.take(np.repeat(np.arange(300), 10)), np.repeat(s.truth, 10), np.repeat(np.arange(300), 10)
        )
        for s in sides
    ]
    alone = suggested([POLICY], sides[0], goal, test=sides[1])
    copied = suggested([POLICY], often[0], goal, test=often[1], groups=often[0].groups)

    def widths(found, tune, test):
        gain = per_class_thresholds(POLICY, tune, goal, report_on=test, min_rows=len(tune) // 10).gain
        band = stability(found, tune, measured_on=test, n=30).thresholds[0]
        widths = [band[3] - band[2], gain.accuracy.half_width]
        for i in (found.tune.accuracy, found.test.accuracy, found.candidates[0].tune.cost_per_1000, *found.totals):
            widths.append(i.half_width)
        return widths

    assert copied.policy == alone.policy
    assert widths(copied, *often) == pytest.approx(widths(alone, *sides), rel=0.3)


def test_where_no_mistake_was_seen_the_total_cost_still_allows_for_some():
    tune = made(100)
    right = replace(tune.predictions, label=np.repeat(tune.truth[:, None], 2, axis=1))
    found = suggested([POLICY], Labelled(right, tune.truth), Goal("least_total", wrong=50.0))
    assert found.totals[0].low == found.totals[0].value == 0
    assert found.totals[0].high > 1000 * 50 * 0.03  # accuracy from 96.3 % on: three mistakes in a hundred


def test_a_goal_that_nothing_reaches_is_said_to_be_out_of_reach():
    found = suggested([POLICY], made(500), Goal("cheapest", floor=0.999))
    assert not found.feasible
    assert found.binding == ("accuracy at least 99.9%",)
    best = suggested([POLICY], made(500), Goal("most_accurate"))
    assert found.tune.accuracy.value == pytest.approx(best.tune.accuracy.value)


def test_budget_and_latency_cap_are_kept_and_named():
    tune = made(2000)
    budget = suggested([POLICY], tune, Goal("most_accurate", budget=0.6))
    assert budget.tune.cost_per_1000.value <= 0.6 * (1 + 1e-9)
    assert budget.binding == ("at most $0.6 per 1,000",)
    quick = suggested([POLICY], tune, Goal("most_accurate", seconds=0.1))
    o = replay(quick.policy, tune.predictions)
    assert np.mean(o.latency > 0.1) <= 0.05
    assert quick.binding == ("95% of texts within 0.1 s",)


def test_a_dearer_mistake_buys_more_of_the_strong_tier():
    tune = made(2000)
    rates = [suggested([POLICY], tune, Goal("least_total", wrong=w)).tune.escalation_rate.value for w in (0, 0.01, 0.1)]
    assert rates[0] == 0 < rates[1] < rates[2]
    found = suggested([POLICY], tune, Goal("least_total", wrong=0.01), test=made(1000, seed=1))
    o = replay(found.policy, tune.predictions)
    total = 1000 * np.mean(o.cost + 0.01 * (o.label != tune.truth))
    assert found.totals[0].value == pytest.approx(total)
    assert found.totals[0].low < total < found.totals[0].high
    assert found.candidates[0].total == pytest.approx(total)
    assert found.totals[1].value != found.totals[0].value


def test_the_table_of_costs_counts_truth_in_rows_and_an_unknown_answer_as_the_dearest():
    tiers = tiers_of(2)
    predictions = table(tiers, [[(1, 0.5), (1, 1.0)], [(0, 0.5), (0, 1.0)], [(UNKNOWN, 0.0), (UNKNOWN, 0.0)]])
    o = replay(Policy(Triage(0.0), tiers), predictions)
    terms = Goal("least_total", wrong=WRONG).terms(o, np.array([0, 1, 2]))
    assert terms[0].tolist() == [0.01, 0.02, 0.2]
    table_of_nines = tuple(tuple(9.0 if i == j else x for j, x in enumerate(r)) for i, r in enumerate(WRONG))
    charged = Goal("least_total", wrong=table_of_nines)
    right = replay(Policy(Triage(0.0), tiers), table(tiers, [[(1, 0.5), (1, 1.0)]]))
    assert charged.terms(right, np.array([1]))[0].tolist() == [0.0]  # a right answer costs nothing


def test_over_all_patterns_the_best_one_is_found():
    rng = np.random.default_rng(3)
    n, tiers = 90, tiers_of(3)  # so few that none is held out
    truth = rng.integers(0, 3, n)
    label = np.column_stack([np.where(rng.random(n) < p, truth, (truth + 1) % 3) for p in (0.6, 0.8, 0.95)])
    predictions = Predictions(
        tiers,
        CLASSES,
        label,
        rng.choice([0.2, 0.6, 0.9], (n, 3)),
        np.tile([0, 0.0005, 0.001], (n, 1)),
        np.tile([0, 0.1, 0.2], (n, 1)),
    )
    policies = [Policy(Triage(), (tiers[0], tiers[2])), Policy(Cascade((0.5, 0.5)), tiers), Policy(Ensemble(), tiers)]
    goal = Goal("most_accurate", budget=0.7, by_class=False)
    found = suggested(policies, Labelled(predictions, truth), goal)
    brute = [
        aim_and_violation(p, predictions, truth, goal)
        for policy in policies
        for way in one_way(policy)
        for p in every_threshold(way, predictions)
    ]
    assert no_better(aim_and_violation(found.policy, predictions, truth, goal), brute)
    assert len(found.candidates) == 3


def test_more_than_two_thresholds_are_searched_one_by_one_and_said_not_to_be_proven():
    rng = np.random.default_rng(0)
    n, tiers = 300, tiers_of(4)
    truth = rng.integers(0, 3, n)
    label = np.column_stack([np.where(rng.random(n) < p, truth, (truth + 1) % 3) for p in (0.5, 0.7, 0.8, 0.95)])
    predictions = Predictions(
        tiers, CLASSES, label, rng.random((n, 4)), np.tile([0, 1e-3, 2e-3, 4e-3], (n, 1)), np.zeros((n, 4))
    )
    found = search(Policy(Cascade((0.5,) * 3), tiers), predictions, truth, Goal("most_accurate", budget=3))
    assert not found.exact
    assert "starts; not proven best" in found.method
    assert found.totals[2] <= 3e-3 * n * (1 + 1e-6)
    alone = search(Policy(Cascade((1.0,) * 3), tiers), predictions, truth, Goal("most_accurate", budget=3))
    assert found.totals[0] <= alone.totals[0]


def test_scaling_all_prices_scales_the_budget_and_permuting_rows_changes_nothing():
    tune = made(800)
    found = suggested([POLICY], tune, Goal("most_accurate", budget=0.9))
    dearer = replace(tune.predictions, cost=tune.predictions.cost * 7)
    again = suggested([POLICY], Labelled(dearer, tune.truth), Goal("most_accurate", budget=6.3))
    assert again.tune.accuracy == found.tune.accuracy
    assert again.tune.cost_per_1000.value == pytest.approx(7 * found.tune.cost_per_1000.value)
    shuffled = np.random.default_rng(1).permutation(len(tune))
    moved = Labelled(tune.predictions.take(shuffled), tune.truth[shuffled])
    again = suggested([POLICY], moved, Goal("most_accurate", budget=0.9))
    assert again.tune.accuracy == found.tune.accuracy
    assert again.tune.cost_per_1000.value == pytest.approx(found.tune.cost_per_1000.value)


def test_permuting_the_classes_permutes_their_thresholds():
    tune = made(800)
    order = np.array([2, 0, 3, 1])  # new code of each class
    moved = Labelled(
        replace(tune.predictions, label=order[tune.predictions.label], classes=tuple("wxyz")), order[tune.truth]
    )
    goal = Goal("cheapest", floor=0.9)
    a = search_by_class(POLICY, tune.predictions, tune.truth, goal)
    b = search_by_class(POLICY, moved.predictions, moved.truth, goal)
    assert [b.policy.pattern.by_class[c] for c in order] == list(a.policy.pattern.by_class)


def test_the_stability_band_narrows_with_rows_and_holds_the_choice():
    widths = []
    for n in (200, 3000):
        tune = made(n)
        found = suggested([POLICY], tune, Goal("cheapest", floor=0.88, by_class=False))
        band = stability(found, tune, measured_on=made(1000, seed=9), n=60)
        ((_, value, low, high),) = band.thresholds
        assert low <= value <= high
        assert band.accuracy[0] < 0.88 + 0.03
        widths.append(band.cost_per_1000[1] - band.cost_per_1000[0])
    assert widths[1] < widths[0] / 2


def test_stability_covers_classes_and_pairs():
    tune = made(400)
    found = suggested([POLICY], tune, Goal("cheapest", floor=0.88))
    assert len(stability(found, tune, measured_on=tune, n=10).thresholds) == 5
    again = stability(found, tune, measured_on=tune, n=10)
    assert again == stability(found, tune, measured_on=tune, n=10)


def test_the_gain_of_thresholds_per_class_is_shown_where_it_was_not_chosen():
    tune, test = made(6000), made(6000, seed=1)
    goal = Goal("cheapest", floor=0.9)
    found = per_class_thresholds(POLICY, tune, goal, report_on=test)
    assert found.exact
    assert found.gain.cost_per_1000.high < 0  # cheaper, and not by luck
    assert found.gain.n_rows == 6000
    with pytest.raises(TierError, match="Only triage"):
        per_class_thresholds(Policy(Cascade((0.5,)), TIERS), tune, goal, report_on=test)


def test_a_class_with_few_rows_shares_the_common_threshold():
    tune = made(300)
    rare = tune.predictions.label[:, 0] == 0
    found = search_by_class(POLICY, tune.predictions, tune.truth, Goal("most_accurate"), min_rows=int(rare.sum()) + 1)
    assert found.policy.pattern.by_class[0] is None
    assert "few rows" in found.method
    enough = search_by_class(POLICY, tune.predictions, tune.truth, Goal("most_accurate"), min_rows=int(rare.sum()))
    assert enough.policy.pattern.by_class[0] is not None


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({"kind": "best"}, "one of cheapest"),
        ({"kind": "cheapest", "floor": 95}, "Percentages"),
        ({"kind": "cheapest", "budget": -1}, "0 or more"),
        ({"kind": "least_total", "wrong": ((0.0, 1.0),)}, "a row and a column"),
        ({"kind": "least_total", "wrong": -1.0}, "0 or more"),
    ],
)
def test_goals_that_make_no_sense_are_refused(goal, says):
    with pytest.raises(TierError, match=says):
        Goal(**goal)


def test_nothing_to_choose_from_is_an_error():
    with pytest.raises(TierError, match="nothing to choose from"):
        suggested([], made(10), Goal("cheapest"))
    none = np.array([], dtype=int)
    with pytest.raises(TierError, match="no row"):
        suggested([POLICY], Labelled(made(10).predictions.take(none), none), Goal("cheapest"))
    with pytest.raises(TierError, match="2 classes"):
        suggested([POLICY], made(50), Goal("least_total", wrong=((0.0, 1.0), (1.0, 0.0))))


def test_the_router_is_searched_over_both_of_its_thresholds():
    tiers = tiers_of(4, gate=True)
    rng = np.random.default_rng(0)
    n = 60
    truth = rng.integers(0, 3, n)
    label = np.column_stack(
        [np.full(n, UNKNOWN)] + [np.where(rng.random(n) < p, truth, (truth + 1) % 3) for p in (0.5, 0.7, 0.9)]
    )
    predictions = Predictions(
        tiers, CLASSES, label, np.round(rng.random((n, 4)), 2), np.tile([0, 0, 1e-3, 4e-3], (n, 1)), np.zeros((n, 4))
    )
    policy, goal = Policy(Router((0.5, 0.5)), tiers), Goal("most_accurate", budget=2.0)
    found = search(policy, predictions, truth, goal)
    brute = [aim_and_violation(p, predictions, truth, goal) for p in every_threshold(policy, predictions)]
    assert no_better(aim_and_violation(found.policy, predictions, truth, goal), brute)


@given(cases())
def test_where_rows_end_is_where_the_replay_ends_them(case):
    policy, predictions, truth = case
    policy = with_classes(policy, ())
    goal = Goal("least_total", seconds=0.3, wrong=0.002)
    states = states_of(policy, predictions, truth, goal)
    values = [line.value for line in policy.thresholds() if line.value is not None]
    np.testing.assert_allclose(states.rows_at(values), of_replay(policy, predictions, truth, goal), atol=1e-12)
    for k in range(len(values)):
        thresholds, sums = states.scan(k, values)
        for at in (0, len(thresholds) // 2, len(thresholds) - 1):
            moved = states.placed([thresholds[at] if j == k else v for j, v in enumerate(values)])
            expected = of_replay(moved, predictions, truth, goal).sum(axis=1)
            np.testing.assert_allclose(sums[:, at], expected, atol=1e-9)


def small(seed, n_tiers=3, n=30):
    """Make up a small problem with ties: tiers of rising skill and price, the first of them rules, and three gates."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    gates = (Tier("gate", "gate"), Tier("of rules", "gate", guards="rules"), Tier("of t1", "gate", guards="t1"))
    tiers = (Tier("rules", "rules"), *tiers_of(n_tiers)[1:], *gates)
    shape = n, len(tiers)
    confidence = np.round(rng.random(shape) * 5) / 5
    right = rng.random(shape) < 0.3 + 0.5 * confidence * np.linspace(0.4, 1, len(tiers))
    label = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, 3, shape)) % 3)
    label[:, n_tiers:] = UNKNOWN
    prices = [*(0.001 * rng.integers(0, 6, n_tiers)), 0.0, 0.0, 0.0001]
    cost = np.array(prices) * rng.choice([1.0, 1.5], shape)
    return Predictions(tiers, CLASSES, label, confidence, cost, np.zeros(cost.shape)), truth


@pytest.mark.parametrize("seed", range(12))
def test_over_everything_brute_force_finds_nothing_better(seed):
    predictions, truth = small(seed)
    accuracy = float(np.max(np.mean(predictions.label == truth[:, None], axis=0)))
    goal = Goal("cheapest", floor=accuracy) if seed % 2 else Goal("most_accurate", budget=2.0)
    found = recommend(predictions, truth, replace(goal, by_class=False))
    ways = list(every_way(from_cheap(predictions, None)))
    assert found.effort.tried + found.effort.dropped == found.effort.ways == len(ways)
    assert not found.effort.left
    brute = [aim_and_violation(p, predictions, truth, goal) for way in ways for p in every_threshold(way, predictions)]
    assert no_better(aim_and_violation(found.policy, predictions, truth, goal), brute)
    assert found.exact
    # the front is that of all points: none of them lies before it
    front = np.array([(p.cost_per_1000, p.accuracy) for p in found.front])
    for p in (p for way in ways for p in every_threshold(way, predictions)):
        o = replay(p, predictions)
        cost, right = 1000 * o.cost.mean(), np.mean(o.label == truth)
        assert ((front[:, 0] <= cost + 1e-9) & (front[:, 1] >= right - 1e-12)).any()
    for p in (*found.front, *(p for points in found.fronts.values() for p in points)):
        o = replay(p.policy, predictions)
        assert (p.cost_per_1000, p.accuracy) == pytest.approx((1000 * o.cost.mean(), np.mean(o.label == truth)))


@pytest.mark.parametrize(("seed", "n", "proven"), [(6, 30, False), (11, 30, False), (21, 30, False), (7, 20, True)])
def test_three_thresholds_that_no_bound_settles_are_searched_from_several_starts(seed, n, proven):
    """From the point of its front alone the first three end at two to six more mistakes than there need be."""
    predictions, truth = small(seed, n_tiers=4, n=n)
    goal = Goal("most_accurate", budget=2.0, by_class=False)
    way = Policy(Cascade((0.5,) * 3), tuple(answering(from_cheap(predictions, None))))
    found = recommend(predictions, truth, goal, ways=[way])
    assert (found.exact, found.method.startswith("exact: a bound")) == (proven, proven)
    brute = [aim_and_violation(p, predictions, truth, goal) for p in every_threshold(way, predictions)]
    assert no_better(aim_and_violation(found.policy, predictions, truth, goal), brute)


@pytest.mark.parametrize("seed", [6, 21, 18, 180])
def test_three_thresholds_are_searched_from_starts_of_which_each_is_needed_somewhere(seed):
    """Without its first, second, third, last start the search ends above what brute force finds, in this order."""
    predictions, truth = small(seed, n_tiers=4, n=20)
    goal = Goal("most_accurate", budget=2.0)
    way = Policy(Cascade((0.5,) * 3), tuple(answering(from_cheap(predictions, None))))
    found = search(way, predictions, truth, goal)
    brute = [aim_and_violation(p, predictions, truth, goal) for p in every_threshold(way, predictions)]
    assert no_better(aim_and_violation(found.policy, predictions, truth, goal), brute)


@pytest.mark.parametrize("seed", [2, 5])
def test_what_is_called_proven_is_the_best_of_its_way_though_the_best_way_was_not_beaten(seed):
    tune, goal = of_three(60, seed=seed), Goal("cheapest", floor=0.85, by_class=False)
    ways = [Policy(Cascade((0.5, 0.5)), tiers) for tiers in permutations(tune.predictions.tiers)]
    found = recommend(tune.predictions, tune.truth, goal, ways=ways)
    assert found.exact
    assert "exact over all" in found.method
    assert found.candidates[0].exact
    assert not all(c.exact for c in found.candidates)
    for c in found.candidates:
        proven = search(c.policy, tune.predictions, tune.truth, goal)
        mine = goal.terms(replay(c.policy, tune.predictions), tune.truth).sum(axis=1)
        assert not c.exact or best(np.stack([mine, proven.totals], axis=1), goal.caps(60)) == 0
        assert c.exact == ("not proven best" not in c.method)


def test_no_way_ends_at_rules_or_at_a_gate_and_no_tier_stands_in_one_that_is_never_asked():
    predictions, truth = small(3, n=60)
    ways = list(every_way(predictions.tiers))
    assert {type(w.pattern) for w in ways} == {kind for kind in PATTERNS.values() if kind is not Assisted}
    answers = [t for t in predictions.tiers if t.kind != "rules" and not t.scores]
    picker = Tier("person", "human", picks_from=answers[0].name)
    picked = [w for w in every_way((*predictions.tiers, picker)) if picker in w.tiers]
    assert {type(w.pattern) for w in picked} == {Assisted, Triage}
    assert all(w.tiers[0] == answers[0] and w.tiers[1] == picker for w in picked)
    assert len(set(ways)) == len(ways)
    sizes = [len(w.tiers) for w in ways]
    assert sizes == sorted(sizes)
    votes = Ensemble, TriageEnsemble
    assert all(w.tiers[-1].kind == "recorded" for w in ways if not isinstance(w.pattern, votes) or _judged(w))
    for floor in (0.0, 0.5, 0.9):
        found = recommend(predictions, truth, Goal("cheapest", floor=floor))
        assert replay(found.policy, predictions).asked.any(axis=0).all()


def _judged(policy):
    return isinstance(policy.pattern, Ensemble) and policy.pattern.agreement is not None


def test_a_search_that_is_broken_off_says_so_and_returns_the_best_so_far():
    predictions, truth = small(1, n_tiers=4, n=60)
    seen = []
    found = recommend(predictions, truth, Goal("most_accurate"), progress=seen.append, cancel=lambda: len(seen) > 9)
    assert found.effort.left > 0
    assert not found.exact
    assert "left out" in found.method
    assert [p.done for p in seen] == list(range(1, len(seen) + 1))
    last, best = seen[-1], replay(seen[-1].best, predictions)
    shown = 1000 * best.cost.mean(), np.mean(best.label == truth)
    assert (last.cost_per_1000, last.accuracy) == pytest.approx(shown)


def test_a_way_that_costs_more_and_is_right_no_more_often_is_dropped_unless_something_else_counts():
    tiers, truth = tiers_of(3), np.zeros(20, dtype=int)
    predictions = table(tiers, [[(0, 0.9), (0, 0.9), (0, 1.0)]] * 16 + [[(1, 0.9), (1, 0.9), (1, 1.0)]] * 4)
    predictions.latency[:] = 1.0, 0.1, 1.0  # the second is dearer than the first, and quicker
    ways = [Policy(Triage(0.5), (tiers[j], tiers[2])) for j in (0, 1)]
    plain, quick = (
        recommend(predictions, truth, Goal("most_accurate", seconds=s, by_class=False), ways=ways) for s in (None, 0.5)
    )
    assert (plain.policy.names, plain.effort.tried, plain.effort.dropped) == (ways[0].names, 1, 1)
    assert (quick.policy.names, quick.effort.tried, quick.effort.dropped) == (ways[1].names, 2, 0)
    flat, by_class = (Goal("least_total", wrong=w) for w in (0.01, WRONG))
    assert flat.by_cost_and_wrong
    assert not by_class.by_cost_and_wrong


def test_what_was_found_before_is_not_lost_for_lack_of_time_and_changes_nothing_with_time_enough():
    predictions, truth = small(1, n_tiers=4, n=60)
    goal = Goal("cheapest", floor=0.7)
    whole = recommend(predictions, truth, goal)
    known = [c.policy for c in whole.candidates]
    again = recommend(predictions, truth, goal, known=known)
    assert again.policy == whole.policy
    points = [[(p.cost_per_1000, p.accuracy) for p in found.front] for found in (again, whole)]
    np.testing.assert_allclose(*points)
    assert again.effort.ways == again.effort.tried + again.effort.dropped == whole.effort.ways
    none, short = (recommend(predictions, truth, goal, known=k, cancel=lambda: True) for k in ((), known))
    assert not none.feasible
    assert short.policy == whole.policy
    assert short.effort.tried + short.effort.left == short.effort.ways == whole.effort.ways


def test_ways_are_measured_on_the_rows_of_their_own_tiers():
    tune = made(600)
    third = replace(TIERS[1], name="other", price=0.001)
    whole = Predictions.from_answers(
        (*TIERS, third), tune.predictions.classes, [tune.predictions.answers(j) for j in (0, 1, 1)]
    )
    whole.confidence[:, 2], whole.label[:, 2] = np.where(np.arange(600) < 200, 1.0, np.nan), tune.truth
    for values in (whole.cost, whole.latency):
        values[200:, 2] = np.nan
    whole.cost[:200, 2] = 0.001
    whole.label[200:, 2] = UNKNOWN
    found = recommend(whole, tune.truth, Goal("cheapest", floor=1.0))
    assert found.policy.names[-1] == "other"  # it alone is always right, where it was asked
    assert found.tune.n_rows == found.n_common == 200


@pytest.mark.parametrize("pays", [True, False])
def test_thresholds_per_class_are_chosen_only_where_they_pay_on_held_out_rows(pays):
    tune = made(3000, n_classes=6) if pays else flat(3000, n_classes=6)
    found = suggested([POLICY], tune, Goal("cheapest", floor=0.9))
    assert bool(found.policy.pattern.by_class) == pays
    assert (found.pull is not None) == pays
    assert found.selection.finalists == 5
    assert found.selection.saved_on_tune == pytest.approx(found.selection.saved_held_out, abs=0.1)


def test_the_more_rows_a_class_has_the_less_its_own_threshold_must_win_by():
    for n, wins in ((1_500, False), (12_000, True)):
        tune = made(n, n_classes=2)
        on = RowSet.of(np.arange(n), tune.predictions, tune.truth, 0)
        tried = Try(POLICY, "triage", on, None, (0.0, 0.0, 0.0), n, True)
        cost = np.zeros((2, n))
        cost[0] = np.where(np.arange(n) % 2, 1.0, -1.0) + 1 / np.sqrt(n)  # one standard error more than nothing
        one, own = Finalist(tried, None, cost), Finalist(tried, 0.0, np.zeros((2, n)))
        assert (Judge(Goal("cheapest"), 0.0).champion([one, own]) is own) == wins


def flat(n, *, seed=0, n_classes=4):
    """Predictions as `made`, of a weak tier that is as good in every class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    confidence = np.clip(rng.beta(4, 1.5, n), 0.01, 1.0)
    label = [
        np.where(rng.random(n) < right, truth, (truth + rng.integers(1, n_classes, n)) % n_classes)
        for right in (confidence, 0.92)
    ]
    made_up = made(n, seed=seed, n_classes=n_classes).predictions
    return Labelled(
        replace(made_up, label=np.column_stack(label), confidence=np.column_stack([confidence, np.ones(n)])), truth
    )


def test_a_floor_that_test_misses_is_said_and_a_shift_is_told_from_optimism():
    tune = made(1500)
    goal = Goal("cheapest", floor=0.9, by_class=False)
    assert suggested([POLICY], tune, goal, test=made(1500, seed=1)).contradiction is None
    test = made(1500, seed=2)
    wrong = np.random.default_rng(0).random(1500) < 0.15
    worse = np.where(wrong[:, None], (test.truth[:, None] + 1) % 4, test.predictions.label)
    found = suggested([POLICY], tune, goal, test=Labelled(replace(test.predictions, label=worse), test.truth))
    assert found.contradiction.shifted
    assert found.contradiction.p_value < 0.001
    assert "below the floor of 90.0%" in found.contradiction.words


@pytest.mark.parametrize("helps", [False, True])
def test_a_weaker_tier_has_the_last_word_only_where_that_pays_beyond_chance(helps):
    rng = np.random.default_rng(0)
    n = 2000
    truth, sure = rng.integers(0, 4, n), rng.beta(4, 1.5, n)
    unsure = rng.random(n) < 0.2
    # on rows of which the llm is less sure the last tier is as good or better, on all others worse, and so in all
    knows = [rng.random(n) < sure, rng.random(n) < np.where(unsure & helps, 0.5, 0.9)]
    knows.append(rng.random(n) < np.where(unsure, 0.9, 0.5))
    stated = [sure, np.where(unsure, np.round(rng.uniform(0.3, 0.7, n), 2), 0.9), np.ones(n)]
    tiers = (Tier("classifier", "classifier"), Tier("llm", "recorded", 0.003), Tier("small", "recorded", 0.0001))
    free = np.zeros(n)
    answers = [
        Answers(np.where(right, truth, (truth + 1) % 4), c, np.full(n, t.price), free)
        for right, c, t in zip(knows, stated, tiers, strict=True)
    ]
    table = Predictions.from_answers(tiers, ("a", "b", "c", "d"), answers)
    way = Policy(Cascade((0.5, 0.5)), tiers)
    ways = [Policy(Triage(), tiers[:2]), way]
    found = recommend(table, truth, Goal("most_accurate"), ways=ways)
    assert (found.policy.names == way.names) == helps


def test_with_several_limits_each_is_tried_with_its_own_cap():
    # aim, kept by the first limit, kept by the second: the cheapest that keeps the first keeps the second too
    points = np.array([[1.0, 2.0, 3.0], [9.0, 5.0, 1.0], [1.0, 1.0, 1.0]])
    group = Group(np.array([0.2, 0.5, 0.8]), np.vstack([points[:1], np.zeros((1, 3)), points[1:]]))
    found = merge_groups([group], np.array([5.0, 1.0]), exact=True)
    assert (found.picked, found.exact) == ([1], True)
    # and the other way round: the cheapest that keeps the second keeps the first, and not that of the first the second
    swapped = Group(group.thresholds, group.totals[[0, 1, 3, 2]])
    again = merge_groups([swapped], np.array([1.0, 5.0]), exact=True)
    assert (again.picked, again.exact) == ([1], True)


def of_three(n, *, seed=0):
    """Predictions as `made`, in groups of two rows, and of a third tier between them."""
    side, rng = made(n, seed=seed), np.random.default_rng(seed + 9)
    p, right = side.predictions, rng.random(n) < 0.84
    sure = np.clip(np.where(right, rng.beta(6, 2, n), rng.beta(3, 3, n)), 0.01, 1)
    price = np.full(n, 0.0008)
    middle = Answers(np.where(right, side.truth, (side.truth + 1) % 4), sure, price, price + 0.1)
    tiers = (p.tiers[0], Tier("middle", "recorded", price=0.0008), p.tiers[1])
    together = Predictions.from_answers(tiers, p.classes, [p.answers(0), middle, p.answers(1)])
    return Labelled(together, side.truth, np.arange(n) // 2)


@pytest.mark.parametrize(
    ("goal", "names", "thresholds", "held_out", "bands"),
    [
        (Goal("cheapest", floor=0.9), "cml", (0.65007, 0.18862), (0.22857, 0.89), (0.57161, 0.70413, 0.05268, 0.41737)),
        (
            Goal("most_accurate", budget=1.0),
            "cml",
            (0.85480, 0.65023),
            (0.95514, 0.95286),
            (0.79096, 0.88353, 0.60681, 0.76270),
        ),
        (
            Goal("least_total", wrong=0.02),
            "mcl",
            (0.66049, 0.75149),
            (1.21571, 0.95857),
            (0.63294, 0.67491, 0.69765, 0.75149),
        ),
        (
            Goal("most_accurate", seconds=0.2),
            "mcl",
            (0.60044, 0.56796),
            (0.66286, 0.91714),
            (0.51540, 0.67491, 0.35488, 0.70413),
        ),
    ],
)
def test_the_same_rows_give_the_same_suggestion_in_every_version(goal, names, thresholds, held_out, bands):
    tune, test = of_three(700), of_three(500, seed=1)
    found = recommend(tune.predictions, tune.truth, goal, test=test, groups=tune.groups)
    assert [n[0] for n in found.policy.names] == list(names)
    assert found.policy.pattern.thresholds == pytest.approx(thresholds, abs=1e-5)
    assert "47 searched; chosen among the best 32 on 700 held-out tune rows" in found.method
    said, o = found.selection, replay(found.policy, tune.predictions)
    assert (said.reference, said.n_rows, said.finalists, found.n_common) == ("llm", 700, 32, 700)
    assert (said.cost_on_tune, said.accuracy_on_tune) == pytest.approx(
        (1000 * o.cost.mean(), np.mean(o.label == tune.truth))
    )
    assert (said.cost_held_out, said.accuracy_held_out) == pytest.approx(held_out, abs=1e-5)
    assert said.reference_cost == pytest.approx(3.0)
    again = stability(found, tune, measured_on=test, n=20)
    assert [x for line in again.thresholds for x in line[2:]] == pytest.approx(bands, abs=1e-5)
    assert len(found.candidates) == 12
    for name in found.fronts:
        first = next((c.tune for c in found.candidates if c.feasible and name_of(c.policy) == name), None)
        if first is not None:
            best = found.best_of(name)
            assert (best.cost_per_1000, best.accuracy) == (first.cost_per_1000.value, first.accuracy.value)


@pytest.mark.parametrize(
    ("goal", "price"),
    [
        (Goal("cheapest", floor=0.95), 0.02),  # out of reach: the slope at the end
        (Goal("cheapest", floor=0.9), 0.02),
        (Goal("cheapest", floor=0.8), 0.001 / 0.3),
        (Goal("cheapest", floor=0.5), 0.0),  # kept by the cheapest: more right answers are worth nothing
        (Goal("cheapest"), 0.0),
        (Goal("most_accurate", budget=0.5), 0.001 / 0.3),
        (Goal("most_accurate", budget=1.0), 0.02),
        (Goal("most_accurate", budget=9.0), 0.02),
        (Goal("most_accurate"), 1e6),
        (Goal("least_total", wrong=0.5), 0.0),
    ],
)
def test_a_wrong_answer_is_priced_by_the_slope_of_the_front_where_the_goal_binds(goal, price):
    # three corners, and a point that is on the front and not on its hull
    cost, wrong = np.array([0.0, 0.001, 0.002, 0.003]), np.array([0.5, 0.2, 0.18, 0.1])
    assert price_of_wrong(goal, cost, wrong) == pytest.approx(price if price != 0.02 else 0.002 / 0.1)
    alone = price_of_wrong(goal, cost[:1] + 0.002, wrong[:1])
    nothing = goal.kind == "least_total" or goal.floor == 0.5 or (goal.kind == "cheapest" and goal.floor is None)
    assert alone == (0.0 if nothing else 1e6)


def test_rows_that_are_held_out_come_in_five_parts_of_whole_groups():
    assert folds_of(99, None, seed=0) is None
    assert sorted(np.bincount(folds_of(101, None, seed=0))) == [20, 20, 20, 20, 21]
    groups = np.repeat(np.arange(100), 3)
    fold = folds_of(300, groups, seed=1)
    assert (fold.reshape(100, 3) == fold[::3, None]).all()
    assert np.bincount(fold).tolist() == [60] * 5
    assert folds_of(300, groups // 2, seed=1) is None  # fifty groups


def finalist(cost, wrong, *more, rows=None, pull=None):
    """Return a finalist with these measures of the rows that it was measured on."""
    held_out = np.array([cost, wrong, *more], dtype=float)
    on = SimpleNamespace(rows=np.arange(held_out.shape[1]) if rows is None else np.array(rows))
    return Finalist(SimpleNamespace(on=on, pattern="p", policy=SimpleNamespace(names=("a",))), pull, held_out)


def test_a_finalist_is_held_out_of_each_fold_that_it_has_rows_in():
    tune, goal = made(150), Goal("cheapest", floor=0.85)
    on = RowSet.of(np.arange(30, 150), tune.predictions, tune.truth, 0)
    fold = np.resize([0, 2, 3], 150)  # none of its rows is in the second and the last
    fold[:30] = 1
    found, nothing = (Finalist(Try(POLICY, "triage", on, None, (0.0, 0.0, 0.0), 120, True)) for _ in range(2))
    hold_out(found, fold, goal)
    for f in (0, 2, 3):
        held = fold[30:] == f
        policy = search(POLICY, on.predictions.take(~held), on.truth[~held], goal).policy
        expected = of_replay(policy, on.predictions.take(held), on.truth[held], goal)
        np.testing.assert_allclose(found.held_out[:, held], expected)
    hold_out(nothing, np.where(np.arange(150) < 30, 1, 2), goal)
    assert nothing.held_out is None


def test_finalists_are_compared_on_the_rows_that_both_were_measured_on():
    judge = Judge(Goal("cheapest", floor=0.9), 2.0)
    a = finalist([1, 1, 1, 1], [0, 1, 0, 0])
    b = finalist([0, 0, 9], [1, 0, 0], rows=[0, 1, 7])  # 2 and 0, where the other is at 1 and 3
    assert judge.better(b, a)
    assert not judge.better(a, b)
    assert judge.better(a, b, np.arange(8) == 0)
    assert not judge.better(a, finalist([5], [5], rows=[9]))  # no row in common
    c = finalist([0, 0, np.nan], [1, 0, np.nan], rows=[0, 1, 2])
    assert judge.better(c, a) == judge.better(b, a)
    own = Judge(Goal("least_total", wrong=0.5), 2.0)
    assert own.better(finalist([9, 9], [1, 1], [1, 1]), finalist([0, 0], [0, 0], [2, 2]))


def test_a_finalist_is_better_for_sure_by_so_many_standard_errors_of_groups():
    gain = np.tile([3.0, -1.0, 2.0, 0.0], 16)  # 1 on average, standard deviation √(5/2), of 64 rows: 5.06 of its errors
    new, old = finalist(-gain, 0 * gain), finalist(0 * gain, 0 * gain)
    new.tried.on = old.tried.on
    z = np.sqrt(64) / np.sqrt(2.5)
    alone, pairs = (Judge(Goal("cheapest"), 0.0, groups) for groups in (None, np.arange(64) // 2))
    assert alone.better(new, old, sure=z - 0.01)
    assert not alone.better(new, old, sure=z + 0.01)
    four, z_of_four = Judge(Goal("cheapest"), 0.0, np.arange(64) % 4), 64 / np.sqrt(10 * 16**2)
    assert four.better(new, old, sure=z_of_four - 0.01)
    assert not four.better(new, old, sure=z_of_four + 0.01)
    assert pairs.better(new, old, sure=z + 0.1)  # 3 and −1, 2 and 0: the sums of pairs do not differ


def test_what_is_late_beyond_chance_loses_and_a_champion_of_few_tiers_is_as_good():
    judge = Judge(Goal("most_accurate", seconds=1.0), 1.0)
    n = 100  # five of a hundred may be late, and 4.4 more by chance
    late, on_time = (finalist(np.zeros(n), np.zeros(n), np.arange(n) < k) for k in (10, 9))
    assert judge.slow(late.held_out)
    assert not judge.slow(on_time.held_out)
    dear = finalist(np.ones(n), np.ones(n), np.zeros(n))
    assert judge.better(dear, late)
    assert judge.better(on_time, dear)
    plain = Judge(Goal("most_accurate"), 1.0)
    rows = np.arange(n)
    chosen = finalist(np.ones(n), rows < 20)
    as_cheap, dearer = (finalist(np.full(n, c), (rows >= 20) & (rows < 40)) for c in (1.05, 1.06))
    worse = finalist(np.ones(n), rows >= 40)
    assert plain.as_good(chosen, [dearer, worse]) is None
    assert plain.as_good(chosen, [dearer, as_cheap, worse]) is as_cheap
    assert plain.as_good(chosen, [replace(as_cheap, held_out=None)]) is None


@pytest.mark.parametrize("tried_on_all", [2, 100])
def test_of_many_rows_a_sample_tells_which_ways_are_searched_on_all(monkeypatch, tried_on_all):
    tune, goal = of_three(700), Goal("most_accurate", budget=1.0, by_class=False)
    whole = recommend(tune.predictions, tune.truth, goal)
    monkeypatch.setattr("hybrid.tuning.explore.MOST", 400)
    monkeypatch.setattr("hybrid.tuning.explore.SAMPLE", 300)
    monkeypatch.setattr("hybrid.tuning.explore.FULL", tried_on_all)
    found = recommend(tune.predictions, tune.truth, goal)
    assert found.policy == whole.policy
    assert found.tune == whole.tune
    assert found.effort.tried == whole.effort.tried == 47
    assert (found.effort.sketched > 0) == (tried_on_all == 2)
    assert ("on a sample of rows only" in found.method) == (tried_on_all == 2)
    assert found.exact == (whole.exact and tried_on_all == 100)
    for p in found.front[:: len(found.front) // 5]:
        o = replay(p.policy, tune.predictions)
        assert (p.cost_per_1000, p.accuracy) == pytest.approx((1000 * o.cost.mean(), np.mean(o.label == tune.truth)))


def test_a_limit_is_contradicted_where_even_the_cautious_end_of_test_breaks_it():
    tune, test = made(1000), made(1000, seed=1)
    policy = Policy(Triage(0.8), TIERS)
    measured = summarize(replay(policy, test.predictions), test.truth)
    cost, right = measured.cost_per_1000, replay(policy, test.predictions).label == test.truth

    def says(**limits):
        found = contradiction(policy, Goal("most_accurate", **limits), tune, test, measured)
        return found and found.what.count("On test")

    assert says(budget=cost.low + 1e-9) is None
    assert says(budget=cost.low - 1e-9) == 1
    at = np.linspace(right.mean(), 1, 2000)
    fits = at[[surprise(right, x) > 0.05 for x in at]].max()
    assert says(floor=fits) is None
    assert says(floor=fits + 0.002) == 1
    assert says(floor=fits + 0.002, budget=cost.low - 1e-9) == 2
    assert contradiction(policy, Goal("cheapest", floor=1.0), tune, None, None) is None


def test_of_many_rows_few_ways_are_held_out_and_the_best_of_each_pattern_is_among_them(monkeypatch):
    tune, goal = of_three(300), Goal("most_accurate", budget=1.0, by_class=False)
    monkeypatch.setattr(sys.modules["hybrid.tuning.recommend"], "FINAL_ROWS", 0)
    explorer = Explorer(tune.predictions, tune.truth, goal, 30.0)
    explorer.run(every_way(from_cheap(tune.predictions, None)))
    found = [f.tried for f in _finalists(explorer, goal)]
    assert [t.key for t in found] == sorted(t.key for t in found)
    assert [t.key for t in found[:4]] == sorted(t.key for t in explorer.tries)[:4]
    best = {}
    for t in sorted(explorer.tries, key=lambda t: t.key):
        best.setdefault(t.pattern, t)
    assert {id(t) for t in best.values()} <= {id(t) for t in found}
    assert 4 < len(found) <= 4 + len(best) - 1


def test_what_bounds_rest_on_is_counted_on_the_rows_that_were_answered():
    predictions, truth = small(5)
    on = RowSet.of(np.arange(30), predictions, truth, 0)
    right = predictions.label == truth[:, None]
    few, many = (RowSet.of(np.arange(n) % 30, predictions, truth, 0) for n in (4_000, 4_001))
    assert (few.sampled, len(few.sample), many.sampled, len(many.sample)) == (False, 4_000, True, 2_000)
    assert (np.diff(many.sample) > 0).all()
    assert on.mean == pytest.approx(predictions.cost.mean(axis=0))
    assert on.least == pytest.approx(predictions.cost.min(axis=0))
    for columns in ([0], [1, 2], [0, 2], [0, 1, 2]):
        assert on.right(columns) == pytest.approx(right[:, columns].any(axis=1).mean())


@pytest.mark.parametrize(
    ("numbers", "end"),
    [
        ((0.5, 0.951, 0.6, 0.94, 2.0), "So 5.0 points of the saving and 1.1 of the accuracy are the luck of choosing."),
        ((0.5, 0.9, 0.6, 0.905, 2.0), "So there it saves 5.0 points less, and is 0.5 points more accurate."),
        ((0.61, 0.92, 0.6, 0.9, 2.0), "So there it saves 0.5 points more, and is 2.0 points less accurate."),
        ((0.0, 0.92, 0.0, 0.9, 0.0), "when choosing is repeated without the rows that are measured: 2.0 points are"),
        ((0.0, 0.9, 0.0, 0.9, 0.0), "0.0 points are the luck of choosing."),
        ((0.0, 0.9, 0.0, 0.92, 0.0), "nothing of it is the luck of choosing."),
    ],
)
def test_how_much_is_the_luck_of_choosing_is_said_in_points(numbers, end):
    said = Selection("llm", 100, 3, *numbers).words
    assert end in said
    assert ("it saves 75.0% of what llm for all costs, at 95.1% right" in said) == (numbers[1] == 0.951)


FIVE = tuple(Tier(name, "recorded", price=0.001) for name in "abcde")


def way_over(names, kind=Cascade):
    tiers = tuple(t for t in FIVE if t.name in names)
    return Policy(kind((0.5,) * (len(tiers) - 1)) if kind is Cascade else kind(), tiers)


def tried(names, aim, kind=Cascade):
    way = way_over(names, kind)
    return SimpleNamespace(policy=way, key=(0.0, aim, 0.0), pattern=name_of(way), whole=True)


def test_of_many_ways_those_come_first_that_the_best_of_fewer_tiers_are_in_and_no_pattern_goes_without(monkeypatch):
    monkeypatch.setattr("hybrid.tuning.explore.MANY", 7)
    monkeypatch.setattr("hybrid.tuning.explore.BEAM", 1)
    done = []
    monkeypatch.setattr(Explorer, "_sketch", lambda self, way, name: done.append((name, "".join(way.names))))
    predictions, truth = small(0)
    pairs = [tried("ab", 7), *(tried(n, k) for n, k in (("ab", 1), ("ac", 4), ("bc", 5), ("bd", 6), ("cd", 3)))]
    triples = ["bcd", "acd", "abd", "abc"]
    ways = {(name, 3): [way_over(n, k) for n in triples] for name, k in (("cascade", Cascade), ("ensemble", Ensemble))}
    Explorer(predictions, truth, Goal("cheapest"), 30.0, tries=pairs)._try_all(ways)
    ranked = ["abc", "abd", "acd", "bcd"]  # 1 4 5, then 1 6 and none of a and d, 3 4 and none, 3 5 6
    both = [(name, n) for n in ranked for name in ("cascade", "ensemble")]
    assert done == both
    monkeypatch.setattr("hybrid.tuning.explore.MANY", 8)
    Explorer(predictions, truth, Goal("cheapest"), 30.0, tries=pairs)._try_all(ways)
    assert done[8:] == [(name, n) for name in ("cascade", "ensemble") for n in triples]


def test_larger_ways_are_made_from_the_best_of_their_pattern_with_one_tier_less(monkeypatch):
    monkeypatch.setattr("hybrid.tuning.explore.MANY", 4)
    monkeypatch.setattr("hybrid.tuning.explore.BEAM", 1)
    predictions, truth = small(0)
    before = [tried("ade", 3), tried("abc", 2), tried("bde", 1, Ensemble), tried("ab", 0)]
    explorer = Explorer(predictions, truth, Goal("cheapest"), 30.0, tries=before)
    ways = [way_over(n) for n in ("abcd", "abce", "abde", "acde", "bcde")]
    assert explorer._beam("cascade", 4, ways) == ways[:2]
    assert explorer.left == 3
    assert explorer._beam("cascade", 4, ways[1:]) == ways[1:]  # these are few
    assert explorer._beam("cascade", 3, ways) == ways  # and of three tiers all are tried
    assert explorer.left == 3


def test_what_is_the_same_of_a_way_whatever_its_thresholds_are():
    same = [Policy(p, FIVE[:3]) for p in (Ensemble("majority"), Ensemble("majority", cheap_below=0.1))]
    others = [Policy(p, FIVE[:3]) for p in (Ensemble("majority", agreement=0.7), Ensemble(), Cascade((0.5, 0.5)))]
    others += [Policy(Ensemble("majority"), FIVE[1:4])]
    assert _key_of(same[0]) == _key_of(same[1])
    assert len({_key_of(w) for w in (same[0], *others)}) == 5
    assert _key_of(others[0]) == _key_of(Policy(Ensemble("majority", agreement=0.9), FIVE[:3]))
    by_class = [Policy(Triage(0.5, own), FIVE[:2]) for own in ((), (0.1, None))]
    assert _key_of(by_class[0]) == _key_of(by_class[1])


def test_a_wrong_answer_is_priced_on_the_front_over_the_rows_of_the_best_way():
    fronts, rows = {}, [SimpleNamespace() for _ in range(9)]
    on = sorted(rows, key=id)[4]
    for k, other in enumerate(rows):
        fronts["triage", id(other)] = Front()
        points = (np.array([1.0, 3.0]), np.array([0.3, 0.1])) if other is on else (np.zeros(1), np.full(1, k / 100))
        fronts["triage", id(other)].add(*points, None, np.zeros((2, 1)))
    fronts["cascade", id(on)] = Front()
    fronts["cascade", id(on)].add(np.array([2.0, 4.0]), np.array([0.2, 0.1]), None, np.zeros((2, 2)))
    cost, wrong = _main_front(SimpleNamespace(fronts=fronts, best=lambda: SimpleNamespace(on=on)))
    assert (cost.tolist(), wrong.tolist()) == ([1, 2, 3], [0.3, 0.2, 0.1])


def test_a_limit_is_exceeded_by_shares_of_it_which_add_up():
    totals = np.array([[0.0, 0, 0], [0, 0, 0], [2, 3, 6], [5, 9, 8]])
    assert violation(totals, np.array([4.0, 8.0])).tolist() == [0, 0.125, 0.5]
    assert violation(totals[:3], np.array([0.0])) == pytest.approx([2e6, 3e6, 6e6])
    with pytest.raises(ValueError, match="zip"):
        violation(totals, np.array([4.0]))


@pytest.mark.parametrize("size", [1, 2])
def test_the_stability_band_is_that_of_searches_over_rows_or_groups_that_were_drawn_again(size):
    tune, other = made(120), made(90, seed=1)
    tune = replace(tune, groups=None if size == 1 else np.arange(120)[::-1] // size)
    goal = Goal("cheapest", floor=0.85, by_class=False)
    chosen = suggested([POLICY], tune, goal)
    band = stability(chosen, tune, measured_on=other, n=11, seed=3)
    rng, units, found = np.random.default_rng(3), 120 // size, []
    for _ in range(11):
        drawn = rng.multinomial(units, np.full(units, 1 / units))
        counts = drawn if size == 1 else np.repeat(drawn, 2)[::-1]
        policy = search(POLICY, tune.predictions, tune.truth, goal, weights=counts.astype(float)).policy
        o = replay(policy, other.predictions)
        shares = np.mean(o.label == other.truth), np.mean(o.asked[:, 1]), 1000 * np.mean(o.cost)
        found.append((policy.pattern.threshold, *shares))
    low, high = np.quantile(found, [0.05, 0.95], axis=0)
    ((_, value, *ends),) = band.thresholds
    assert value == chosen.policy.pattern.threshold
    measured = (tuple(ends), band.accuracy, band.escalation_rate, band.cost_per_1000)
    for k, pair in enumerate(measured):
        assert pair == pytest.approx((low[k], high[k]))
        assert low[k] < high[k]


def test_a_way_keeps_what_is_chosen_and_no_threshold_that_was_found():
    three = (*TIERS, Tier("small", "recorded", price=0.0001))
    found = {
        Triage(0.2, (0.1, None)): Triage(),
        Cascade((0.2, 0.3)): Cascade((0.85, 0.85)),
        Ensemble("majority", agreement=0.7, cheap_below=0.5): Ensemble("majority", agreement=0.7),
        TriageEnsemble(0.2, strategy="majority"): TriageEnsemble(strategy="majority"),
    }
    for pattern, way in found.items():
        tiers = TIERS if isinstance(pattern, Triage) else three
        assert way_of(Policy(pattern, tiers)) == Policy(way, tiers)


def test_a_way_of_fewer_tiers_that_does_as_well_takes_the_place_of_the_champion():
    rows = SimpleNamespace()

    def way(names, key, *, on=rows, whole=True):
        return SimpleNamespace(policy=SimpleNamespace(names=tuple(names)), key=key, on=on, whole=whole)

    best, fewer = way("abc", (0.0, 2.0, 0.1)), way("ac", (0.0, 2.0, 0.1))
    others = [
        way("ab", (0.0, 2.1, 0.1)),
        way("ab", (0.0, 2.0, 0.2)),
        way("ab", (0.1, 2.0, 0.1)),
        way("ad", (0.0, 2.0, 0.1)),  # another tier
        way("acb", (0.0, 2.0, 0.1)),  # as many
        way("ab", (0.0, 2.0, 0.1), on=SimpleNamespace()),
        way("ab", (0.0, 2.0, 0.1), whole=False),
    ]
    champion = SimpleNamespace(tried=best, pull=20.0)
    assert _trimmed(SimpleNamespace(tries=[*others, best]), champion) is best
    assert champion.pull == 20
    assert _trimmed(SimpleNamespace(tries=[*others, fewer, best]), champion) is fewer
    assert champion.pull is None


@pytest.mark.parametrize(
    ("goal", "chosen"),
    [
        (Goal("cheapest", floor=0.8), 2),
        (Goal("cheapest", floor=0.95), 3),  # nothing reaches it: the nearest
        (Goal("cheapest"), 0),
        (Goal("most_accurate", budget=3.0), 2),
        (Goal("most_accurate", budget=0.5), 0),  # nothing keeps it, and two are equally near: the more accurate
        (Goal("most_accurate", budget=0.0), 0),
        (Goal("most_accurate"), 3),
        (Goal("least_total", wrong=0.01), 2),  # USD per 1,000: 1 + 3, 1 + 4, 2 + 1.5, 8 + 1.2
        (Goal("least_total", wrong=0.0001), 0),
        (Goal("least_total", wrong=0.1), 2),  # 31, 41, 17 and 20
        (Goal("least_total", wrong=0.0, floor=0.65), 0),
        (Goal("least_total", wrong=((0.0, 9.0), (9.0, 0.0))), 0),
    ],
)
def test_the_best_of_a_pattern_is_read_off_its_front_where_it_is_no_candidate(goal, chosen):
    numbers = ((1.0, 0.7), (1.0, 0.6), (2.0, 0.85), (8.0, 0.88))
    points = tuple(Point(POLICY, *of, 9) for of in numbers)
    found = Recommendation(goal, POLICY, False, (), "", False, None, None, (), fronts={"triage": points})
    assert found.best_of("triage") is points[chosen]
    assert found.best_of("cascade") is None


def test_a_long_front_is_thinned_to_its_ends_and_even_steps_between():
    front, n = Front(), 500
    owner = SimpleNamespace(placed=lambda values: float(values[0]), on=range(7))
    front.add(np.arange(n) / 1000, 0.9 - np.arange(n) / 1000, owner, np.arange(n)[:, None])
    found = _points(front)
    assert len(found) == 120
    assert [found[k].policy for k in (0, 1, 119)] == [0, 4, 499]
    assert (found[1].cost_per_1000, found[1].accuracy, found[1].n_rows) == pytest.approx((4, 0.104, 7))


@pytest.mark.parametrize("seed", range(5))
def test_a_front_is_what_no_point_of_any_owner_beats_and_of_equal_points_the_first(seed):
    rng = np.random.default_rng(seed)
    front, points = Front(), []
    for owner in range(6):
        cost, wrong = rng.integers(0, 12, (2, 4)).astype(float)
        front.add(cost, wrong, owner, np.arange(4.0)[:, None])
        points += [(c, w, owner, k) for k, (c, w) in enumerate(zip(cost, wrong, strict=True))]
    expected = {}
    for c, w, owner, k in points:
        if not any(a <= c and b <= w and (a, b) != (c, w) for a, b, *_ in points):
            expected.setdefault((c, w), (owner, k))
    assert {(c, w): (owner, v[0]) for c, w, owner, v in front.points()} == expected
    assert front.owners() == sorted({owner for owner, _ in expected.values()})
    corners = {
        i
        for i, (c, w) in enumerate(zip(front.cost, front.wrong, strict=True))
        if not any(
            a < c < b and w >= v + (u - v) * (b - c) / (b - a)
            for a, u in zip(front.cost, front.wrong, strict=True)
            for b, v in zip(front.cost, front.wrong, strict=True)
        )
    }
    assert set(hull(front.cost, front.wrong)) == corners


def test_a_way_may_add_to_a_front_where_its_line_comes_before_it():
    """Points cost 1, 3 and 6 at 70, 80 and 90 % right."""
    front = Front()
    assert front.may_take(9.0, 0.1, 1.0, 0.1)
    front.add(np.array([1.0, 3.0, 6.0]), np.array([0.3, 0.2, 0.1]), None, np.zeros((3, 1)))
    assert front.may_take(0.9, 0.1, 1.0, 0.1)  # cheaper than all
    assert not front.may_take(1.0, 0.7, 0.0, 0.7)  # a point of the front itself
    assert front.may_take(1.0, 0.71, 0.0, 0.71)
    assert front.may_take(1.0, 0.6, 18.0, 0.8)  # for less than 3 it gains up to 11 points
    assert not front.may_take(1.0, 0.6, 22.0, 0.8)  # 9, and 70 % is all it has below 3
    assert front.may_take(1.0, 0.6, 22.0, 0.9)  # below 6 it gains 22
    assert not front.may_take(1.0, 0.6, 26.0, 0.8)  # at most 80 %, and dearer than that costs
    assert not front.may_take(2.0, 0.7, 10.0, 0.7)
    assert front.may_take(6.0, 0.8, 9.0, 0.95)  # the last point holds at any cost
    assert not front.may_take(7.0, 0.8, 0.0, 0.9)
    assert front.may_take(7.0, 0.8, 0.0, 0.91)


def test_right_answers_are_counted_over_any_number_of_tiers():
    rng = np.random.default_rng(0)
    tiers, truth = tuple(Tier(f"t{k}", "recorded") for k in range(18)), rng.integers(0, 3, 200)
    label = np.where(rng.random((200, 18)) < 0.1, truth[:, None], UNKNOWN)
    zeros = np.zeros((200, 18))
    on = RowSet.of(np.arange(200), Predictions(tiers, CLASSES, label, zeros + 0.5, zeros, zeros), truth, 0)
    for columns in ([0], [7, 8], [15], [16, 2], [17], list(range(18))):
        assert on.right(columns) == pytest.approx((label == truth[:, None])[:, columns].any(axis=1).mean())


def test_tiers_come_from_cheap_to_dear_by_what_they_cost_where_they_were_asked_or_in_the_order_given():
    cost = np.array([[5.0, 1.0, np.nan, 3.0], [5.0, np.nan, np.nan, 0.0]])
    sure = np.where(np.isnan(cost), np.nan, 0.5)
    label = np.where(np.isnan(cost), UNKNOWN, 0)
    rows = Predictions(FIVE[:4], CLASSES, label, sure, cost, 0 * cost)
    assert [t.name for t in from_cheap(rows, None)] == ["b", "d", "a"]  # 1, 1.5 and 5; nobody asked c
    assert [t.name for t in from_cheap(rows, ["d", "a"])] == ["d", "a", "b"]


def test_limits_are_sums_over_rows_and_what_is_just_in_time_is_not_late():
    goal = Goal("most_accurate", floor=0.9, budget=2.0, seconds=0.5)
    assert goal.caps(200) == pytest.approx([20, 0.4, 10])
    assert Goal("cheapest").caps(200).shape == (0,)
    measures = goal.measures(np.zeros(3, int), np.zeros(3), np.array([0.4, 0.5, 0.6]), np.array([0, 1, 0]))
    assert measures.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert [Goal("cheapest", floor=f).floor for f in (0, 1)] == [0, 1]
    assert Goal("cheapest", budget=0, seconds=0, wrong=0.0).caps(9) == pytest.approx([0, 0.45], abs=1e-9)
    assert Goal("least_total", wrong=WRONG).dearest_mistake == 0.5
    assert Goal("least_total", wrong=0.25).dearest_mistake == 0.25
    nothing = np.zeros(0, int)
    assert Goal("least_total", wrong=WRONG).measures(nothing, nothing * 1.0, nothing, nothing).shape == (3, 0)
    two = Goal("least_total", wrong=((0.0, 1.0), (2.0, 9.0)))
    assert two.dearest_mistake == 2
    assert two.measures(np.array([1, 0, 1, -1]), np.zeros(4), np.zeros(4), np.array([0, 1, 1, 0]))[2].tolist() == [
        1,
        2,
        0,
        1,
    ]


def test_what_choosing_does_is_measured_on_rows_that_had_no_part_in_it():
    """On the rows but those of each fold: the first is best without fold 0, else the second."""
    fold = np.repeat(np.arange(5), 2)
    a, b = (finalist(cost, np.zeros(10)) for cost in (np.where(fold == 0, 9.0, 1.0), np.where(fold == 0, 0.0, 2.0)))
    b.tried.on = a.tried.on
    judge = Judge(Goal("cheapest"), 0.0)
    assert [judge.champion([a, b], fold != f) is a for f in range(5)] == [True, False, False, False, False]
    measures, rows = held_out_of_choosing([a, b], judge, fold, a.on)
    assert rows.tolist() == list(range(10))
    assert measures[0].tolist() == [9, 9, *[2] * 8]
    some = SimpleNamespace(rows=np.array([1, 4]))
    assert held_out_of_choosing([a, b], judge, fold, some)[0][0].tolist() == [9, 2]
    assert held_out_of_choosing([a, b], judge, fold, SimpleNamespace(rows=np.array([11]))) is None
    assert held_out_of_choosing([replace(a, held_out=None)], judge, fold, a.on) is None


def test_fronts_are_of_ways_that_were_measured_on_half_of_the_most_rows_and_hold_what_was_chosen():
    fronts = {}
    for k, (name, n) in enumerate((("triage", 50), ("triage", 100), ("cascade", 49), ("router", 0))):
        fronts[name, k] = Front()
        if n:
            owner = SimpleNamespace(on=range(n))
            fronts[name, k].add(np.array([k + 1.0]), np.array([0.5 - k / 10]), owner, np.zeros((1, 1)))
    chosen = SimpleNamespace(pattern="ensemble", mean=np.array([9.0, 0.05]), on=range(30))
    explorer = SimpleNamespace(tries=[SimpleNamespace(on=range(n)) for n in (50, 100, 49)], fronts=fronts)
    found = _fronts(explorer, SimpleNamespace(tried=chosen), Goal("cheapest"))
    kept = {name: [(c, w) for c, w, *_ in front.points()] for name, front in found.items()}
    assert kept == {"triage": [(1, 0.5), (2, 0.4)], "ensemble": [(9, 0.05)]}
    assert found["ensemble"].points()[0][2] is chosen
    assert [(c, w) for c, w, *_ in _together(found.values()).points()] == [(1, 0.5), (2, 0.4), (9, 0.05)]


def test_what_must_pay_is_a_tier_that_is_never_asked_and_a_last_one_that_another_before_it_beats():
    truth = np.zeros(10, dtype=int)
    wrong = {"a": 4, "b": 3, "c": 3, "d": 5}
    label = np.column_stack([np.arange(10) < wrong[t.name] for t in FIVE[:4]]).astype(int)
    sure, free = np.tile([0.2, 0.6, 0.5, 0.5], (10, 1)), np.zeros((10, 4))
    on = RowSet.of(np.arange(10), Predictions(FIVE[:4], CLASSES, label, sure, free, free), truth, 0)

    def doubtful(names, *thresholds):
        policy = Policy(Cascade(thresholds), way_over(names).tiers)
        way = Try(policy, "cascade", on, SimpleNamespace(policy=policy), (0.0, 0.0, 0.0), 10, True)
        return "".join(t.name for t in _doubtful(way))

    assert doubtful("ab", 0.5) == doubtful("bc", 0.7) == ""  # all asked, and the last is as right as any
    assert doubtful("abc", 0.5, 0.6) == "c"  # never asked
    assert doubtful("abd", 0.5, 0.7) == "d"  # asked, and less often right
    assert doubtful("abd", 0.1, 0.7) == "bd"  # never asked, the last for both
    single = Policy(Cascade(()), FIVE[:1])
    assert _doubtful(Try(single, "cascade", on, None, (0.0, 0.0, 0.0), 10, True)) == []


def test_rows_that_a_policy_was_compared_on_are_those_of_the_best_way_on_other_rows():
    sets = [SimpleNamespace(rows=np.array(rows)) for rows in ([0, 1, 2, 3], [2, 3, 4], [3])]
    a, b, c = (finalist(np.zeros(len(s.rows)), np.zeros(len(s.rows)), rows=s.rows) for s in sets)
    assert _n_common(a, [a, b, c]) == 2
    assert _n_common(a, [c, a, b]) == 1


def test_all_numbers_that_a_search_sets_have_a_name_and_other_patterns_have_no_classes():
    assert thresholds_of(Policy(Triage(0.5, (None, 0.25)), TIERS)) == {"Confidence threshold": 0.5, "class 1": 0.25}
    assert list(thresholds_of(Policy(Cascade((0.1, 0.2)), FIVE[:3])).values()) == [0.1, 0.2]
    assert list(thresholds_of(Policy(Ensemble("majority"), FIVE[:3])).values()) == []
    cascade = Policy(Cascade((0.1,)), TIERS)
    assert with_classes(cascade, (0.1, None)) is cascade
    assert with_classes(POLICY, (0.1, None)).pattern.by_class == (0.1, None)


def test_a_cell_may_beat_what_is_reached_by_its_limits_then_its_aim_then_its_tie_break():
    tiers = tiers_of(3)
    policy = Policy(Cascade((0.5, 0.5)), tiers)
    rows = table(tiers, [[(0, 0.5), (0, 0.5), (0, 1.0)]])
    goal = Goal("cheapest", floor=0.9)
    pairs = PairSearch(states_of(policy, rows, np.zeros(1, int), goal), goal.rows, np.array([10.0]))
    reached = np.array([2.0, 7.0, 7.0])
    for bound, may in (
        ((1.9, 9, 9), True),
        ((2.1, 0, 0), False),
        ((2, 6.9, 6.9), True),
        ((2, 7, 7), False),
        ((2, 7.1, 7.1), False),
        ((1, 0, 11), False),  # over the limit
    ):
        assert pairs._may_beat(np.array(bound, dtype=float), reached) == may
    assert pairs._may_beat(np.array([9.0, 9, 11]), np.array([2.0, 7, 12]))


def test_so_many_are_held_out_as_there_is_time_for_on_the_rows_of_the_best_way(monkeypatch):
    monkeypatch.setattr(sys.modules["hybrid.tuning.recommend"], "FINAL_ROWS", 100)
    for n, finalists in ((10, 10), (50, 4), (1, 24)):
        ways = [tried("ab", 0)] + [tried("ab", k) for k in range(1, 30)]
        for k, way in enumerate(ways):
            way.on = range(n if k == 0 else 20)
        explorer = SimpleNamespace(tries=ways[::-1])
        found = _finalists(explorer, Goal("cheapest", by_class=False))
        assert [f.tried for f in found] == ways[:finalists]
