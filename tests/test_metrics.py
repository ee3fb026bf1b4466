"""Metrics: worked examples and known values."""

import numpy as np
import pytest
from conftest import cases, table, tiers_of
from hypothesis import given
from scipy.special import ndtri, stdtrit
from scipy.stats import binom, norm
from sklearn.metrics import f1_score

from hybrid.errors import TierError
from hybrid.metrics import audited
from hybrid.metrics.audited import Checked
from hybrid.metrics.auroc import auroc
from hybrid.metrics.confidence import reliability
from hybrid.metrics.groups import Groups, Steps, worth_over_two
from hybrid.metrics.intervals import wilson
from hybrid.metrics.paired import difference, sign_flip
from hybrid.metrics.ranking import gap_intervals, macro_f1_interval, risk_coverage
from hybrid.metrics.scope import scope_numbers
from hybrid.metrics.sequential import asymptotic_sequence, change, evidence_above, evidence_below, mean_sequence
from hybrid.metrics.summary import (
    baselines,
    expected_calibration_error,
    macro_f1,
    mean_interval,
    paired_difference,
    share,
    summarize,
)
from hybrid.metrics.surprise import ALARM, Contradiction, elsewhere, once_in, shift, surprise
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, Predictions, Tier
from hybrid.tuning import Goal
from hybrid.tuning.search import search_by_class

TIERS = tiers_of(2)
ROWS = [[(0, 0.9), (0, 1.0)], [(0, 0.9), (1, 1.0)], [(0, 0.2), (1, 1.0)], [(1, 0.2), (0, 1.0)]]
TRUTH = np.array([0, 1, 1, 1])


def test_summary_of_four_rows():
    s = summarize(replay(Policy(Triage(0.5), TIERS), table(TIERS, ROWS)), TRUTH)
    assert s.accuracy.value == 0.5  # right, kept wrong, fixed, broken
    assert s.escalation_rate.value == 0.5
    assert s.selective_accuracy.value == 0.5
    assert s.reach == (1.0, 0.5)
    assert s.cost_per_1000.value == pytest.approx(0.25)
    assert (s.latency_p50, s.latency_p95) == pytest.approx((0.05, 0.1))


def test_summary_of_nothing_is_an_error():
    empty = table(TIERS, ROWS).take(np.array([], dtype=int))
    with pytest.raises(TierError, match="no row"):
        summarize(replay(Policy(Triage(0.5), TIERS), empty), TRUTH[:0])


def test_wilson_matches_published_values_and_meets_the_ends():
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29
    for (x, n), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(x, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0, 1)
    assert wilson(7, 7)[1] == 1


def test_the_bootstrap_of_a_mean_has_the_width_of_theory():
    values = np.random.default_rng(0).exponential(size=4000)  # all distinct: grouped
    i = mean_interval(values)
    assert i.value == values.mean()
    assert i.half_width == pytest.approx(1.96 * values.std() / np.sqrt(4000), rel=0.06)
    assert mean_interval(values) == i  # seeded


@given(cases(min_rows=2))
def test_macro_f1_is_scikit_learns(case):
    policy, predictions, truth = case
    label = replay(policy, predictions).label
    present = np.union1d(truth, label[label >= 0])
    expected = f1_score(truth, label, labels=present, average="macro", zero_division=0)
    assert macro_f1(label, truth) == pytest.approx(expected)


def test_paired_difference_counts_what_escalation_fixes_and_breaks():
    predictions = table(TIERS, ROWS)
    cheap, policy = (replay(Policy(Triage(t), TIERS), predictions) for t in (0.0, 0.5))
    d = paired_difference(cheap, policy, TRUTH)
    assert (d.uplift, d.regression) == (1, 1)
    assert d.accuracy.value == 0
    assert d.p_value == 1.0
    assert not d.told_apart
    assert d.rows_to_tell is None


