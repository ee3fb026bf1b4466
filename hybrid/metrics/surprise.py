"""Surprise: does the test side contradict what was promised, and is it luck of the choice or a shift between sides?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, ndtr

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import holm
from hybrid.routing.table import SCOPE, Bools, Labels, Predictions

ALARM = 0.05  # p-value at which a result contradicts
FITTED = ("rules", "classifier", "embedding", "gate", SCOPE)  # kinds of tiers that are fitted on the tune side


def surprise(right: Bools, promised: float, *, groups: Labels | None = None) -> float:
    """Return how often so few answers would be right, were the accuracy exactly as promised: a one-sided p-value.

    The exact binomial tail, at the number of independent rows that the groups are worth.

    Parameters
    ----------
    right
        Whether each answer is right, shape ``(n_rows,)``; of kept rows only, where the promise is about these.
    promised
        Least accuracy that was promised, or the floor that was asked for.
    groups
        Codes of what belongs together, same shape; None: every row is a group of its own.

    Returns
    -------
    float
        1 where there is no row.

    References
    ----------
    Rao & Scott 1992, A Simple Method for the Analysis of Clustered Binary Data.

    Examples
    --------
    85 of 100 right where 92 % were promised:

    >>> right = np.arange(100) < 85
    >>> round(surprise(right, 0.92), 4), round(surprise(right, 0.85), 2)
    (0.0133, 0.54)
    """
    n, hits = len(right), float(np.sum(right))
    if not n or promised <= 0:
        return 1.0
    if promised >= 1:
        return 1.0 if hits == n else 0.0
    together = Groups.of(groups)
    worth = n if together is None else together.worth_of_flags(right)
    hits *= worth / n
    # the binomial tail for numbers of rows that need not be whole
    return float(betainc(worth - hits, hits + 1, 1 - promised)) if hits < worth else 1.0


def shift(tune: Bools, test: Bools, *, groups: tuple[Labels | None, Labels | None] | None = None) -> float:
    """Return how often tiers alone would differ so much between the sides by chance: the least of their p-values.

    What a tier answers was not chosen on either side: where even a tier alone is worse on one of them, the rows
    differ, and no luck of a choice explains it. Adjusted for being several (Holm).

    Parameters
    ----------
    tune, test
        Whether each tier alone is right, shape ``(n_rows, n_tiers)`` each. Leave out tiers that were fitted on the tune
        side: the shipped one was fitted on more rows than those graded out of fold, and is a little better.
    groups
        Codes of what belongs together, on tune and on test; None: every row is a group of its own.

    Returns
    -------
    float
        nan where there is no tier.

    Examples
    --------
    An LLM that is right in 900 of 1,000 tune rows and in 400 of 500 test rows:

    >>> shift(np.arange(1000)[:, None] < 900, np.arange(500)[:, None] < 400) < 0.001
    True
    """
    own = groups or (None, None)
    found = [_of_two(a, b, *own) for a, b in zip(tune.T, test.T, strict=True)]
    return min(holm(found), default=float("nan"))


def _of_two(a: Bools, b: Bools, groups_a: Labels | None, groups_b: Labels | None) -> float:
    if not min(len(a), len(b)):
        return 1.0
    n = []
    for right, groups in ((a, groups_a), (b, groups_b)):
        together = Groups.of(groups)
        n.append(len(right) if together is None else together.worth_of_flags(right))
    shares = float(np.mean(a)), float(np.mean(b))
    # one wrong and one right more on either side: the normal distribution is then good for few rows as well
    pooled = (shares[0] * n[0] + shares[1] * n[1] + 1) / (n[0] + n[1] + 2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n[0] + 1 / n[1]))
    return float(2 * ndtr(-abs(shares[0] - shares[1]) / error))


def elsewhere(predictions: Predictions, truth: Labels) -> Bools:
    """Return of each tier that was not fitted on these rows, nor made up of them, whether it is right on every row."""
    columns = [j for j, t in enumerate(predictions.tiers) if t.kind not in FITTED and not t.simulated]
    right: Bools = predictions.label[:, columns] == truth[:, None]
    return right


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What test says against a promise.

    Parameters
    ----------
    what
        In words, without a full stop.
    p_value
        Of the result, were the promise true; see `surprise`. nan where it is a cost, which is said with its interval.
    shift
        Of tiers alone, were the sides alike; see `shift`. nan where every tier was fitted here.
    """

    what: str
    p_value: float
    shift: float

    @property
    def shifted(self) -> bool:
        """Whether the sides differ where nothing was chosen: then the rows have changed; else luck is gone."""
        return self.shift <= ALARM

    @property
    def words(self) -> str:
        """Say it with how surprising it is and what it means."""
        often = "" if np.isnan(self.p_value) else f": were it kept, so few would be right in {once_in(self.p_value)}"
        if self.shifted:
            why = "The sides differ even where nothing was chosen: the rows have changed, not the luck."
        elif np.isnan(self.shift):
            why = "It may be the luck of choosing on tune that is gone, or the rows have changed."
        else:
            why = "No tier alone differs between the sides: what is gone is the luck of choosing on tune."
        return f"{self.what}{often}. {why}"


def once_in(p_value: float) -> str:
    """Return a p-value in words.

    Examples
    --------
    >>> once_in(0.031), once_in(0.0004), once_in(1e-9)
    ('1 of 32 data sets', '1 of 2,500 data sets', 'fewer than 1 of a million data sets')
    """
    return "fewer than 1 of a million data sets" if p_value < 1e-6 else f"1 of {round(1 / p_value):,} data sets"
