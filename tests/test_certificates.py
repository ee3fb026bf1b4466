"""Certificates: the exact test at every threshold, how several starts share δ, and promises that simulations hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hybrid.errors import TierError
from hybrid.tuning import certificates
from hybrid.tuning.certificates import (
    Run,
    Start,
    binomial_p_values,
    fallback,
    fixed_sequence,
    least_trials,
    most_errors,
)


def test_p_values_are_the_binomial_tail_at_every_point():
    errors, trials = np.array([0, 1, 3, 10, 5, 0]), np.array([29, 40, 100, 100, 5, 0])
    found = binomial_p_values(errors, trials, risk=0.1)
    np.testing.assert_allclose(found[:4], binom.cdf(errors[:4], trials[:4], 0.1), rtol=1e-10)
    assert found[4:].tolist() == [1, 1]  # all wrong, and nothing seen


@pytest.mark.parametrize("risk", [0.02, 0.1, 0.3])
def test_shares_of_errors_break_the_test_no_more_often_than_hits_and_misses(risk):
    """Exact: sums of n shares that take two values with mean `risk`, n and the values over a grid."""
    for delta in (0.1, 0.01):
        for n in (12, 20, 30, 45, 65, 90, 114, 200, 500):
            for low in np.linspace(0, 0.95 * risk, 8):
                for high in (1.0, 0.7, 0.4):
                    sums = n * low + (high - low) * np.arange(n + 1)
                    rejected = binomial_p_values(sums, np.full(n + 1, n), risk=risk) <= delta
                    broken = binom.pmf(np.arange(n + 1), n, (risk - low) / (high - low))[rejected].sum()
                    assert broken <= delta * (1 + 1e-9)


def test_testing_stops_at_the_first_that_fails():
    assert fixed_sequence(np.array([0.01, 0.02, 0.2, 0.01]), delta=0.05) == 2
    assert fixed_sequence(np.array([0.2, 0.01]), delta=0.05) == 0


def test_a_start_adds_its_share_to_what_the_walk_before_it_carries():
    """By hand, δ = 10 %, risk 10 %: 0.9³⁰ = 4.2 %; P(Bin(45, 0.1) ≤ 1) = 5.2 %; P(Bin(60, 0.1) ≤ 3) = 13.7 %."""
    errors, trials = np.array([0, 1, 3, 3]), np.array([30, 45, 60, 80])
    p = binomial_p_values(errors, trials, risk=0.1)
    np.testing.assert_allclose(p, [0.0424, 0.0524, 0.1374, 0.0353], atol=1e-4)
    halves = [Start(0, 0.5), Start(1, 0.5)]
    assert fallback(errors, trials, halves, risk=0.1, delta=0.1) == [Run(0, 1, 0.1)]  # 5 %, then 10 % together
    assert fallback(errors, trials, halves[:1], risk=0.1, delta=0.1) == [Run(0, 0, 0.05)]
    late = [Start(0, 0.4), Start(3, 0.6)]  # the first fails at 4 %; the last has its own 6 % alone
    assert fallback(errors, trials, late, risk=0.1, delta=0.1) == [Run(3, 3, pytest.approx(0.06))]
    assert fallback(errors, trials, [Start(3, 0.3)], risk=0.1, delta=0.1) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 2**32 - 1), st.sampled_from((1, 3, 4096)))
def test_only_points_where_an_error_was_added_need_a_test(steps, seed, part):
    """The same as a test at each point, one after the other."""
    rng = np.random.default_rng(seed)
    trials = 10 + np.cumsum(np.array(steps) * 3)
    errors = np.minimum(np.cumsum(rng.random(len(steps)) < 0.15), trials)
    places = sorted({0, *rng.integers(0, len(steps), 3).tolist()})
    starts = [Start(at, 1 / len(places)) for at in places]
    expected, level = {}, 0.0
    for i in range(len(errors)):
        if i in places:
            level += 0.3 / len(places)
        if level and binomial_p_values(errors[i : i + 1], trials[i : i + 1], risk=0.2)[0] <= level:
            expected[i] = level
        else:
            level = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "PART", part)
        found = fallback(errors, trials, starts, risk=0.2, delta=0.3)
    assert [i for run in found for i in range(run.first, run.last + 1)] == list(expected)
    assert [run.level for run in found] == pytest.approx([expected[run.last] for run in found])


def test_no_fewer_rows_allow_as_many_errors():
    for errors in (0, 1, 4):
        n = least_trials(0.05, 0.1, errors=errors)
        assert binom.cdf(errors, n, 0.05) <= 0.1 < binom.cdf(errors, n - 1, 0.05)
        assert most_errors(n, 0.05, 0.1) == errors
        assert most_errors(n - 1, 0.05, 0.1) == errors - 1


@pytest.mark.parametrize("shares", [(1.0,), (0.4, 0.3, 0.3)])
def test_the_promise_is_broken_no_more_often_than_it_says(shares):
    rng = np.random.default_rng(0)
    risk, delta, n, broken, runs = 0.1, 0.1, 400, 0, 600
    starts = [Start(at, share) for at, share in zip((21, 80, 200), shares, strict=False)]
    for _ in range(runs):
        confidence = np.sort(rng.random(n))[::-1]
        wrong = rng.random(n) > confidence  # error at a confidence is one minus it
        found = fallback(np.cumsum(wrong), np.arange(1, n + 1), starts, risk=risk, delta=delta)
        if found:
            broken += (1 - (1 + confidence[found[-1].last]) / 2) > risk  # true error above the threshold
    assert broken / runs <= delta + 2 * np.sqrt(delta * (1 - delta) / runs)
    assert broken > 0  # the bound is not idle


@pytest.mark.parametrize(("risk", "delta"), [(5.0, 0.1), (0.0, 0.1), (0.1, 1.0)])
def test_an_impossible_promise_is_refused(risk, delta):
    with pytest.raises(TierError, match="between 0 and 1"):
        least_trials(risk, delta)