def test_a_clear_difference_is_told_apart():
    rows = [[(0, 0.1), (1, 1.0)]] * 30 + [[(1, 0.9), (1, 1.0)]] * 30
    predictions, truth = table(TIERS, rows), np.ones(60, dtype=int)
    cheap, policy = (replay(Policy(Triage(t), TIERS), predictions) for t in (0.0, 0.5))
    d = paired_difference(cheap, policy, truth)
    assert d.told_apart
    assert d.accuracy.value == 0.5
    assert d.p_value == pytest.approx(2 * 0.5**30)  # exact McNemar: all 30 discordant rows on one side
    back = paired_difference(policy, cheap, truth)
    assert back.accuracy.value == -0.5
    assert (back.uplift, back.regression) == (0, 30)


def test_policies_that_never_differed_may_still_differ():
    rows = [[(1, 0.9), (1, 1.0)]] * 200
    predictions, truth = table(TIERS, rows), np.ones(200, dtype=int)
    one, other = (replay(Policy(Triage(t), TIERS), predictions) for t in (0.0, 0.5))
    d = paired_difference(one, other, truth)
    assert d.accuracy.value == 0
    # Bonett & Price 2012: one more row to each side, z·sqrt(2/202/202)
    assert (d.accuracy.low, d.accuracy.high) == pytest.approx((-0.01372, 0.01372), abs=1e-5)
    assert not d.told_apart


def test_a_mean_of_two_values_is_as_sure_as_a_share():
    few = np.repeat([0.0, 4.0], [97, 3])
    low, high = wilson(3, 100)
    assert (mean_interval(few).low, mean_interval(few).high) == pytest.approx((4 * low, 4 * high))
    assert mean_interval(np.ones(50)).half_width == 0


def test_what_was_not_seen_may_still_happen():
    s = summarize(replay(Policy(Triage(0.0), TIERS), table(TIERS, ROWS)), TRUTH)  # nothing is escalated
    assert s.cost_per_1000.value == s.cost_per_1000.low == 0
    assert s.cost_per_1000.high == pytest.approx(0.5 * wilson(0, 4)[1])
    all_sent = summarize(replay(Policy(Triage(NEVER), TIERS), table(TIERS, ROWS)), TRUTH).cost_per_1000
    assert (all_sent.low, all_sent.high) == (pytest.approx(0.5 * wilson(4, 4)[0]), 0.5)


def test_a_mean_of_skewed_prices_reaches_further_up_than_down():
    rng = np.random.default_rng(0)
    held = [mean_interval(x) for x in rng.lognormal(0, 1, (300, 200))]
    assert np.mean([i.high - i.value > 1.1 * (i.value - i.low) for i in held]) > 0.9
    # Student's t holds it in 91 %
    assert np.mean([i.low <= np.exp(0.5) <= i.high for i in held]) >= 0.925


def test_the_mean_of_rows_that_are_more_skewed_is_never_more_sure():
    t, rest = stdtrit(49, 0.975), np.linspace(0, 1, 49)
    reach = []
    for dear in (1.0, 2.0, 4.0, 1000.0):
        x = np.append(rest, dear)
        i = mean_interval(x)
        reach.append((i.high - i.value) / (x.std(ddof=1) / np.sqrt(50)))
    assert reach == sorted(reach)
    # Hall's transformation where it turns, at a skewness of sqrt(n) / t
    assert reach[-1] == pytest.approx(3 * t * (1 + np.cbrt(1 / (6 * t**2))))


def test_the_mean_of_the_most_skewed_prices_holds():
    rng = np.random.default_rng(1)
    held = [mean_interval(x) for x in rng.lognormal(0, 1.5, (600, 50))]
    assert np.mean([i.low <= np.exp(1.125) <= i.high for i in held]) >= 0.945  # of what Student's t holds .82


def test_calibration_error_of_a_worked_example():
    confidence = np.array([0.9, 0.9, 0.6, 0.6])
    right = np.array([True, False, True, True])
    # bins of equal mass: |1.0 − 0.6| and |0.5 − 0.9|, half the rows each
    assert expected_calibration_error(confidence, right, n_bins=2) == pytest.approx(0.4)


