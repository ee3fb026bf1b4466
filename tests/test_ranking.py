"""Ranking, reliability and drift: worked examples, known limits, and what must not change."""

import numpy as np
import pytest
from conftest import CLASSES, LEVELS, cases, table, tiers_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import binomtest, kstwobign
from sklearn.metrics import f1_score

from hybrid.errors import TierError
from hybrid.metrics.confidence import reliability
from hybrid.metrics.curve import sweep
from hybrid.metrics.drift import ALARM, STEADY, WATCH, difference_of_shares, drift
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import Interval
from hybrid.metrics.ranking import (
    break_even_price,
    error_overlap,
    gap_intervals,
    macro_f1_interval,
    performance_gap_recovered,
    risk_coverage,
    routing_gain,
)
from hybrid.metrics.summary import paired_difference, share
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import UNKNOWN

CONFIDENCES = st.lists(st.tuples(st.sampled_from((0.2, 0.5, 0.9, 1.0)), st.booleans()), min_size=1, max_size=30)


def test_risk_and_coverage_of_six_rows():
    confidence = np.array([0.9, 0.9, 0.8, 0.6, 0.6, 0.1])
    right = np.array([True, True, False, True, False, False])
    found = risk_coverage(confidence, right)
    assert found.threshold.tolist() == [0.9, 0.8, 0.6, 0.1]
    assert found.coverage == pytest.approx([2 / 6, 3 / 6, 5 / 6, 1])
    assert found.risk == pytest.approx([0, 1 / 3, 2 / 5, 1 / 2])
    # levels 1 to 6: 0, 0, 1/3, 1.5/4 (half a mistake on average), 2/5, 3/6
    assert found.aurc.value == pytest.approx((0 + 0 + 1 / 3 + 1.5 / 4 + 2 / 5 + 1 / 2) / 6)
    assert found.e_aurc.value == pytest.approx(found.aurc.value - (0.5 + 0.5 * np.log(0.5)))


def test_the_best_order_has_no_excess_and_a_random_one_has_the_error_rate():
    """Geifman, Uziel & El-Yaniv 2019: the best area is r + (1 − r) ln(1 − r)."""
    right = np.arange(50_000) % 5 > 0
    best = risk_coverage(right + np.random.default_rng(0).random(50_000), right)
    assert best.aurc.value == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=1e-4)
    assert best.e_aurc.value == pytest.approx(0, abs=1e-4)
    assert risk_coverage(np.full(50_000, 0.7), right).aurc.value == pytest.approx(0.2)
    assert risk_coverage(np.ones(3), np.zeros(3, dtype=bool)).e_aurc.value == 0


