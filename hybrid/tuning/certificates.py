"""Certificates: exact tests of the error at every threshold, and the order in which they spend δ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, betainc

from hybrid.errors import TierError
from hybrid.routing.table import Floats, Rows

PART = 1 << 12  # hypotheses that are tested together


class Start(NamedTuple):
    """Where testing begins, or gains in strength: a place in the order, and its share of δ."""

    at: int
    share: float


class Run(NamedTuple):
    """Neighbouring hypotheses that are all rejected: from `first` to `last`, tested at `level` in the end."""

    first: int
    last: int
    level: float


def binomial_p_values(errors: Rows | Floats, trials: Rows | Floats, *, risk: float) -> Floats:
    """Return the chance of seeing so few errors if the true rate were `risk`: P(Bin(trials, risk) ≤ errors).

    Parameters
    ----------
    errors, trials
        Counts, of one shape. Where a trial is a group of rows, it adds its share of errors, and `errors` need not be
        whole: the tail is then read off the incomplete beta function, which equals it at whole numbers.
    risk
        The rate to be ruled out, in (0, 1).

    Returns
    -------
    p_values
        Valid for the hypothesis that the true rate is above `risk`; 1 where there is no trial.

    Notes
    -----
    Shares that are neither 0 nor 1 scatter less than the hits and misses of the same rate. For shares that take two
    values, whichever they are, the test breaks its level nowhere in an exact search (`tests/test_certificates.py`);
    with hits and misses it is the binomial test itself.

    References
    ----------
    Clopper & Pearson 1934; the exact binomial test.
    """
    _check_risk(risk)
    errors, trials = np.asarray(errors, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    found = np.ones(trials.shape)
    some = (trials > 0) & (errors < trials)
    # sums of shares come to whole numbers but for the last bits
    found[some] = betainc(trials[some] - errors[some], errors[some] + 1, 1 - risk)
    return found


def least_trials(risk: float, delta: float, *, errors: int = 0) -> int:
    """Return how many trials rule out a rate of `risk` at level `delta` although there were so many errors.

    Examples
    --------
    Without an error that is ``ln δ / ln(1 − risk)``:

    >>> least_trials(0.1, 0.05), least_trials(0.1, 0.05, errors=1)
    (29, 46)
    """
    _check_risk(risk)
    if not 0 < delta < 1:
        raise TierError(f"delta is {delta}: it must be between 0 and 1.")
    low = errors
    high = errors + max(1, int(np.log(delta) / np.log1p(-risk)))
    while bdtr(errors, high, risk) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bdtr(errors, middle, risk) > delta else (low, middle)
    return high


def most_errors(trials: int, risk: float, delta: float) -> int:
    """Return how many errors among so many trials still rule out a rate of `risk`; −1 where not even none does."""
    low, high = -1, trials + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bdtr(middle, trials, risk) <= delta else (low, middle)
    return low


def fixed_sequence(p_values: Floats, *, delta: float) -> int:
    """Return how many hypotheses are rejected when they are tested in order until the first that is not.

    Parameters
    ----------
    p_values
        In an order that was fixed before the data were seen, shape ``(n_points,)``.
    delta
        Chance that a promise is broken.

    Returns
    -------
    n
        ``p_values[:n]`` hold, each with probability at least ``1 − delta``.

    References
    ----------
    Angelopoulos et al. 2021, Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control.
    """
    tested = p_values <= delta
    return len(tested) if tested.all() else int(np.argmin(tested))


def fallback(
    errors: Rows | Floats, trials: Rows | Floats, starts: Sequence[Start], *, risk: float, delta: float
) -> list[Run]:
    """Test hypotheses in a fixed order from several starts; what one start spends is not lost to the next.

    Parameters
    ----------
    errors, trials
        Counts at every point, in an order that was fixed before labels were seen; trials never fall.
    starts
        In order; their shares come to at most 1. Where they lie may depend on anything but labels.
    risk, delta
        Each point's hypothesis is that the true rate is above `risk`. With probability at least ``1 − delta`` none is
        rejected wrongly, at any point.

    Notes
    -----
    The first start has its share of δ. While all is rejected up to the next start, what was carried so far and that
    start's own share are used on together; a hypothesis that is not rejected keeps what reached it, and the next start
    begins with its own share alone. One start with all of δ is Learn-then-Test. Only points where an error was added
    are computed: between two of them the p-value falls.

    References
    ----------
    Wiens 2003, A fixed sequence Bonferroni procedure; Bretz, Maurer, Brannath & Posch 2009, A graphical approach to
    sequentially rejective multiple test procedures; Angelopoulos et al. 2021, Learn then Test.

    Examples
    --------
    No error in 38 trials rules out a rate of 10 % with half of δ = 10 %; one in 42 does with all of it:

    >>> fallback(np.array([0, 1]), np.array([38, 42]), [Start(0, 0.5)], risk=0.1, delta=0.1)
    [Run(first=0, last=0, level=0.05)]
    >>> fallback(np.array([0, 1]), np.array([38, 42]), [Start(0, 0.5), Start(1, 0.5)], risk=0.1, delta=0.1)
    [Run(first=0, last=1, level=0.1)]
    """
    _check_risk(risk)
    errors, trials = np.asarray(errors, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    found: list[Run] = []
    alive = False
    for start, end in zip(starts, [*(s.at for s in starts[1:]), len(errors)], strict=True):
        level = start.share * delta + (found[-1].level if alive else 0.0)
        passed = _walk(errors[start.at : end], trials[start.at : end], risk, level) if end > start.at else 0
        if passed or end == start.at:
            first = found.pop().first if alive else start.at
            found.append(Run(first, start.at + passed - 1, level))
        alive = passed == end - start.at
    return [run for run in found if run.last >= run.first]


def _walk(errors: Rows | Floats, trials: Rows | Floats, risk: float, level: float) -> int:
    """Return how many points pass until the first that does not."""
    added = np.diff(errors) > 0
    tested = np.concatenate([[0], np.flatnonzero(added) + 1])
    ends = [0, *(PART >> 2 * k for k in (3, 2, 1)), *range(PART, len(tested) + PART, PART)]  # most fail early
    for start, end in pairwise(ends):
        part = tested[start:end]
        passed = fixed_sequence(binomial_p_values(errors[part], trials[part], risk=risk), delta=level)
        if passed < len(part):
            return int(part[passed])
    return len(errors)


def _check_risk(risk: float) -> None:
    if not 0 < risk < 1:
        raise TierError(f"The risk is {risk}: it must be between 0 and 1. Percent? Divide by 100.")