def test_the_oracle_sends_exactly_the_rows_that_gain():
    b = baselines(table(TIERS, ROWS), TRUTH, cheap="t0", strong="t1")
    assert b.alone == {"t0": (0.0, 0.5), "t1": (0.5, 0.75)}
    assert b.oracle == (pytest.approx(0.25), 1.0)  # rows 2 and 3


TEN = np.repeat(np.arange(100), 10)  # a hundred groups of ten rows


def test_rows_that_only_repeat_their_group_count_as_their_groups():
    right = np.repeat(np.arange(100) < 80, 10)
    found, one_each = share(right, TEN), share(right[::10])
    assert found.value == 0.8
    # Student's t with four fifths of 99 degrees of freedom, for the normal
    assert found.half_width == pytest.approx(one_each.half_width * 1.990 / 1.960, rel=0.01)
    assert share(right[::10], np.arange(100)) == one_each  # every row a group of its own
    assert share(np.ones(1000, dtype=bool), TEN).low == pytest.approx(wilson(100, 100)[0], rel=0.01)


def test_rows_that_do_not_care_for_their_group_lose_little():
    right = np.random.default_rng(1).random(1000) < 0.8
    assert 1 <= share(right, TEN).half_width / share(right).half_width < 1.2


def test_groups_are_flipped_whole():
    a = table(TIERS, [[(0, 0.9), (1, 1.0)]] * 12 + [[(1, 0.9), (1, 1.0)]] * 88)
    truth, groups = np.ones(100, dtype=int), np.arange(100) // 4
    cheap, policy = (replay(Policy(Triage(t), TIERS), a) for t in (0.0, NEVER))
    d = paired_difference(cheap, policy, truth, groups=groups)
    assert d.p_value == pytest.approx(2 * 0.5**3)  # three groups, not twelve rows
    alone = paired_difference(cheap, policy, truth)
    assert alone.p_value == pytest.approx(2 * 0.5**12)
    assert d.accuracy.low < alone.accuracy.low
    assert d.groups_of(d.rows_to_tell) == pytest.approx(d.rows_to_tell / 4, abs=1)
    assert d.rows_to_tell > 2 * alone.rows_to_tell


def test_signs_of_many_rows_are_flipped_as_by_the_normal_distribution(monkeypatch):
    sums = np.random.default_rng(0).integers(-9, 12, 400).astype(float)
    exact = sign_flip(sums)
    monkeypatch.setattr("hybrid.metrics.paired.MOST_SUMS", 0)
    assert 0 < exact < 0.01
    assert np.log(sign_flip(sums)) == pytest.approx(np.log(exact), rel=0.02)
    assert sign_flip(np.array([3.0, -3.0])) == 1


@pytest.mark.parametrize("icc", [0.0, 0.3, 1.0])
def test_the_interval_of_a_share_holds_for_dependent_rows(icc):
    rng = np.random.default_rng(2)
    held = plain = 0
    for _ in range(400):
        own = rng.random(100) < 0.85
        follows = rng.random(1000) < np.sqrt(icc)
        right = np.where(follows, own[TEN], rng.random(1000) < 0.85)
        by_group, by_row = share(right, TEN), share(right)
        held += by_group.low <= 0.85 <= by_group.high
        plain += by_row.low <= 0.85 <= by_row.high
    assert held / 400 >= 0.93
    assert plain / 400 < 0.93 or not icc


def test_the_interval_of_a_share_holds_as_often_where_few_groups_are_large():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1200):
        groups = np.repeat(np.arange(50), rng.geometric(1 / 20, 50))
        i = share((rng.random(50) < 0.9)[groups], groups)
        held += i.low <= 0.9 <= i.high
    assert held / 1200 >= 0.945  # .93 by the sums of the groups seen alone