@given(CONFIDENCES, st.randoms())
def test_the_area_ignores_the_order_of_rows_and_any_rising_change_of_confidence(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    (c, r), (c2, r2) = (tuple(map(np.array, zip(*x, strict=True))) for x in (rows, shuffled))
    area = risk_coverage(c, r).aurc.value
    assert risk_coverage(c2, r2).aurc.value == pytest.approx(area)
    assert risk_coverage(c**3 / 2, r).aurc.value == pytest.approx(area)


def test_no_row_has_no_risk():
    with pytest.raises(TierError, match="no row"):
        risk_coverage(np.array([]), np.array([], dtype=bool))


def test_the_gap_recovered_is_0_at_the_weak_1_at_the_strong_tier_and_undefined_without_a_gap():
    assert performance_gap_recovered(np.array([0.7, 0.8, 0.9]), weak=0.7, strong=0.9) == pytest.approx([0, 0.5, 1])
    assert performance_gap_recovered(np.array([0.8]), weak=0.9, strong=0.9) is None
    assert performance_gap_recovered(np.array([0.8]), weak=0.9, strong=0.8) is None


def test_random_routing_recovers_half_the_gap_on_average():
    share = np.linspace(0, 1, 11)
    found = routing_gain(share, 0.7 + 0.2 * share, 3 * share, weak=(0, 0.7), strong=(3, 0.9))
    assert found.apgr == pytest.approx(0.5)
    assert [s for _, s in found.cpt] == pytest.approx([0.5, 0.8, 1.0])
    assert found.cost_save == pytest.approx(0)


def test_cpt_is_a_policy_of_the_curve_and_not_read_between_two():
    # not monotone: 60 % of calls recover all, 80 % less
    found = routing_gain(
        np.array([0.0, 0.6, 0.8]), np.array([0.7, 0.9, 0.8]), np.array([0, 1.8, 2.4]), weak=(0, 0.7), strong=(3, 0.9)
    )
    assert found.cpt == ((0.5, 0.6), (0.8, 0.6), (0.95, 0.6))
    assert found.cost_save == pytest.approx(0.4)


def test_where_the_strong_tier_is_no_better_nothing_is_divided():
    found = routing_gain(
        np.array([0.0, 0.5]), np.array([0.9, 0.92]), np.array([1.0, 2.0]), weak=(1, 0.9), strong=(3, 0.8)
    )
    assert found.apgr is None
    assert found.cpt == ()
    assert found.cost_save == 0  # the weak tier alone is the best single one, and nothing is cheaper


def test_of_two_tiers_that_are_as_good_the_cheaper_is_what_a_saving_is_measured_against():
    for weak, strong in (((1.0, 0.9), (3.0, 0.9)), ((3.0, 0.9), (1.0, 0.9))):
        found = routing_gain(np.array([0.5]), np.array([0.9]), np.array([0.6]), weak=weak, strong=strong)
        assert found.cost_save == pytest.approx(0.4)


def test_the_intervals_of_the_area_are_those_of_resampled_rows():
    rng = np.random.default_rng(2)
    confidence = np.round(rng.random(400), 2)  # with ties
    right = rng.random(400) < 0.4 + 0.6 * confidence
    found = risk_coverage(confidence, right)
    areas, excess = [], []
    for _ in range(800):
        rows = rng.integers(0, 400, 400)
        again = risk_coverage(confidence[rows], right[rows])
        areas.append(again.aurc.value)
        excess.append(again.e_aurc.value)
    for i, values in ((found.aurc, areas), (found.e_aurc, excess)):
        assert np.log(i.high / i.low) == pytest.approx(np.ptp(np.quantile(np.log(values), [0.025, 0.975])), rel=0.1)
    spotless = risk_coverage(np.array([0.5, 0.9]), np.array([True, True])).aurc
    assert (spotless.value, spotless.low) == (0, 0)
    assert spotless.high > 0.5  # two rows say little


def test_the_gap_recovered_has_the_interval_of_resampled_rows_or_none_where_there_may_be_no_gap():
    rng = np.random.default_rng(0)
    n = 600
    confidence = rng.random(n)
    weak, strong = rng.random(n) < 0.5 + confidence / 2, rng.random(n) < 0.95
    policy = np.where(confidence >= 0.6, weak, strong)
    pgr, apgr = gap_intervals(confidence, weak, strong, policy)
    gap = strong.mean() - weak.mean()
    assert pgr.value == pytest.approx((policy.mean() - weak.mean()) / gap)
    order = np.argsort(confidence)
    share = np.arange(n + 1) / n
    accuracy = (weak.sum() + np.concatenate([[0], np.cumsum((strong * 1.0 - weak)[order])])) / n
    expected = routing_gain(share, accuracy, 3 * share, weak=(0, weak.mean()), strong=(3, strong.mean()))
    assert apgr.value == pytest.approx(expected.apgr)
    again = []
    for _ in range(1000):
        r = rng.integers(0, n, n)
        again.append((policy[r].mean() - weak[r].mean()) / (strong[r].mean() - weak[r].mean()))
    assert (pgr.low, pgr.high) == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=0.02)
    assert gap_intervals(confidence, weak, rng.random(n) < weak.mean() + 0.01, policy) is None
    assert gap_intervals(confidence, strong, weak, policy) is None


def test_where_the_gap_is_small_the_share_of_it_is_bounded_or_unsaid():
    rng = np.random.default_rng(1)
    for _ in range(300):
        n = int(rng.integers(10, 200))
        weak, strong, policy = (rng.random(n) < p for p in (0.75, 0.8, 0.78))
        found = gap_intervals(rng.choice(4, n) / 4, weak, strong, policy)
        for i in found or ():
            assert i.low <= i.value <= i.high
            assert i.high - i.low < 12


def test_a_gap_that_few_groups_show_is_not_sure():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(12), 20)
    weak, strong = (rng.random(12) < 0.5)[groups], (rng.random(12) < 0.8)[groups]
    policy = np.where(rng.random(240) < 0.5, weak, strong)
    confidence = rng.random(240)
    assert gap_intervals(confidence, weak, strong, policy) is not None
    assert gap_intervals(confidence, weak, strong, policy, groups=groups) is None


