"""Means: how far the mean of what rows cost may be from the truth, skewed prices and unseen cases included."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from hybrid.metrics.distinct import counted
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval, wilson
from hybrid.routing.table import Floats, Labels, Rows

MAX_VALUES = 512  # distinct values that an interval keeps apart
HIDDEN = 2.5  # by this over the fourth root of n are rows more skewed than they look


def mean_interval(
    values: Floats, *, groups: Labels | Groups | None = None, least: float | None = None, most: float | None = None
) -> Interval:
    """Return a mean with its interval: the wider, at either end, of two methods.

    One follows the skewness: the few dear rows that a mean of prices rests on are seldom among those seen. The other,
    `counted_interval`, is Wilson's where there are two values, and allows for values that were not seen.

    Parameters
    ----------
    values
        Shape ``(n_rows,)``.
    groups
        Codes of what belongs together, same shape; None: every row is a group of its own.
    least, most
        What a value can be, where that is known.

    References
    ----------
    Hall 1992, On the Removal of Skewness by Transformation; Zhou & Dinh 2005, Nonparametric confidence intervals for
    the one- and two-sample problems.

    Examples
    --------
    A hundred rows that cost nothing, where one may cost 50: it is not certain that none ever does.

    >>> found = mean_interval(np.zeros(100), most=50.0)
    >>> found.low, round(found.high, 2)
    (0.0, 1.85)
    """
    together, n, mean = Groups.of(groups), len(values), float(values.mean())
    found = counted(values, most=MAX_VALUES)
    if together is None and found is not None:
        return counted_interval(*found, mean, least=least, most=most)
    off = values - mean
    if found is None:
        parts = np.array_split(np.sort(values), MAX_VALUES)
        found = np.array([p.mean() for p in parts]), np.array([p.size for p in parts])
    worth = n if together is None else together.worth(off)
    tails = _by_tails(*found, mean, worth, least, most)
    if len(found[0]) <= 2:
        return tails
    if together is None:
        return _wider(tails, _by_skewness(off, np.ones(n), n, n - 1))
    sums = together.sums(off)[together.size > 0]
    return _wider(tails, _by_skewness(sums, np.ones(len(sums)), n, together.freedom))


def counted_interval(
    distinct: Floats, counts: Rows, mean: float, *, least: float | None = None, most: float | None = None
) -> Interval:
    """Return the same from the values that occur, ascending, and how often each does; each row is its own group."""
    n = int(counts.sum())
    tails = _by_tails(distinct, counts, mean, n, least, most)
    return tails if len(distinct) <= 2 else _wider(tails, _by_skewness(distinct - mean, counts, n, n - 1))


def _wider(one: Interval, other: tuple[float, float]) -> Interval:
    return Interval(one.value, min(one.low, one.value + other[0]), max(one.high, one.value + other[1]))


def _by_tails(
    values: Floats, counts: Rows, mean: float, worth: float, least: float | None, most: float | None
) -> Interval:
    """Return the interval that Wilson's intervals of all "how many rows are at least this" make together.

    A mean is the sum of these shares, each times the step up to its value. How their errors go together follows from
    one share being part of the next.

    References
    ----------
    Zou & Donner 2008, Construction of confidence limits about effect measures (method of variance estimates recovery).
    """
    share = np.cumsum(counts[::-1])[::-1] / counts.sum()
    if least is not None and least < values[0]:
        values, share = np.append(least, values), np.append(1.0, share)
    if most is not None and most > values[-1]:
        values, share = np.append(values, most), np.append(share, 0.0)
    step, share = np.diff(values), share[1:]
    low, high = wilson(share * worth, worth)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.sqrt(share / (1 - share))
        together = np.nan_to_num(np.minimum.outer(odds, odds) / np.maximum.outer(odds, odds))
    np.fill_diagonal(together, 1.0)
    down, up = (float(np.sqrt(d @ together @ d)) for d in (step * (share - low), step * (high - share)))
    return Interval(mean, mean - down, mean + up)


def _by_skewness(off: Floats, counts: Floats | Rows, n_rows: int, freedom: float) -> tuple[float, float]:
    """Return how far either end is from the mean, by Hall's transformation of Student's t.

    The more skewed the rows, the further up it reaches, until the transformation turns (skewness · t = √n). Beyond, it
    would come back, and call rows that are more skewed more sure: it is held there.

    Parameters
    ----------
    off
        What independent units (rows, or the sums of groups) add to the total beyond the mean.
    counts
        How often each occurs.
    n_rows
        What the total is divided by.
    """
    units = float(counts.sum())
    squares = float(counts @ off**2) / max(units - 1, 1.0)
    if squares <= 0:
        return 0.0, 0.0
    skewness = float(counts @ off**3) / units / squares**1.5 * (1 + HIDDEN / units**0.25)
    t = float(stdtrit(max(freedom, 1.0), (1 + LEVEL) / 2))
    part = float(np.clip(skewness / np.sqrt(units), -1 / t, 1 / t))

    def back(y: float) -> float:
        return 3 / part * float(np.cbrt(1 + part * (y - part / 6)) - 1) if abs(part) > 1e-9 else y

    scale = np.sqrt(squares * units) / n_rows
    return -scale * back(t), -scale * back(-t)