def test_the_worth_of_groups_of_unequal_size_by_hand():
    # four groups of 2, all right or all wrong, and one of 6, half right
    flags, size = np.repeat([True, False, True, False], [2, 2, 2, 5]), np.array([2, 2, 2, 2, 6])
    flags, groups = np.r_[flags, [True] * 3], Groups.of(np.repeat(np.arange(5), size))
    typical = 52 / 14
    # the large group stands on the mean, so the sums show little: 4 squares of 1, less what the mean took
    by_sums = 4 / (1 - 2 * 248 / (14 * 52) + 52 / 14**2)
    # analysis of variance: mean squares 2/4 between and 1.5/9 within, (14 - 52/14)/4 rows a group: correlation .4375
    alike = (1 / 2 - 1 / 6) / (1 / 2 + (18 / 7 - 1) / 6)
    by_correlation = 3.5 * (1 + alike * (typical - 1))
    assert alike == pytest.approx(0.4375)
    assert by_correlation > by_sums
    student = stdtrit(0.8 * (14 / typical - 1), 0.975) / ndtri(0.975)
    effect = (by_correlation + 2 * typical) / (3.5 + 2)
    assert groups.effect_on(flags) == pytest.approx(effect * student**2)
    # the two rows that are imagined to differ do so as much as those seen
    effect = (by_correlation + 2 * typical / 4) / (3.5 + 2 / 4)
    assert groups.worth(flags - 0.5) == pytest.approx(14 / (effect * student**2))


def test_the_worth_of_groups_whose_large_ones_differ_by_hand():
    # two groups of 6, one all right and one all wrong, and four of 2, half right: the sums show more than correlation
    size = np.array([6, 6, 2, 2, 2, 2])
    flags, groups = (
        np.r_[np.repeat([True, False], 6), np.tile([True, False], 4)],
        Groups.of(np.repeat(np.arange(6), size)),
    )
    n, squares, typical = 20, 88, 88 / 20
    by_sums = 2 * 9 / (1 - 2 * (2 * 216 + 4 * 8) / (n * squares) + squares / n**2)
    between, within = 2 * 9 / 6 / 5, (5 - 2 * 9 / 6) / (n - 6)
    alike = (between - within) / (between + ((n - typical) / 5 - 1) * within)
    assert by_sums > 5 * (1 + alike * (typical - 1))
    student = stdtrit(0.8 * (n / typical - 1), 0.975) / ndtri(0.975)
    assert groups.effect_on(flags) == pytest.approx((by_sums + 2 * typical) / (5 + 2) * student**2)


def test_the_mean_of_dependent_rows_follows_the_skewness_of_their_groups_sums():
    rng = np.random.default_rng(3)
    groups, values = np.arange(400) // 4, np.repeat(rng.lognormal(0, 1.2, 100), 4) * rng.uniform(0.9, 1.1, 400)
    together, found = Groups.of(groups), mean_interval(values, groups=groups)
    sums = np.bincount(groups, values - values.mean())
    t, spread = stdtrit(together.freedom, 0.975), np.sqrt(sums @ sums / 99)
    skewness = np.mean(sums**3) / spread**3 * (1 + 2.5 / 100**0.25)
    part = np.clip(skewness / 10, -1 / t, 1 / t)

    def back(y):
        return 3 / part * (np.cbrt(1 + part * (y - part / 6)) - 1)

    assert found.high == pytest.approx(values.mean() - spread * 10 / 400 * back(-t))
    alone = mean_interval(values[::4], groups=np.arange(100))
    assert found.half_width > 0.9 * alone.half_width
    # of two groups the sums are 4 above and 4 below: no skewness, and the one degree of freedom that there is
    two = mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 5.0, 5.0]), groups=np.repeat([0, 1], 4))
    assert two.high == pytest.approx(3.5 + stdtrit(1, 0.975) * np.sqrt(2 * 4**2) * np.sqrt(2) / 8)


