"""AUROC: how well a score tells right answers from wrong ones, and what else a confidence is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from hybrid.metrics.confidence import reliability
from hybrid.metrics.intervals import wilson
from hybrid.metrics.summary import Interval
from hybrid.routing.table import Bools, Floats, Labels

Z = 1.959963984540054  # two-sided 95 %


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
        95 %, on the logit scale, so that it stays within 0 and 1; nan where all answers are right, or all wrong.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson 1988; Obuchowski 1997 for groups.

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
    value = float(won[right].mean())
    part = np.where(right, (won - value) / m, (won - value) / n)
    if group is None:
        sums, size = part, len(part)
    else:
        _, code = np.unique(group[known], return_inverse=True)
        sums = np.bincount(code, part)
        size = len(sums)
    error = float(np.sqrt((sums**2).sum() * size / max(size - 1, 1)))
    if error == 0:  # they are ordered without a fault, or by chance alone: as few rows as the rarer kind has say so
        low, high = wilson(value * min(m, n), min(m, n))
    else:
        half = Z * error / (value * (1 - value))
        low, high = expit(logit(value) - half), expit(logit(value) + half)
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
