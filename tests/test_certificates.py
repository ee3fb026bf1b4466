"""Certificates: the exact test at every threshold, and a promise that simulations hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hybrid.errors import TierError
from hybrid.tuning import certificates
from hybrid.tuning.certificates import binomial_p_values, certified, fixed_sequence, least_trials


def test_p_values_are_the_binomial_tail_at_every_point():
    errors, trials = np.array([0, 1, 3, 10, 5, 0]), np.array([29, 40, 100, 100, 5, 0])
    found = binomial_p_values(errors, trials, risk=0.1)
    np.testing.assert_allclose(found[:4], binom.cdf(errors[:4], trials[:4], 0.1), rtol=1e-10)
    assert found[4:].tolist() == [1, 1]  # all wrong, and nothing seen


def test_testing_stops_at_the_first_that_fails():
    assert fixed_sequence(np.array([0.01, 0.02, 0.2, 0.01]), delta=0.05) == 2
    assert fixed_sequence(np.array([0.2, 0.01]), delta=0.05) == 0
    assert fixed_sequence(np.array([0.2, 0.01, 0.01]), delta=0.05, start=1) == 2
    assert certified(np.array([9, 20, 0]), np.array([9, 40, 50]), risk=0.1, delta=0.05) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 2**32 - 1), st.sampled_from((1, 3, 4096)))
def test_only_points_where_an_error_was_added_need_a_test(steps, seed, part):
    trials = np.cumsum(np.array(steps) * 3)
    errors = np.minimum(np.cumsum(np.random.default_rng(seed).random(len(steps)) < 0.15), trials)
    p = binomial_p_values(errors, trials, risk=0.2)
    enough = np.flatnonzero(trials >= least_trials(0.2, 0.3))
    n = fixed_sequence(p, delta=0.3, start=int(enough[0])) if len(enough) else 0
    expected = int(enough[0]) + n - 1 if n else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "PART", part)
        assert certified(errors, trials, risk=0.2, delta=0.3) == expected


def test_fewer_rows_than_needed_certify_nothing():
    n = least_trials(0.05, 0.1)
    assert binom.cdf(0, n, 0.05) <= 0.1 < binom.cdf(0, n - 1, 0.05)
    assert certified(np.zeros(3, int), np.arange(n - 3, n), risk=0.05, delta=0.1) is None


def test_the_promise_is_broken_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    risk, delta, n, broken, runs = 0.1, 0.1, 400, 0, 600
    for _ in range(runs):
        confidence = np.sort(rng.random(n))[::-1]
        wrong = rng.random(n) > confidence  # error at a confidence is one minus it
        k = certified(np.cumsum(wrong), np.arange(1, n + 1), risk=risk, delta=delta)
        if k is not None:
            broken += (1 - (1 + confidence[k]) / 2) > risk  # true error above the threshold
    assert broken / runs <= delta + 2 * np.sqrt(delta * (1 - delta) / runs)
    assert broken > 0  # the bound is not idle


@pytest.mark.parametrize(("risk", "delta"), [(5.0, 0.1), (0.0, 0.1), (0.1, 1.0)])
def test_an_impossible_promise_is_refused(risk, delta):
    with pytest.raises(TierError, match="between 0 and 1"):
        certified(np.array([0]), np.array([50]), risk=risk, delta=delta)
