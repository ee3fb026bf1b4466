"""Reliability: does a stated confidence come true; the diagram, ECE and Brier with their intervals."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from hybrid.metrics.intervals import LEVEL, wilson
from hybrid.metrics.summary import BINS, Interval, expected_calibration_error, mean_interval
from hybrid.routing.table import Bools, Floats

SCALES = np.linspace(0, 2, 41)  # of the gaps seen, tried as truths
DRAWS = 400  # of each
SLACK_ABOVE = 0.01  # of the 5 %: the lower end, which allows for honest confidence, is the more cautious one anyhow


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """A reliability diagram with bins of equal mass, and two numbers.

    Parameters
    ----------
    confidence, accuracy, low, high
        Of each bin: mean confidence, share right and its Wilson interval; shape ``(n_bins,)``.
    rows
        In each bin.
    ece
        Expected calibration error over these bins.
    brier
        Mean squared gap between confidence and being right.
    """

    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    rows: Floats
    ece: Interval
    brier: Interval

    @property
    def n_rows(self) -> int:
        return int(self.rows.sum())


def reliability(confidence: Floats, right: Bools, *, n_bins: int = BINS, seed: int = 0) -> Reliability:
    """Measure how far confidences are from the share of right answers.

    ECE overstates: even an honest confidence has one by chance. Its interval takes that back: it holds the errors of
    all those truths, between honest and twice as far off as seen, under which an ECE like the one seen lies within 95 %
    of the draws. It may end below the number itself.

    Parameters
    ----------
    confidence, right
        Shape ``(n_rows,)``; rows with nan (not asked) are left out.
    n_bins
        Of equal mass; fewer where there are fewer rows.

    References
    ----------
    Naeini, Cooper & Hauskrecht 2015; Brier 1950.

    Examples
    --------
    >>> found = reliability(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]), n_bins=1)
    >>> round(found.ece.value, 3), round(found.brier.value, 3)
    (0.15, 0.21)
    """
    asked = ~np.isnan(confidence)
    confidence, right = confidence[asked], right[asked]
    n = len(right)
    if not n:
        none, empty = Interval(float("nan"), float("nan"), float("nan")), np.zeros(0)
        return Reliability(empty, empty, empty, empty, empty, none, none)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(n_bins, n))
    rows = np.array([p.size for p in parts], dtype=np.float64)
    said = np.array([confidence[p].mean() for p in parts])
    hits = np.array([right[p].sum() for p in parts], dtype=np.float64)
    low, high = wilson(hits, rows)
    ece = expected_calibration_error(confidence, right, n_bins=n_bins)
    return Reliability(
        said,
        hits / rows,
        low,
        high,
        rows,
        _around(ece, rows, said, hits, seed),
        mean_interval((confidence - right) ** 2, least=0.0, most=1.0),
    )


def _around(ece: float, rows: Floats, said: Floats, hits: Floats, seed: int) -> Interval:
    gap = hits / rows - said

    def right_at(k: int) -> Floats:
        right: Floats = np.clip(said + SCALES[k] * gap, 0.0, 1.0)
        return right

    def ends_at(k: int) -> Floats:
        rng = np.random.default_rng((seed, k))
        drawn = rng.binomial(rows.astype(np.int64), right_at(k), size=(DRAWS, len(rows)))
        errors = np.abs(drawn - rows * said).sum(axis=1) / rows.sum()
        ends: Floats = np.quantile(errors, [SLACK_ABOVE, LEVEL + SLACK_ABOVE])
        return ends

    # the further off the truth, the larger the errors that are ordinary: both ends of the fitting scales are bisected
    last = len(SCALES) - 1
    lowest = bisect_left(range(last), True, key=lambda k: bool(ends_at(k)[1] >= ece))
    highest = bisect_left(range(last + 1), True, key=lambda k: bool(ends_at(k)[0] > ece)) - 1
    if lowest > highest:  # so many rows that the range lies between two scales
        lowest, highest = max(highest, 0), lowest
    else:
        lowest, highest = max(lowest - 1, 0), min(highest + 1, last)
    low, high = (float((np.abs(right_at(k) - said) * rows).sum() / rows.sum()) for k in (lowest, highest))
    return Interval(ece, min(low, ece), max(high, low))
