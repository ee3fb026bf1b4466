"""Surprise: does the test side contradict what was promised, and is it luck of the choice or a shift between sides?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, ndtr

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import holm
from hybrid.routing.table import Bools, Labels

ALARM = 0.05  # p-value at which a result contradicts
HELD, MISSED, SHIFTED = "held", "missed", "shifted"


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


def shift(tune: Bools, test: Bools, *, groups: tuple[Labels, Labels] | None = None) -> float:
    """Return how often tiers alone would differ so much between the sides by chance: the least of their p-values.

    What a tier answers was not chosen on either side: where even a tier alone is worse on one of them, the rows
    differ, and no luck of a choice explains it. Adjusted for being several (Holm).

    Parameters
    ----------
    tune, test
        Whether each tier alone is right, shape ``(n_rows, n_tiers)`` each. Leave out tiers that were fitted on the tune
        side: the shipped one was fitted on more rows than those graded out of fold, and is a little better.
    groups
        Codes of what belongs together, on tune and on test.

    Examples
    --------
    An LLM that is right in 900 of 1,000 tune rows and in 400 of 500 test rows:

    >>> shift(np.arange(1000)[:, None] < 900, np.arange(500)[:, None] < 400) < 0.001
    True
    """
    own = groups or (None, None)
    found = [_of_two(a, b, *own) for a, b in zip(tune.T, test.T, strict=True)]
    return min(holm(found), default=1.0)


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


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Whether the test side contradicts a promise.

    Parameters
    ----------
    level
        ``held``: nothing that chance does not explain; ``missed``: what was chosen on tune does worse than promised,
        on rows that are like those it was chosen on; ``shifted``: the rows of the two sides differ, since even tiers
        alone do.
    p_value
        Of the result, were the promise true; see `surprise`.
    shift
        Of the tiers alone, were the sides alike; see `shift`.
    """

    level: str
    p_value: float
    shift: float

    @property
    def words(self) -> str:
        """Return the verdict in a sentence, without a full stop."""
        often = f"a policy that keeps it does so badly in {once_in(self.p_value)}"
        if self.level == HELD:
            return "Test does not contradict this"
        if self.level == SHIFTED:
            return (
                f"Test contradicts this: {often}, and the test rows are unlike the tune rows: even tiers alone differ"
            )
        return f"Test contradicts this: {often}; some of what was seen on tune was luck of the choice"


def once_in(p_value: float) -> str:
    """Return a p-value in words.

    Examples
    --------
    >>> once_in(0.031), once_in(0.0004), once_in(1e-9)
    ('1 of 32 data sets', '1 of 2,500 data sets', 'fewer than 1 of a million data sets')
    """
    return "fewer than 1 of a million data sets" if p_value < 1e-6 else f"1 of {round(1 / p_value):,} data sets"


def contradiction(
    right: Bools,
    promised: float,
    *,
    alone: tuple[Bools, Bools],
    groups: tuple[Labels, Labels] | None = None,
    kept: Bools | None = None,
) -> Contradiction:
    """Say whether test contradicts a promise, and why.

    Parameters
    ----------
    right
        Whether the policy's answer is right on each test row, shape ``(n_test,)``.
    promised
        Least accuracy.
    alone
        Of each tier that was not fitted here whether it is right, on tune and on test, shape ``(n_rows, n_tiers)``.
    groups
        Codes of what belongs together, on tune and on test.
    kept
        The test rows that the promise is about, shape ``(n_test,)``; None: all.
    """
    on_test = None if groups is None else groups[1]
    which = np.ones(len(right), dtype=bool) if kept is None else kept
    p_value = surprise(right[which], promised, groups=None if on_test is None else on_test[which])
    moved = shift(*alone, groups=groups)
    level = HELD if p_value > ALARM else SHIFTED if moved <= ALARM else MISSED
    return Contradiction(level, p_value, moved)
