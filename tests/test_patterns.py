"""Hand-worked oracles: six rows for each pattern and strategy."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from conftest import table, tiers_of
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TierError
from hybrid.routing.engine import Policy, answering, replay
from hybrid.routing.patterns import PATTERNS, Assisted, Cascade, Ensemble, Router, Triage, TriageEnsemble
from hybrid.routing.table import NONE, UNKNOWN, Predictions, Tier
from hybrid.routing.voting import STRATEGIES, vote

A, B, C = 0, 1, 2


def test_triage_keeps_at_or_above_the_threshold():
    tiers = tiers_of(2)
    rows = [
        [(A, 0.9), (B, 1.0)],
        [(A, 0.8), (B, 1.0)],  # exactly at the threshold: kept
        [(A, 0.79), (B, 1.0)],
        [(UNKNOWN, 0.0), (C, 0.3)],
        [(B, 1.0), (B, 1.0)],
        [(B, 0.0), (UNKNOWN, 0.0)],
    ]
    o = replay(Policy(Triage(0.8), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, A, B, C, B, UNKNOWN]
    assert o.tier.tolist() == [0, 0, 1, 1, 0, 1]
    assert o.cost.tolist() == [0, 0, 0.0005, 0.0005, 0, 0.0005]
    assert o.latency.tolist() == [0, 0, 0.1, 0.1, 0, 0.1]
    assert o.asked.sum(axis=0).tolist() == [6, 3]


def test_cascade_stops_at_the_first_confident_tier():
    tiers = tiers_of(3)
    rows = [
        [(A, 0.9), (B, 0.9), (C, 0.9)],
        [(A, 0.8), (B, 0.7), (C, 0.1)],
        [(A, 0.9), (B, 0.1), (C, 0.1)],
        [(A, 0.1), (B, 0.7), (C, 0.1)],
        [(A, 0.1), (B, 0.69), (C, 0.1)],
        [(UNKNOWN, 0.0), (UNKNOWN, 0.0), (UNKNOWN, 0.0)],
    ]
    o = replay(Policy(Cascade((0.9, 0.7)), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, B, A, B, C, UNKNOWN]
    assert o.tier.tolist() == [0, 1, 0, 1, 2, 2]
    np.testing.assert_allclose(o.cost, [0, 0.0005, 0, 0.0005, 0.0015, 0.0015])
    np.testing.assert_allclose(o.latency, [0, 0.1, 0, 0.1, 0.3, 0.3])  # rounds add


VOTES = [
    [(A, 0.6), (A, 0.6), (B, 1.0)],
    [(A, 0.9), (B, 0.5), (B, 0.3)],  # majority B, confidence A
    [(A, 0.2), (B, 0.3), (C, 0.4)],  # three ways: the most confident
    [(A, 0.5), (B, 0.5), (C, 0.5)],  # a full tie: the cheapest
    [(UNKNOWN, 0.0), (UNKNOWN, 0.0), (B, 0.1)],  # who does not know abstains
    [(UNKNOWN, 0.0), (UNKNOWN, 0.0), (UNKNOWN, 0.0)],
]


@pytest.mark.parametrize(
    ("strategy", "label", "tier"),
    [
        ("majority", [A, B, C, A, B, UNKNOWN], [0, 1, 2, 0, 2, 0]),
        ("confidence_weighted", [A, A, C, A, B, UNKNOWN], [0, 0, 2, 0, 2, 0]),
        # only the last tier is dear (0.001): where it knows an answer it wins
        ("cost_aware", [B, B, C, C, B, UNKNOWN], [2, 1, 2, 2, 2, 0]),
    ],
)
def test_ensemble_strategies(strategy, label, tier):
    tiers = tiers_of(3)
    o = replay(Policy(Ensemble(strategy), tiers), table(tiers, VOTES))
    assert o.label.tolist() == label
    assert o.tier.tolist() == tier
    assert o.asked.all()
    np.testing.assert_allclose(o.cost, 0.0015)
    np.testing.assert_allclose(o.latency, 0.2)  # members overlap: the slowest counts


def test_cost_aware_falls_back_to_the_cheap_majority_where_no_dear_member_knows():
    tiers = tiers_of(3)
    o = replay(Policy(Ensemble("cost_aware"), tiers), table(tiers, [[(A, 0.5), (B, 0.9), (UNKNOWN, 0.0)]]))
    assert o.label.tolist() == [B]


def test_the_last_bit_of_a_sum_does_not_decide_a_tie():
    tiers = tiers_of(3)
    rows = [[(A, 0.7), (A, 0.1), (B, 0.8)], [(B, 0.8), (A, 0.7), (A, 0.1)], [(A, 0.8), (B, 0.7), (B, 0.1 + 1e-9)]]
    o = replay(Policy(Ensemble("confidence_weighted"), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, B, B]  # .7 + .1 is .8, so the cheaper tier's; a billionth more is more


def test_confidence_of_a_vote_is_the_winners_share_of_all_members():
    tiers = tiers_of(3)
    o = replay(Policy(Ensemble("majority"), tiers), table(tiers, [[(A, 0.6), (A, 0.9), (B, 1.0)]]))
    np.testing.assert_allclose(o.confidence, [0.5])


def test_a_judge_decides_only_where_the_members_agree_too_little():
    tiers = tiers_of(4)
    rows = [
        [(A, 0.5), (A, 0.5), (A, 0.5), (C, 1.0)],
        [(A, 0.5), (A, 0.5), (B, 0.9), (C, 1.0)],
        [(A, 0.5), (B, 0.5), (C, 0.9), (C, 1.0)],
        [(UNKNOWN, 0.0), (UNKNOWN, 0.0), (UNKNOWN, 0.0), (B, 1.0)],
    ]
    o = replay(Policy(Ensemble("majority", agreement=2 / 3), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, A, C, B]
    assert o.asked[:, 3].tolist() == [False, False, True, True]
    assert o.tier.tolist() == [0, 0, 3, 3]


def test_triage_ensemble_votes_only_on_uncertain_rows():
    tiers = tiers_of(3)
    rows = [
        [(A, 0.8), (B, 1.0), (B, 1.0)],
        [(A, 0.7), (B, 0.5), (B, 0.5)],
        [(A, 0.7), (B, 0.3), (B, 0.3)],
    ]
    o = replay(Policy(TriageEnsemble(0.8, "confidence_weighted"), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, B, A]
    assert o.asked.tolist() == [[True, False, False], [True, True, True], [True, True, True]]
    assert o.confidence[0] == 0.8


def test_router_asks_the_gate_and_one_tier():
    tiers = tiers_of(4, gate=True)
    rows = [
        [(UNKNOWN, 0.9), (A, 0.1), (B, 0.2), (C, 0.3)],
        [(UNKNOWN, 0.8), (A, 0.1), (B, 0.2), (C, 0.3)],
        [(UNKNOWN, 0.5), (A, 0.1), (B, 0.2), (C, 0.3)],
        [(UNKNOWN, 0.49), (A, 0.1), (B, 0.2), (C, 0.3)],
        [(UNKNOWN, 0.0), (A, 0.1), (B, 0.2), (C, 0.3)],
        [(UNKNOWN, 1.0), (UNKNOWN, 0.0), (B, 0.2), (C, 0.3)],
    ]
    o = replay(Policy(Router((0.8, 0.5)), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, A, B, C, C, UNKNOWN]
    assert o.asked.sum(axis=1).tolist() == [2] * 6
    assert o.asked[:, 0].all()  # the gate's cost counts on every row


def test_of_several_gates_each_tells_of_its_own_tier_and_looks_where_those_before_it_passed_on():
    gates = (Tier("of t1", "gate", price=0.001), Tier("of t2", "gate", price=0.01))
    tiers = (*gates, *tiers_of(4)[1:])
    rows = [
        [(UNKNOWN, first), (UNKNOWN, second), (A, 0.1), (B, 0.2), (C, 0.3)]
        for first, second in ((0.8, 0.0), (0.79, 0.6), (0.79, 0.59), (0.8, 1.0))
    ]
    o = replay(Policy(Router((0.8, 0.6)), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, B, C, A]
    assert o.asked[:, :2].tolist() == [[True, False], [True, True], [True, True], [True, False]]
    np.testing.assert_allclose(o.cost, [0.0015, 0.012, 0.0125, 0.0015])
    with pytest.raises(TierError, match="one gate, or one for each tier but the last"):
        Policy(Router((0.5, 0.5, 0.5)), (*gates, *tiers_of(5)[1:]))


def test_the_gates_own_cost_counts_on_every_row():
    tiers = (Tier("gate", "gate", price=0.0003), *tiers_of(3)[1:])
    o = replay(Policy(Router((0.5,)), tiers), table(tiers, [[(UNKNOWN, 1.0), (A, 1.0), (B, 1.0)]]))
    np.testing.assert_allclose(o.cost, 0.0003 + 0.0005)


def test_assisted_triage_lets_a_person_pick_in_the_band_between_two_thresholds():
    first, person, last = tiers_of(3)
    tiers = (first, replace(person, picks_from=first.name), last)
    rows = [
        [(A, 0.9), (B, 1.0), (C, 1.0)],
        [(A, 0.8), (B, 1.0), (C, 1.0)],  # exactly at the upper threshold: kept
        [(A, 0.79), (B, 1.0), (C, 1.0)],
        [(A, 0.5), (B, 1.0), (C, 1.0)],  # exactly at the lower one: picked
        [(A, 0.49), (B, 1.0), (C, 1.0)],
        [(UNKNOWN, 0.0), (B, 1.0), (UNKNOWN, 0.0)],
    ]
    o = replay(Policy(Assisted(0.8, 0.5), tiers), table(tiers, rows))
    assert o.label.tolist() == [A, A, B, B, C, UNKNOWN]
    assert o.asked.sum(axis=0).tolist() == [6, 2, 2]
    nobody = replay(Policy(Assisted(0.5, 0.8), tiers), table(tiers, rows))
    assert nobody.asked.sum(axis=0).tolist() == [6, 0, 2]


@pytest.mark.parametrize(
    "policy",
    [
        lambda a, b, c: (Cascade((0.5, 0.5)), (a, replace(b, picks_from=a.name), c)),
        lambda a, b, c: (Triage(0.5), (a, replace(b, picks_from=c.name))),
        lambda a, b, c: (Assisted(), (a, b, c)),
    ],
)
def test_nobody_picks_from_a_tier_that_was_not_asked_before(policy):
    with pytest.raises(TierError, match=r"picks from its"):
        Policy(*policy(*tiers_of(3)))


@pytest.mark.parametrize(
    ("pattern", "n", "says"),
    [
        (Triage(1.2), 2, r"between 0.0 and 1 \(or"),
        (Triage(float("nan")), 2, "finite"),
        (Triage(0.5), 3, "takes 2 tiers"),
        (Cascade((0.5,)), 3, "needs 2 values"),
        (Ensemble("loudest"), 3, "not one of majority"),
        (Router((0.5,)), 2, "at least 3"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(pattern, n, says):
    with pytest.raises(TierError, match=says):
        Policy(pattern, tiers_of(n))


def test_a_policy_asks_no_tier_twice():
    tier = Tier("t", "recorded")
    with pytest.raises(TierError, match="asks each tier once"):
        Policy(Triage(0.5), (tier, tier))


def test_a_policy_has_a_tier_that_answers():
    with pytest.raises(TierError, match="only says whom to ask"):
        Policy(Cascade(()), (Tier("trained gate", "gate"),))


def test_triage_takes_the_threshold_of_the_predicted_class():
    tiers = tiers_of(2)
    rows = [
        [(A, 0.7), (C, 1.0)],  # no value of its own: the common threshold
        [(B, 0.5), (C, 1.0)],  # exactly at its own: kept
        [(B, 0.49), (C, 1.0)],
        [(C, 0.95), (A, 1.0)],
        [(C, 0.85), (A, 1.0)],  # above the common threshold, below its own
        [(UNKNOWN, 0.0), (C, 1.0)],
        [(NONE, 0.85), (C, 1.0)],  # no class has a say in it
    ]
    o = replay(Policy(Triage(0.8, by_class=(None, 0.5, 0.9)), tiers), table(tiers, rows))
    assert o.tier.tolist() == [1, 0, 1, 0, 1, 1, 0]
    short = replay(Policy(Triage(0.8, by_class=(None, 0.5)), tiers), table(tiers, rows))
    assert short.tier.tolist() == [1, 0, 1, 0, 0, 1, 0]  # a class beyond the end has none of its own


def test_a_threshold_of_a_class_must_be_a_share():
    with pytest.raises(TierError, match=r"by_class = 1\.5 must be between"):
        Policy(Triage(0.5, by_class=(None, 1.5)), tiers_of(2))


def by_row(label, confidence, prices, strategy, cheap_below):
    """Count the votes about one row as the docstring of `vote` says it; returns label, tier and confidence."""
    members = [(c, sure, p >= cheap_below) for c, sure, p in zip(label, confidence, prices, strict=True)]
    known = [(c, sure, dear) for c, sure, dear in members if c != UNKNOWN]
    voting = [m for m in known if m[2]] or known if strategy == "cost_aware" else known
    if not voting:
        return UNKNOWN, 0, 0.0
    support = {c: round(sum(sure for said, sure, _ in voting if said == c), 9) for c, _, _ in voting}
    votes = {c: sum(said == c for said, _, _ in voting) for c in support}
    rank = {c: (support[c],) if strategy == "confidence_weighted" else (votes[c], support[c]) for c in support}
    best = max(rank.values())
    chosen = next(c for c, _, _ in voting if rank[c] == best)
    sure = sum(s for c, s, _ in known if c == chosen) / len(members)
    return chosen, list(label).index(chosen), min(sure, 1.0)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 4), st.booleans())
def test_every_vote_is_what_counting_row_by_row_says(layout, strategy, seed, k, n_labels, tied):
    rng = np.random.default_rng(seed)
    label = rng.integers(UNKNOWN, n_labels, (40, k))
    levels = (0.0, 0.1, 0.2, 0.3, 0.7, 0.8, 1.0)  # equal sums of these differ in the last bit, and are ties
    confidence = rng.choice(levels, label.shape) if tied else rng.random(label.shape)
    confidence = np.where(label == UNKNOWN, np.where(rng.random(label.shape) < 0.5, np.nan, 0.0), confidence)
    label, confidence = (np.asarray(x, order=layout) for x in (label, confidence))
    prices = rng.choice([0.0, 0.001, 0.01], k)
    tiers = tuple(Tier(f"t{j}", "recorded", price=p) for j, p in enumerate(prices))
    seen = Predictions(tiers, (), label, confidence, confidence, confidence)
    found = vote(seen, slice(None), strategy, 0.001)
    expected = [by_row(a, b, prices, strategy, 0.001) for a, b in zip(label, confidence, strict=True)]
    assert found.label.tolist() == [e[0] for e in expected]
    assert found.tier.tolist() == [e[1] for e in expected]
    np.testing.assert_allclose(found.confidence, [e[2] for e in expected], rtol=1e-15)


def named_ways(name, tiers):
    """Return the tiers of each way by their last signs, and what is fixed of its pattern."""
    fixed = ("strategy", "agreement", "thresholds")
    found = []
    for policy in PATTERNS[name].ways(tiers):
        of = "".join(n[-1] for n in policy.names)
        found.append((of, *(getattr(policy.pattern, f) for f in fixed if hasattr(policy.pattern, f))))
    return found


def test_the_ways_of_each_pattern_are_these():
    two, three = tiers_of(2), tiers_of(3)
    weighted, aware = "confidence_weighted", "cost_aware"  # t0 costs nothing, so that with it alone nothing is cheap
    assert [w[0] for w in named_ways("triage", three)] == ["01", "02", "10", "12", "20", "21"]
    assert named_ways("cascade", two) == [("0", ()), ("1", ())]  # two are a triage
    assert named_ways("cascade", three) == [
        *((one, ()) for one in "012"),
        *((of, (0.85, 0.85)) for of in ("012", "021", "102", "120", "201", "210")),
    ]
    assert named_ways("ensemble", two) == [("01", weighted, None)]  # a majority of two is the surer one
    judged = [w for w in named_ways("ensemble", three) if w[2] is not None]
    assert judged == [
        ("012", weighted, 1.0),
        *(("021", s, 1.0) for s in (weighted, aware)),
        *(("120", s, 1.0) for s in (weighted, aware)),
    ]
    assert [w for w in named_ways("ensemble", three) if w not in judged] == [
        ("01", weighted, None),
        *(("02", s, None) for s in (weighted, aware)),
        *(("12", s, None) for s in (weighted, aware)),
        *(("012", s, None) for s in ("majority", weighted, aware)),
    ]
    assert [w[0] for w in named_ways("triage_ensemble", two)] == ["01", "10"]
    assert {w[0] for w in named_ways("triage_ensemble", three)} == {
        *("01", "10", "02", "20", "12", "21"),
        *("012", "102", "201"),
    }
    assert named_ways("router", three) == []
    assert [w[0] for w in named_ways("router", tiers_of(3, gate=True))] == ["e12"]


def test_the_ways_over_rules_gates_and_a_person_are_these():
    """No way ends with rules; each gate stands before its own tier, and one of no tier in particular before any."""
    a, rules, b, c = Tier("a", "classifier"), Tier("r", "rules"), Tier("b", "classifier"), Tier("c", "llm", 0.003)
    gates = Tier("g", "gate"), Tier("ga", "gate", guards="a"), Tier("gb", "gate", guards="b")
    person = Tier("p", "human", picks_from="a")
    tiers = (*gates, a, rules, b, person, c)

    def found(kind):
        ways = [p.names for p in kind.ways(tiers)]
        return ["".join(names) for names in dict.fromkeys(ways)]

    pairs = [x + y for x in "arbc" for y in "abc" if x != y]
    threes = [x + y + z for x in "arbc" for y in "arbc" for z in "abc" if len({x, y, z}) == 3]
    assert sorted(found(Triage)) == sorted([*pairs, "ap"])
    assert found(Cascade) == [*"abc", *threes, "arbc"]
    assert sorted(found(Assisted)) == ["apb", "apc"]
    judged = ["arb", "arc", "rba", "rbc", "abc", "bca", "acb", "rca", "rcb"]
    members = ["ar", "ab", "ac", "rb", "rc", "bc", "arb", "arc", "abc", "rbc", "arbc"]
    assert sorted(set(found(Ensemble))) == sorted({*members, *judged})
    voters = [*"arbc", "ar", "ab", "ac", "rb", "rc", "bc"]
    assert sorted(found(TriageEnsemble)) == sorted([x + y for x in "arbc" for y in voters if x not in y] + ["arbc"])
    ends = [k for n in (2, 3, 4) for k in map("".join, combinations("arbc", n)) if k[-1] != "r"]
    before = {"a": ("g", "ga"), "r": ("g", "ga", "gb"), "b": ("g", "gb")}
    one = [gate + chosen for chosen in ends for gate in before[chosen[0]]]
    assert sorted(found(Router)) == sorted([*one, "gagbabc"])
    sizes = [len(answering(p.tiers)) for p in Router.ways(tiers)]
    assert sizes == sorted(sizes)
    for kind in PATTERNS.values():
        chosen = [(p.names, p.pattern) for p in kind.ways(tiers)]
        assert len(set(chosen)) == len(chosen), kind.title


def test_each_pattern_says_whose_confidence_decides():
    assert Triage(0.5).weighs(2) == (0,)
    assert Cascade((0.5, 0.5)).weighs(3) == (0, 1)
    assert Ensemble().weighs(3) == (0, 1, 2)
    assert Ensemble(agreement=1.0).weighs(3) == (0, 1)  # the judge decides whatever it thinks of itself
    assert TriageEnsemble(0.5).weighs(3) == (0, 1, 2)
    assert Router((0.5, 0.5)).weighs(4) == (0,)


def test_each_pattern_says_what_was_asked_where_it_stops():
    seen = table(tiers_of(3), [[(0, 0.9), (1, 0.8), (2, 0.7)]])
    asked = {type(p).__name__: [s.rounds for s in p.stops(seen)] for p in (Cascade((0.5, 0.5)), TriageEnsemble(0.5))}
    assert asked == {
        "Cascade": [((0,),), ((0,), (1,)), ((0,), (1,), (2,))],
        "TriageEnsemble": [((0,),), ((0,), (1, 2))],
    }
    assert [s.rounds for s in Ensemble().stops(seen)] == [((0, 1, 2),)]
    judged = Ensemble(agreement=1.0).stops(seen)
    assert [s.rounds for s in judged] == [((0, 1),), ((0, 1), (2,))]
    assert [s.label.tolist() for s in judged] == [[0], [2]]  # of the surer member, and of the judge