@pytest.mark.parametrize("most", [1, 4, 15])
def test_what_rows_are_worth_over_two_thresholds_is_what_it_is_at_each_pair(most):
    rng = np.random.default_rng(most)
    groups = Groups.of(np.r_[0, 0, np.repeat(np.arange(40), rng.integers(1, most + 1, 40))])
    n, (rows, columns) = groups.n_rows, (7, 16)  # of these 112 pairs groups of up to 3 rows are summed up by pairs
    neither, first, second, both = (rng.random((4, n)) < 0.6).view(np.int8)
    at = rng.integers(0, columns + 1, n).astype(np.int32), rng.integers(0, rows + 1, n).astype(np.int32)
    steps = Steps((neither, first - neither, second - neither, both - first - second + neither), at, (rows, columns))
    flags = np.empty((rows, columns, n), dtype=bool)
    for j, i in np.ndindex(rows, columns):
        flags[j, i] = np.where(at[0] <= i, np.where(at[1] <= j, both, first), np.where(at[1] <= j, second, neither))
    found = worth_over_two(steps, flags.sum(axis=2), groups)
    assert found == pytest.approx(np.apply_along_axis(groups.worth_of_flags, 2, flags))


def test_a_test_result_contradicts_a_floor_as_seldom_as_it_says_and_finds_what_is_missed():
    rng = np.random.default_rng(3)
    own = rng.random((600, 100)) < 0.9
    right = own[:, TEN]  # every group is right or wrong as one
    assert np.mean([surprise(r, 0.9, groups=TEN) <= ALARM for r in right]) <= 0.07
    assert np.mean([surprise(r, 0.9) <= ALARM for r in right]) > 0.2
    missed = rng.random((600, 500)) < 0.87
    assert np.mean([surprise(r, 0.9) <= ALARM for r in missed]) > 0.6
    # the exact binomial tail: P(X <= 85 | 100, .92)
    assert surprise(np.arange(100) < 85, 0.92) == pytest.approx(binom.cdf(85, 100, 0.92))
    assert (surprise(np.ones(5, dtype=bool), 1.0), surprise(np.arange(5) < 4, 1.0)) == (1.0, 0.0)


def test_a_shift_between_the_sides_is_told_from_the_luck_of_a_choice():
    rng = np.random.default_rng(4)
    llm = rng.random(1400) < 0.92
    alike, moved = ((llm[:1000, None], other[:, None]) for other in (llm[1000:], rng.random(400) < 0.84))
    assert shift(*alike) > ALARM > shift(*moved)
    assert np.isnan(shift(*(side[:, :0] for side in alike)))  # no tier that was not fitted here
    pooled = (8 + 4 + 1) / (10 + 8 + 2)  # 8 of 10 right, and 4 of 8
    z = (0.8 - 0.5) / np.sqrt(pooled * (1 - pooled) * (1 / 10 + 1 / 8))
    assert shift(np.arange(10)[:, None] < 8, np.arange(8)[:, None] < 4) == pytest.approx(2 * norm.sf(z))
    assert np.mean([shift(rng.random((600, 3)) < 0.9, rng.random((300, 3)) < 0.9) <= ALARM for _ in range(300)]) < 0.09


def test_what_contradicts_is_said_with_how_surprising_it_is_and_why():
    said = [Contradiction("Few are right", 0.031, p).words for p in (0.01, 0.5, np.nan)]
    assert all(
        words.startswith(f"Few are right: were it kept, so few would be right in {once_in(0.031)}. ") for words in said
    )
    assert [("rows have changed, not" in w, "luck of choosing" in w) for w in said] == [(1, 0), (0, 1), (0, 1)]
    assert "were it kept" not in Contradiction("It costs more", np.nan, 0.5).words
    tiers = (Tier("here", "classifier"), Tier("llm", "recorded"), Tier("made up", "whatif", simulated=True))
    there = elsewhere(table(tiers, [[(0, 1), (0, 1), (0, 1)], [(0, 1), (1, 1), (0, 1)]]), np.array([0, 0]))
    assert there.tolist() == [[True], [False]]


