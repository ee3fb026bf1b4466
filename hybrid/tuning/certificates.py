"""Certificates: every threshold's promise on the error at once, exactly and at the cost of one curve."""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr

from hybrid.errors import TierError
from hybrid.routing.table import Floats, Rows

PART = 1 << 12  # hypotheses that are tested together


def binomial_p_values(errors: Rows, trials: Rows, *, risk: float) -> Floats:
    """Return the chance of seeing so few errors if the true rate were `risk`: P(Bin(trials, risk) ≤ errors).

    Parameters
    ----------
    errors, trials
        Counts, of one shape.
    risk
        The rate to be ruled out, in (0, 1).

    Returns
    -------
    p_values
        Valid for the hypothesis that the true rate is above `risk`; 1 where there is no trial.

    References
    ----------
    Clopper & Pearson 1934; the exact binomial test.
    """
    _check_risk(risk)
    errors, trials = np.asarray(errors, dtype=np.float64), np.asarray(trials, dtype=np.int64)
    found = np.ones(trials.shape)
    some = (trials > 0) & (errors < trials)
    found[some] = bdtr(errors[some], trials[some], risk)
    return found


def least_trials(risk: float, delta: float) -> int:
    """Return how many rows are needed before a promise can be kept at all: none wrong in ``ln δ / ln(1 − risk)``."""
    return int(np.ceil(np.log(delta) / np.log1p(-risk)))


def fixed_sequence(p_values: Floats, *, delta: float, start: int = 0) -> int:
    """Return how many hypotheses are rejected when they are tested in order until the first that is not.

    Parameters
    ----------
    p_values
        In an order that was fixed before the data were seen, shape ``(n_points,)``.
    delta
        Chance that a promise is broken.
    start
        The first hypothesis that is tested; those before it are passed over, which must not depend on the errors.

    Returns
    -------
    n
        ``p_values[start : start + n]`` hold, each with probability at least ``1 − delta``.

    References
    ----------
    Angelopoulos et al. 2021, Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control.
    """
    tested = p_values[start:] <= delta
    return len(tested) if tested.all() else int(np.argmin(tested))


def certified(errors: Rows, trials: Rows, *, risk: float, delta: float) -> int | None:
    """Return the last point, counted from the strictest threshold, that is certified; None where none is.

    Parameters
    ----------
    errors, trials
        Counts at every threshold, from the strictest to the most lenient; neither ever falls.
    risk, delta
        The promise: the true error rate is at most `risk` with probability at least ``1 − delta``.

    Notes
    -----
    Testing starts at the first threshold with `least_trials` rows: before it not even a flawless record would do. How
    many rows a threshold keeps does not depend on their errors, so starting there breaks nothing. Only points where an
    error was added are computed: between two of them the p-value falls.

    Examples
    --------
    No error in 29 rows rules out a rate of 10 % at 95 %; one in 30 does not.

    >>> certified(np.array([0, 0, 1]), np.array([10, 29, 30]), risk=0.1, delta=0.05)
    1
    """
    _check_risk(risk)
    if not 0 < delta < 1:
        raise TierError(f"delta is {delta}: it must be between 0 and 1.")
    enough = np.flatnonzero(np.asarray(trials) >= least_trials(risk, delta))
    if not len(enough):
        return None
    start = int(enough[0])
    errors, trials = np.asarray(errors)[start:], np.asarray(trials)[start:]
    # more trials without an error only lower the p-value: what fails first fails where an error was added
    tested = np.flatnonzero(np.diff(errors, prepend=-1) > 0)
    for at in range(0, len(tested), PART):
        part = tested[at : at + PART]
        passed = fixed_sequence(binomial_p_values(errors[part], trials[part], risk=risk), delta=delta)
        if passed < len(part):
            return start + int(part[passed]) - 1 if at + passed else None
    return start + len(errors) - 1


def _check_risk(risk: float) -> None:
    if not 0 < risk < 1:
        raise TierError(f"The risk is {risk}: it must be between 0 and 1. Percent? Divide by 100.")
