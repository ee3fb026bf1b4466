"""AUROC: how well a score tells right answers from wrong ones, and what else a confidence is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit
from scipy.stats import rankdata

from hybrid.metrics.confidence import reliability
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, wilson
from hybrid.metrics.summary import Interval
from hybrid.routing.table import Bools, Floats, Labels


def auroc(score: Floats, right: Bools, *, group: Labels | None = None) -> Interval:
    """Return the chance that a right answer has a higher score than a wrong one; ties count half.

    Parameters
    ----------
    score
        Shape ``(n_rows,)``; rows with nan are left out.
    right
        Shape ``(n_rows,)``.
    group
        Rows of one group count as one draw; None: every row is its own.

    Returns
    -------
    Interval
        95 %: Wilson's, of as many rows as would be as sure; nan where all answers are right, or all wrong.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson 1988 (the variance); Obuchowski 1997 for groups; Korn & Graubard 1998 (the interval
    of a share at as many rows as its variance is worth).

    Examples
    --------
    >>> found = auroc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]))
    >>> round(found.value, 3)
    0.667
    """
    known = ~np.isnan(score)
    score, right = score[known], np.asarray(right[known], dtype=bool)
    m, n = int(right.sum()), int((~right).sum())
    if not m or not n:
        return Interval(float("nan"), float("nan"), float("nan"))
    ranks = rankdata(score)
    # of each row, the share of rows of the other kind that it is ordered rightly against
    won = np.empty(len(score))
    won[right] = (ranks[right] - rankdata(score[right])) / n
    won[~right] = 1 - (ranks[~right] - rankdata(score[~right])) / m
    value, rarer = float(won[right].mean()), min(m, n)
    inside = (value * rarer + 0.5) / (rarer + 1)
    most = inside * (1 - inside)  # the variance of a row that is ordered rightly against all others or none
    # one row more of either kind, as far off as can be: a few that are ordered alike say little
    variance = sum((float(np.sum((won[kind] - value) ** 2)) + most) / k**2 for kind, k in ((right, m), (~right, n)))
    together = None if group is None else Groups.of(np.unique(group[known], return_inverse=True)[1])
    if together is not None:
        variance *= len(score) / together.worth((won - value) / np.where(right, m, n))
    worth = most / variance * float(ndtri((1 + LEVEL) / 2) / stdtrit(rarer, (1 + LEVEL) / 2)) ** 2
    low, high = wilson(value * worth, worth)
    return Interval(value, min(float(low), value), max(float(high), value))


@dataclass(frozen=True, slots=True)
class Worth:
    """How good a confidence is on some answers.

    Parameters
    ----------
    auroc
        The chance that a right answer is surer than a wrong one.
    ece, brier
        How far it is from the share of right answers.
    n_rows
        Answers.
    """

    auroc: Interval
    ece: Interval
    brier: Interval
    n_rows: int


def worth(confidence: Floats, right: Bools, *, group: Labels | None = None) -> Worth:
    """Measure a confidence; the arguments are those of `auroc`."""
    known = ~np.isnan(confidence)
    found = reliability(confidence, right, groups=group)
    return Worth(auroc(confidence, right, group=group), found.ece, found.brier, int(known.sum()))