@given(cases(names=("triage",), scoped=False))
def test_no_threshold_exceeds_the_ceiling_of_any_router(case):
    policy, predictions, truth = case
    overlap = error_overlap(predictions, truth, weak="t0", strong="t1")
    assert overlap.both + overlap.only_weak + overlap.only_strong + overlap.neither == pytest.approx(1)
    curve = sweep(policy, predictions, truth, name="threshold")
    assert curve.accuracy.max() <= 1 - overlap.neither + 1e-12


def test_error_overlap_of_four_rows():
    tiers = tiers_of(2)
    rows = [[(0, 1), (0, 1)], [(0, 1), (1, 1)], [(1, 1), (0, 1)], [(1, 1), (UNKNOWN, 0)]]
    found = error_overlap(table(tiers, rows), np.zeros(4, dtype=int), weak="t0", strong="t1")
    assert (found.both, found.only_weak, found.only_strong, found.neither) == (0.25, 0.25, 0.25, 0.25)
    assert found.shared_errors == pytest.approx(1 / 3)


def test_the_interval_of_macro_f1_is_that_of_resampled_rows_less_their_bias():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    label = np.where(rng.random(300) < 0.7, truth, rng.integers(-1, 4, 300))
    found = macro_f1_interval(label, truth)
    assert found.value == pytest.approx(f1_score(truth, label, labels=range(4), average="macro"))
    again = []
    for _ in range(600):
        rows = rng.integers(0, 300, 300)
        again.append(f1_score(truth[rows], label[rows], labels=range(4), average="macro"))
    assert (found.low, found.high) == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=0.015)
    assert found.high - found.low == pytest.approx(2 * 1.968 * np.std(again), rel=0.1)


def test_macro_f1_has_an_interval_where_all_is_right_and_none_where_a_class_has_hardly_a_row():
    truth = np.repeat([0, 1], 10)
    perfect = macro_f1_interval(truth, truth)
    assert perfect.value == perfect.high == 1
    assert 0.8 < perfect.low < 1
    hopeless = macro_f1_interval(1 - truth, truth)
    assert (hopeless.value, hopeless.low) == (0, 0)
    few = macro_f1_interval(np.arange(20) % 5, np.arange(20) % 6)
    assert few.value > 0
    assert np.isnan(few.low)


def test_macro_f1_of_four_rows_a_class_by_hand():
    # two of the four rows of one class are called the other: F1 2/3 and 4/5
    truth, label = np.repeat([0, 1], 8), np.repeat([0, 1], [4, 12])
    f1, counts = np.array([2 * 4 / 12, 2 * 8 / 20]), np.array([12, 20])
    found = macro_f1_interval(label, truth)
    assert found.value == pytest.approx(f1.mean())
    # what a row adds: right ones 2 (1 - F1) / counts, wrong ones the loss in either class; a degree of freedom a class
    right, wrong = 2 * (1 - f1) / counts, -(f1 / counts).sum()
    squares = 4 * right[0] ** 2 + 8 * right[1] ** 2 + 4 * wrong**2
    normal = stdtrit(14, 0.975) * np.sqrt(squares * 16 / 14) / 2
    drawn = (f1 * counts + 24 / 32) / (counts + 1)  # by one row towards the F1 of all
    bias = (drawn * (1 - drawn) / counts).sum() / 2
    assert found.low == pytest.approx(found.value - normal + bias)
    assert found.high == pytest.approx(min(found.value + normal + bias, 1))


def test_macro_f1_of_fifty_rows_in_ten_classes_holds():
    rng = np.random.default_rng(3)
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.01, 0.01])
    joint = np.outer(shares * np.linspace(0.05, 0.4, 10), shares) + np.diag(shares * np.linspace(0.95, 0.6, 10))
    true = np.mean(2 * np.diag(joint) / (joint.sum(0) + joint.sum(1)))
    held = 0
    for cells in rng.choice(100, (1000, 50), p=joint.ravel()):
        i = macro_f1_interval(cells % 10, cells // 10)
        held += i.low <= true <= i.high
    assert held / 1000 >= 0.955  # .93 where a class that came once, and wrong, counts as hopeless


def test_mcnemar_of_a_published_table():
    """Bentur et al. 2009, as tested by Fagerland, Lydersen & Laake 2013: 1 and 7 discordant of 21, exact p = 0.0703."""
    tiers = tiers_of(2)
    rows = [[(0, 1.0), (1, 1.0)]] * 1 + [[(1, 1.0), (0, 1.0)]] * 7 + [[(0, 1.0), (0, 1.0)]] * 13
    predictions = table(tiers, rows)
    a, b = (replay(Policy(Triage(0.0), order), predictions) for order in (tiers, tiers[::-1]))
    found = paired_difference(a, b, np.zeros(21, dtype=int))
    assert (found.uplift, found.regression) == (7, 1)
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)
    assert found.p_value == pytest.approx(binomtest(1, 8).pvalue)