def test_where_escalation_gains_nothing_the_test_side_is_seldom_green():
    """Thresholds are chosen for accuracy on tune, one for each class too; both tiers are as good whatever is asked."""
    rng = np.random.default_rng(5)
    green = {"tune": 0, "test": 0}
    for _ in range(100):
        n = 600
        truth = rng.integers(0, 5, n)
        label = np.column_stack([np.where(rng.random(n) < 0.8, truth, (truth + 1) % 5) for _ in range(2)])
        confidence = np.column_stack([rng.random(n), np.ones(n)])
        free = Predictions(TIERS, tuple("abcde"), label, confidence, np.zeros((n, 2)), np.zeros((n, 2)))
        half = {"tune": np.arange(n) < n // 2, "test": np.arange(n) >= n // 2}
        tune = half["tune"]
        found = search_by_class(
            Policy(Triage(), TIERS), free.take(tune), truth[tune], Goal("most_accurate"), min_rows=20
        )
        for side, rows in half.items():
            cheap, chosen = (replay(p, free.take(rows)) for p in (Policy(Triage(0.0), TIERS), found.policy))
            d = paired_difference(cheap, chosen, truth[rows])
            green[side] += d.told_apart and d.accuracy.value > 0
    assert green["tune"] > 40
    assert green["test"] <= 8  # 2.5 % are expected, and the bound leaves room for chance


def ends(*intervals):
    """Return the numbers of intervals, one behind the other."""
    return [float(x) for i in intervals for x in (i.value, i.low, i.high)]


def numbers(groups, rng):
    """Return what is said of 233 rows of 90 groups, of two tiers and a policy over them."""
    n, own = len(GROUPS), rng.random(90)[GROUPS]
    said, truth = np.round(0.5 * own + 0.5 * rng.random(n), 2), rng.integers(0, 4, n)
    label = [np.where(rng.random(n) < p, truth, (truth + 1) % 4) for p in (0.35 + 0.5 * said, 0.9, 0.84)]
    weak, strong, policy = (x == truth for x in label)
    cost = rng.lognormal(0, 1, n) * own
    change = policy.view(np.int8) - weak.view(np.int8)
    counts, together = [int((change == k).sum()) for k in (1, -1)], Groups.of(groups)
    diagram, ranked = reliability(said, weak, groups=groups), risk_coverage(said, weak, groups=groups)
    paired = difference(*counts, mean_interval(cost - 1, groups=groups), change, together)
    scoped = scope_numbers(said < 0.15, weak, truth == 3, groups=groups)
    sides = None if groups is None else (groups[:120], groups[120:])
    checked = Checked(truth[:90], np.array([200.0, 300, 400, 500]), None if groups is None else groups[:90])
    yield "share", ends(share(weak, groups))
    yield "mean", ends(mean_interval(cost, groups=groups))
    yield "mean of few values", ends(mean_interval(np.round(cost), groups=groups, least=-1.0, most=20.0))
    yield "calibration", ends(diagram.ece, diagram.brier, diagram.chance)
    yield "auroc", ends(auroc(said, weak, group=groups))
    yield "aurc", ends(ranked.aurc, ranked.e_aurc)
    yield "gap", ends(*gap_intervals(said, weak, strong, policy, groups=groups))
    yield "macro-F1", ends(macro_f1_interval(label[0], truth, groups=groups))
    yield "difference", [*ends(paired.accuracy, paired.cost_per_1000), paired.rows_to_tell, paired.design_effect]
    yield "scope", [*ends(scoped.rest, scoped.caught), scoped.bound]
    yield "surprise", [np.log(surprise(weak, 0.7, groups=groups))]
    yield "shift", [np.log(shift(weak[:120, None], policy[120:, None], groups=sides))]
    yield "audited", ends(audited.share(weak[:90], checked, predicted=said[:90], mean=0.55))
    yield "audited difference", ends(audited.difference(change[:90], checked, change[:90] != 0, differ=0.4))


GROUPS = np.repeat(np.arange(90), np.random.default_rng(12).integers(1, 5, 90))

SAME = {  # of rows alone, and in their groups
    "share": [[0.58369, 0.51954, 0.64513], [0.58369, 0.51198, 0.65202]],
    "mean": [[0.94638, 0.804, 1.43186], [0.94638, 0.76513, 1.38344]],
    "mean of few values": [[0.87983, 0.72997, 1.22277], [0.87983, 0.68703, 1.35838]],
    "calibration": [
        [0.13283, 0.02578, 0.16848, 0.24288, 0.21732, 0.2731, 0.09019, 0.06063, 0.12426],
        [0.13283, 0.01885, 0.16953, 0.24288, 0.21318, 0.27887, 0.0934, 0.06132, 0.13155],
    ],
    "auroc": [[0.63838, 0.56082, 0.70934], [0.63838, 0.54669, 0.72099]],
    "aurc": [
        [0.33303, 0.25743, 0.43084, 0.23097, 0.17347, 0.30754],
        [0.33303, 0.24897, 0.44548, 0.23097, 0.16516, 0.323],
    ],
    "gap": [
        [0.78947, 0.60541, 0.98556, 0.60744, 0.53438, 0.69425],
        [0.78947, 0.61051, 0.98149, 0.60744, 0.53123, 0.69389],
    ],
    "macro-F1": [[0.58343, 0.51925, 0.64979], [0.58343, 0.51385, 0.65564]],
    "difference": [
        [0.25751, 0.17767, 0.33297, -53.61706, -195.99594, 431.86257, 49.0, 1.0],
        [0.25751, 0.17072, 0.33916, -53.61706, -234.87362, 383.44003, 57.0, 1.17496],
    ],
    "scope": [
        [0.59459, 0.52893, 0.65704, 0.07216, 0.03539, 0.14153, 0.06561],
        [0.59459, 0.5223, 0.66301, 0.07216, 0.02964, 0.16529, 0.11376],
    ],
    "surprise": [[-9.13659], [-7.62985]],
    "shift": [[-12.27843], [-8.21981]],
    "audited": [[0.64771, 0.53669, 0.74478], [0.64771, 0.53512, 0.74598]],
    "audited difference": [[0.22542, 0.09444, 0.33046], [0.22542, 0.06299, 0.35114]],
}

STREAM = [
    [0.07727, 0.06236, 0.10771, 0.49425, 0.43967, 0.54722, 1.54549, 1.21614, 1.87484],
    (19.36472, 16.90611),
    [0.19192, -0.2347, -0.30126, 0.21507, 13.57765],
    ([5, 12, 14, 14], 23),
    [-0.0, -0.16409, 3.4999, 0.48871, 4.2449],
    ([95, 199, 373, 373], 292),
]


@pytest.mark.parametrize("grouped", [False, True])
def test_the_same_rows_give_the_same_numbers_in_every_version(grouped):
    for name, found in numbers(GROUPS if grouped else None, np.random.default_rng(12)):
        assert found == pytest.approx(SAME[name][grouped], abs=2e-5), name


def test_the_same_stream_gives_the_same_evidence_in_every_version():
    rng = np.random.default_rng(12)
    cost, said, weight = rng.lognormal(0, 1, 240), rng.beta(2, 2, 240), rng.random(240)
    found = ends(mean_sequence(cost / 20), mean_sequence(said, weights=weight), asymptotic_sequence(cost, best_at=500))
    assert found == pytest.approx(STREAM[0], abs=2e-5)
    assert (evidence_above(said, 0.4), evidence_below(said, 0.6, weights=weight)) == pytest.approx(STREAM[1], abs=2e-5)
    p = np.r_[rng.random(100), rng.random(140) ** 2]
    daily = change(p, np.arange(240) // 8, n_looks=30)
    assert daily.wealth[[0, 5, 12, 20, 29]] == pytest.approx(STREAM[2], abs=2e-5)
    assert (daily.start[[5, 12, 20, 29]].tolist(), daily.crossed(0.05)) == STREAM[3]
    yearly = change(p, np.arange(240) * 2, n_looks=480, cuts=np.array([0.2, 0.5, 1.0]))  # into a second year
    assert yearly.wealth[[0, 100, 360, 400, 479]] == pytest.approx(STREAM[4], abs=2e-5)
    assert (yearly.start[[100, 360, 400, 479]].tolist(), yearly.crossed(0.05)) == STREAM[5]
