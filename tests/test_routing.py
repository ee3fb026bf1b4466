"""Properties of the engine, over every pattern."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import CLASSES, LEVELS, cases, picked_from, table, tiers_of
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TierError
from hybrid.routing.engine import OUT_OF_SCOPE, Policy, answered_by, defaults, replay, rounds, route
from hybrid.routing.patterns import PATTERNS, Cascade, Triage
from hybrid.routing.table import NONE, UNKNOWN, Answers, Predictions


def same(a, b):
    for field in ("label", "tier", "confidence", "cost", "latency", "asked"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)


@given(cases())
def test_a_row_does_not_see_its_neighbours(case):
    policy, predictions, _ = case
    together = replay(policy, predictions)
    for i in range(predictions.n_rows):
        alone = replay(policy, predictions.take(np.array([i])))
        for field in ("label", "tier", "confidence", "cost", "latency"):
            assert getattr(alone, field)[0] == getattr(together, field)[i]


@given(cases())
def test_unasked_answers_cannot_matter(case):
    policy, predictions, _ = case
    before = replay(policy, predictions)
    garbage = np.where(before.asked, predictions.label, (predictions.label + 2) % len(CLASSES))
    confidence = np.where(before.asked, predictions.confidence, 1 - predictions.confidence)
    same(before, replay(policy, replace(predictions, label=garbage, confidence=confidence)))


@given(cases())
def test_every_row_ends_with_a_tier_that_was_asked(case):
    policy, predictions, _ = case
    o = replay(policy, predictions)
    rows = np.arange(predictions.n_rows)
    assert o.asked[rows, o.tier].all()
    aside = policy.set_aside(predictions)
    assert (o.label == np.where(aside & (o.tier == 0), policy.scope and policy.scope.label, o.label)).all()
    known = (o.label != UNKNOWN) & ~(aside & (o.tier == 0))
    assert (o.label[known] == predictions.label[rows, o.tier][known]).all()


@given(cases())
def test_cost_is_the_sum_over_asked_tiers(case):
    policy, predictions, _ = case
    o = replay(policy, predictions)
    np.testing.assert_allclose(o.cost, np.where(o.asked, predictions.cost, 0).sum(axis=1))


@given(cases())
def test_adding_a_constant_to_every_cost_shifts_every_cost(case):
    policy, predictions, _ = case
    before = replay(policy, predictions)
    after = replay(policy, replace(predictions, cost=predictions.cost + 0.5))
    np.testing.assert_array_equal(after.label, before.label)
    np.testing.assert_allclose(after.cost, before.cost + 0.5 * before.asked.sum(axis=1))


@given(cases(), st.permutations(range(len(CLASSES))))
def test_permuting_the_classes_changes_nothing(case, order):
    policy, predictions, _ = case
    before = replay(policy, predictions)
    renamed = np.append(order, (NONE, UNKNOWN))  # read from the end, both stay
    if policy.scope is not None:
        policy = replace(policy, scope=replace(policy.scope, label=int(renamed[policy.scope.label])))
    if getattr(policy.pattern, "by_class", ()):  # a class takes its threshold along
        own = (*policy.pattern.by_class, *[None] * len(CLASSES))[: len(CLASSES)]
        moved = tuple(own[order.index(c)] for c in range(len(CLASSES)))
        policy = replace(policy, pattern=replace(policy.pattern, by_class=moved))
    after = replay(policy, replace(predictions, label=renamed[predictions.label]))
    np.testing.assert_array_equal(after.label, renamed[before.label])
    np.testing.assert_array_equal(after.asked, before.asked)


@given(cases())
def test_route_with_a_function_decides_as_replay(case):
    policy, predictions, _ = case

    def ask(name, rows):
        return predictions.answers(predictions.index(name)).take(rows)

    same(route(policy, ask, predictions.n_rows), replay(policy, predictions))


@given(cases())
def test_other_columns_of_the_table_do_not_matter(case):
    policy, predictions, _ = case
    backwards = predictions.select([t.name for t in reversed(predictions.tiers)])
    same(replay(policy, backwards), replay(policy, predictions))


@given(cases(), st.integers(0, 99))
def test_confidences_that_a_policy_does_not_weigh_decide_nothing(case, seed):
    policy, predictions, _ = case
    drawn = np.random.default_rng(seed).choice(LEVELS, predictions.confidence.shape)
    drawn[:, list(policy.weighs())] = predictions.confidence[:, list(policy.weighs())]
    before, after = replay(policy, predictions), replay(policy, replace(predictions, confidence=drawn))
    for field in ("label", "tier", "asked"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field), err_msg=field)


@given(cases())
def test_a_scope_moves_what_its_pattern_says_by_one_tier(case):
    policy, predictions, _ = case
    moved = int(policy.scope is not None)
    bare, rest = policy.bare, predictions.select(policy.names[moved:])
    assert bare == Policy(policy.pattern, policy.tiers[moved:])
    assert policy.weighs() == (*range(moved), *(j + moved for j in bare.weighs()))
    assert policy.thresholds() == bare.thresholds()
    for t in policy.thresholds():
        np.testing.assert_array_equal(policy.gauge(predictions, t.name, t.index), bare.gauge(rest, t.name, t.index))
    ends, own = policy.stops(predictions), bare.stops(rest)
    assert (ends is None) == (own is None)
    for end, plain in zip(ends or (), own or (), strict=True):
        np.testing.assert_array_equal(end.label, plain.label)
        assert end.rounds == ((0,),) * moved + tuple(tuple(j + moved for j in asked) for asked in plain.rounds)
    aside = policy.stop_aside(predictions)
    if moved:
        np.testing.assert_array_equal(policy.gauge(predictions, OUT_OF_SCOPE, None), predictions.confidence[:, 0])
        last = len(policy.tiers) - 1
        assert aside.rounds == (((0,), (last,)) if policy.to_person else ((0,),))
        expected = predictions.label[:, last] if policy.to_person else policy.scope.label
        assert (aside.label == expected).all()
    else:
        assert aside is None


def answer(n, **changed):
    values = {"label": np.zeros(n, dtype=int), "confidence": np.ones(n), "cost": np.zeros(n), "latency": np.zeros(n)}
    return Answers(**(values | changed))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"confidence": np.array([0.5, 1.3])}, r"Row 2, t0.confidence = 1.3: must be in \[0, 1\]. Percentages"),
        ({"confidence": np.array([np.nan, 1.0])}, "Row 1, t0.confidence = nan"),
        ({"confidence": np.array([0.5, -0.1])}, "Row 2, t0.confidence"),
        ({"cost": np.array([0.0, -1.0])}, "Row 2, t0.cost"),
        ({"latency": np.array([np.inf, 0.0])}, "Row 1, t0.latency"),
    ],
)
def test_an_impossible_answer_is_refused_by_tier_and_row(changed, says):
    with pytest.raises(TierError, match=says):
        route(Policy(Triage(0.5), tiers_of(2)), lambda name, rows: answer(2, **changed), 2)


def test_too_few_answers_are_refused():
    with pytest.raises(TierError, match="asked about 2 rows and answered 1"):
        route(Policy(Triage(0.5), tiers_of(2)), lambda name, rows: answer(1), 2)
    steps = rounds(Policy(Triage(0.5), tiers_of(2)), 2)
    assert len(next(steps)) == 1
    with pytest.raises(ValueError, match="shorter"):
        steps.send([])


def test_a_failed_answer_escalates_whatever_confidence_it_claims():
    says = {"t0": answer(1, label=np.array([UNKNOWN])), "t1": answer(1, label=np.array([2]))}
    o = route(Policy(Triage(0.5), tiers_of(2)), lambda name, rows: says[name], 1)
    assert o.label.tolist() == [2]


def test_a_missing_recorded_answer_is_an_error_and_not_a_guess():
    tiers = tiers_of(2)
    predictions = table(tiers, [[(0, 0.9), (1, 1.0)], [(0, 0.1), (UNKNOWN, np.nan)]])
    policy = Policy(Triage(0.5), tiers)
    with pytest.raises(TierError, match="Row 2 is sent to 't1', which has no recorded answer"):
        replay(policy, predictions)
    assert answered_by(predictions, policy.names).tolist() == [True, False]


def test_no_rows_are_decided_without_fuss():
    tiers = tiers_of(3)
    for kind in PATTERNS.values():
        few = picked_from(kind, tiers[: kind.max_tiers or 3])
        o = replay(Policy(defaults(kind, few), few), Predictions.unasked(few, CLASSES, 0))
        assert len(o.label) == 0


def test_thresholds_name_their_tiers():
    policy = Policy(Cascade((0.1, 0.2)), tiers_of(3))
    assert [(t.title, t.value) for t in policy.thresholds()] == [("Threshold of t0", 0.1), ("Threshold of t1", 0.2)]