def test_break_even():
    # A calls on every row; B on a fifth, but pays 0.0008 for something else
    assert break_even_price(0.0, 1.0, 0.0008, 0.2) == pytest.approx(0.001)
    assert break_even_price(0.0, 0.5, 0.1, 0.5) is None
    assert break_even_price(0.2, 0.9, 0.1, 0.5) is None


def test_a_reliability_diagram_of_an_honest_and_of_an_overconfident_tier():
    rng = np.random.default_rng(0)
    said = rng.uniform(0.3, 1.0, 6000)
    honest = reliability(said, rng.random(6000) < said)
    assert honest.rows.sum() == honest.n_rows == 6000
    assert len(honest.rows) == 15
    assert honest.ece.low == 0
    assert honest.ece.high < 0.03
    boasting = reliability(said, rng.random(6000) < said - 0.2)
    assert boasting.ece.low > 0.15
    assert boasting.ece.low < 0.2 < boasting.ece.high
    assert np.mean((honest.low <= honest.confidence) & (honest.confidence <= honest.high)) > 0.7
    expected = np.mean(said * (1 - said))  # of an honest tier
    assert honest.brier.low < expected < honest.brier.high


def test_an_error_of_calibration_stands_beside_what_an_honest_tier_shows():
    rng = np.random.default_rng(6)
    said = rng.uniform(0.5, 1.0, 400)
    honest = [reliability(said, rng.random(400) < said) for _ in range(100)]
    assert np.mean([r.ece.value for r in honest]) == pytest.approx(honest[0].chance.value, rel=0.1)
    assert 90 <= sum(r.ordinary for r in honest) <= 100
    assert not reliability(said, rng.random(400) < said - 0.2).ordinary
    spotless = reliability(np.full(100, 0.999), np.ones(100, dtype=bool))
    assert spotless.ece.value < 0.002 < 0.03 < spotless.ece.high  # no mistake in 100 is not none at all
    assert spotless.brier.high > 0.03


def test_an_error_of_calibration_allows_for_which_confidences_came():
    """All right: how far the confidences are off is the mean of what they lack, of 60 customers with five rows each."""
    rng, held, groups = np.random.default_rng(8), np.zeros(2), np.repeat(np.arange(60), 5)
    for _ in range(60):
        said = rng.uniform(0.5, 1.0, 60)
        alone, five = reliability(said, np.ones(60, bool)), reliability(said[groups], np.ones(300, bool), groups=groups)
        held += [i.ece.low <= 0.25 <= i.ece.high for i in (alone, five)]
    assert min(held) / 60 >= 0.93  # a third where the confidences are taken as they are


def test_dependent_rows_have_wider_areas_errors_and_drifts():
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(60), 10)
    said = rng.uniform(0.6, 1.0, 60)[groups]
    right = rng.random(60)[groups] < said
    plain, grouped = (reliability(said, right, groups=g) for g in (None, groups))
    assert grouped.chance.value > 1.5 * plain.chance.value
    plain, grouped = (risk_coverage(said, right, groups=g) for g in (None, groups))
    assert grouped.aurc.half_width > 1.5 * plain.aurc.half_width
    again = np.where(rng.random(60) < 0.8, right[::10], rng.random(60) < 0.8)[groups]
    label, truth = again.astype(int), np.tile([0, 1], 300)
    assert macro_f1_interval(label, truth, groups=groups).half_width >= macro_f1_interval(label, truth).half_width
    alarms = {"rows": 0, "groups": 0}
    for _ in range(60):
        a, b = rng.random(60)[groups], rng.random(60)[groups]
        alarms["rows"] += drift(side(a), side(b), n_classes=1).level != STEADY
        alarms["groups"] += drift(side(a), side(b), n_classes=1, groups=(groups, groups)).level != STEADY
    assert alarms["rows"] > 20
    assert alarms["groups"] <= 6
    # where nearly all are as sure as one can be, shares at or below nine levels are 1, whatever groups the others make
    sure, pairs = np.where(np.arange(400) < 20, 0.5, 1.0), np.arange(400) // 2
    apart = np.r_[np.arange(20), 20 + np.arange(180), 20 + np.arange(180), np.arange(20)]
    gaps = [drift(side(sure), side(sure), n_classes=1, groups=(g, g)).distance.half_width for g in (pairs, apart)]
    assert gaps[0] == pytest.approx(gaps[1])


