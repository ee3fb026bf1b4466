"""Intervals: how far a share that was counted may be from the truth, and what many tests at once are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtri

from hybrid.routing.table import Floats

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and its 95 % interval; all nan where there is nothing to measure it on."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def upper_bound(wrong: float, n: float, delta: float) -> float:
    """Return the exact (Clopper–Pearson) upper bound of a share that holds with probability 1 − δ.

    Examples
    --------
    The rule of three: without a mistake in 100 rows, at most about 3 %.

    >>> round(upper_bound(0, 100, 0.05), 4)
    0.0295
    """
    return 1.0 if wrong >= n else float(betaincinv(wrong + 1, n - wrong, 1 - delta))


def wilson(successes: ArrayLike, n: ArrayLike, *, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return the Wilson score interval of a share.

    Parameters
    ----------
    successes, n
        Counts; scalars or arrays of one shape.
    level
        Coverage of the two-sided interval.

    Returns
    -------
    low, high
        In [0, 1]; the whole of it where `n` is 0.

    References
    ----------
    Wilson 1927; Brown, Cai & DasGupta 2001, Interval Estimation for a Binomial Proportion.

    Examples
    --------
    >>> low, high = wilson(81, 263)
    >>> round(float(low), 4), round(float(high), 4)
    (0.2553, 0.3662)
    """
    n = np.asarray(n, dtype=float)
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.asarray(successes, dtype=float) / n
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    none = n == 0
    # the ends meet 0 and 1 exactly where every row failed or succeeded
    low = np.where(none | (p == 0), 0.0, np.clip(centre - half, 0, 1))
    high = np.where(none | (p == 1), 1.0, np.clip(centre + half, 0, 1))
    return low, high


def wilson_of(share: Floats, n: int, worth: Floats | float | None) -> tuple[Floats, Floats]:
    """Return the Wilson interval of a share of rows that are worth fewer independent ones; None: as many.

    Parameters
    ----------
    share
        Of the rows; whole numbers of them, but for the last bits of a running mean.
    n
        Rows.

    Examples
    --------
    Half of 100 rows that are worth 25:

    >>> [float(np.round(end, 3)) for end in wilson_of(np.array(0.5), 100, 25.0)]
    [0.318, 0.682]
    """
    hits = np.round(np.asarray(share) * n)
    return wilson(hits, n) if worth is None else wilson(hits / n * worth, worth)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being many, in the order given.

    References
    ----------
    Holm 1979, A simple sequentially rejective multiple test procedure.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = so_far
    return adjusted
