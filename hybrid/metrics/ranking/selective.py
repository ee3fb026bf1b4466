"""Selective: how well a confidence tells right from wrong, as the risk among the rows that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from hybrid.errors import TierError
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval, wilson
from hybrid.routing.table import Bools, Floats, Labels, Rows


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """Selective risk against coverage, and its area.

    Parameters
    ----------
    threshold, coverage, risk
        At each distinct confidence, from the most confident rows to all; shape ``(n_points,)``.
    aurc
        Mean selective risk over all coverage levels 1/n, 2/n, …, 1; rows of equal confidence come in no order.
    e_aurc
        What the area exceeds that of the best order of the same rows by, in the approximation of the reference.

    Notes
    -----
    Both intervals are those of the delta method on the logarithm. An area is a mean over mistakes, each weighed by the
    logarithm of its rank; weights so uneven count for half as many (Kish), which gives the degrees of freedom.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats
    aurc: Interval
    e_aurc: Interval


def risk_coverage(confidence: Floats, right: Bools, *, groups: Labels | None = None) -> RiskCoverage:
    """Measure the selective risk at every coverage.

    Parameters
    ----------
    confidence, right
        Shape ``(n_rows,)``.
    groups
        Codes of what belongs together, same shape; None: every row is a group of its own.

    Raises
    ------
    TierError
        If there is not a single row.

    References
    ----------
    Geifman & El-Yaniv 2017; Geifman, Uziel & El-Yaniv 2019, Bias-Reduced Uncertainty Estimation.

    Examples
    --------
    Right, wrong, right by falling confidence: the risk is 0, 1/2, 1/3.

    >>> found = risk_coverage(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    >>> found.risk.round(3).tolist(), round(found.aurc.value, 3)
    ([0.0, 0.5, 0.333], 0.278)
    """
    n = len(right)
    if not n:
        raise TierError("There is no row to measure on.")
    values, group, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, ~right, minlength=len(values)).astype(np.float64)
    kept = np.cumsum(size)
    mistakes = np.cumsum(wrong)
    # within rows of equal confidence, mistakes are spread evenly: the mean over all orders of them
    levels = np.arange(1, n + 1)
    expected = np.interp(levels, np.concatenate([[0], kept]), np.concatenate([[0.0], mistakes]))
    aurc = float(np.mean(expected / levels))
    error = float(np.mean(~right))
    best = error + (1 - error) * float(np.log1p(-error)) if error < 1 else 1.0
    pull = _influence(kept, size, wrong)[group] + (~right) * _weight(kept, size)[group]
    together = Groups.of(groups)
    rarer = -float(np.log1p(-error)) if error < 1 else 0.0  # how fast the best area grows with the error
    return RiskCoverage(
        -values,
        kept / n,
        mistakes / kept,
        _interval(aurc, pull, right, together),
        _interval(aurc - best, pull - rarer * ~right, right, together),
    )


def _weight(kept: Rows, size: Rows) -> Floats:
    """Return what a mistake of each distinct confidence adds to the area: the sum of 1/k over the ranks k behind."""
    behind = np.cumsum(1 / np.arange(kept[-1], 0, -1))[::-1]
    found: Floats = np.diff(np.concatenate([[0.0], np.cumsum(behind)])[np.concatenate([[0], kept])]) / size
    return found


def _influence(kept: Rows, size: Rows, wrong: Floats) -> Floats:
    """Return what a row of each distinct confidence takes off the area by standing before the mistakes behind it."""
    ranks = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, kept[-1] + 1))])
    own = wrong / size * np.diff(ranks[np.concatenate([[0], kept])])
    found: Floats = own / 2 - np.cumsum(own[::-1])[::-1]
    return found


def _interval(area: float, pull: Floats, right: Bools, groups: Groups | None) -> Interval:
    n, n_wrong = len(right), int((~right).sum())
    worth = n if groups is None else groups.worth(pull - pull.mean())
    if area <= 0 or n_wrong < 2:
        # no order of rows does worse than the error rate
        return Interval(area, 0.0, float(wilson(n_wrong * worth / n, worth)[1]))
    error = float(np.std(pull, ddof=1)) / np.sqrt(worth) / area
    freedom = n_wrong / 2 if groups is None else min(n_wrong / 2, groups.freedom)
    factor = float(np.exp(stdtrit(max(freedom, 1.0), (1 + LEVEL) / 2) * error))
    return Interval(area, area / factor, min(1.0, area * factor))