def test_few_and_no_rows_have_a_diagram_too():
    few = reliability(np.array([0.5, np.nan, 0.9]), np.array([True, True, False]))
    assert few.n_rows == 2
    assert few.ece.value == pytest.approx((0.5 + 0.9) / 2)
    none = reliability(np.array([np.nan]), np.array([True]))
    assert none.n_rows == 0
    assert np.isnan(none.ece.value)


def side(confidence, threshold=0.5, label=0):
    return confidence, confidence < threshold, np.full(len(confidence), label)


def test_drift_tells_steady_from_watch_from_alarm_and_says_why():
    rng = np.random.default_rng(0)
    base = rng.beta(5, 2, 4000)
    same = drift(side(base), side(rng.beta(5, 2, 4000)), n_classes=3)
    assert same.level == STEADY
    little = drift(side(base), side(rng.beta(4.6, 2, 4000)), n_classes=3)
    assert little.level == WATCH
    escalated = drift(side(base), side(base, 0.53), n_classes=3)  # the confidences are the same
    assert (escalated.level, escalated.p_value) == (WATCH, 1.0)
    confident = drift(side(base), side(np.where(base > 0.8, base - 0.02, base)), n_classes=3)  # far from the threshold
    assert (confident.level, confident.escalation.value) == (WATCH, 0.0)
    far = drift(side(base), side(rng.beta(2, 3, 4000)), n_classes=3)
    assert far.level == ALARM
    assert "alarm above 10%" in far.reason
    assert far.distance.low <= far.distance.value <= far.distance.high
    assert far.escalation.low > 0.05
    moved = drift(side(base), side(base, 0.62), n_classes=3)
    assert moved.level == ALARM
    assert "escalation rate" in moved.reason


def test_steady_production_rarely_alarms_and_predicted_classes_are_compared():
    rng = np.random.default_rng(1)
    levels = [drift(side(rng.random(300)), side(rng.random(200)), n_classes=1).level for _ in range(200)]
    assert levels.count(ALARM) == 0
    assert levels.count(WATCH) <= 20
    a, b = rng.random(100), rng.random(50)
    found = drift(side(a, label=0), side(b, label=2), n_classes=len(CLASSES))
    assert found.predicted == (-1, 0, 1)
    with pytest.raises(TierError, match="empty"):
        drift(side(a), side(np.array([])), n_classes=1)


def test_the_distance_of_two_sides_of_dependent_rows_by_hand():
    rng = np.random.default_rng(2)
    sides = [(rng.choice(LEVELS, n), rng.random(n) < 0.4, rng.integers(-1, 3, n)) for n in (90, 240)]
    groups = np.arange(90) // 3, np.arange(240) // 2
    worth = [
        min(Groups.of(g).worth_of_flags(c <= np.quantile(c, k / 10)) for k in range(1, 10))
        for (c, _, _), g in zip(sides, groups, strict=True)
    ]
    gap = max(abs(np.mean(sides[0][0] <= x) - np.mean(sides[1][0] <= x)) for x in LEVELS)
    for codes, (n, m) in ((groups, worth), ((None, None), (90, 240))):
        found = drift(*sides, n_classes=3, groups=codes)
        slack = np.sqrt(np.log(2 / 0.025) / 2) * (n**-0.5 + m**-0.5)
        assert found.distance == Interval(
            pytest.approx(gap), pytest.approx(max(gap - slack, 0)), pytest.approx(gap + slack)
        )
        now, before = (share(flags, g) for (_, flags, _), g in zip(sides[::-1], codes[::-1], strict=True))
        assert found.escalation == difference_of_shares(now, before)
        if codes is groups:
            assert found.p_value == pytest.approx(kstwobign.sf(gap * np.sqrt(n * m / (n + m))))
    shares = [[np.mean(label == c) for c in range(3)] for _, _, label in sides]
    assert found.predicted == pytest.approx(np.subtract(*shares[::-1]))
