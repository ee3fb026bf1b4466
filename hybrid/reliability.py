"""Reliability: does a stated confidence come true; the diagram, ECE and Brier with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.intervals import wilson
from hybrid.metrics import BINS, LEVEL, REPLICATES, Interval, expected_calibration_error, mean_interval
from hybrid.predictions import Bools, Floats


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

    The interval of ECE is the reflected bootstrap: a resample overstates the error by as much as the rows at hand do,
    and the reflection takes that back. It may end below the number itself, which overstates, too.

    Parameters
    ----------
    confidence, right
        Shape ``(n_rows,)``; rows with nan (not asked) are left out.
    n_bins
        Of equal mass; fewer where there are fewer rows.

    References
    ----------
    Naeini, Cooper & Hauskrecht 2015; Brier 1950; Efron & Tibshirani 1993.

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
        _reflected(ece, rows, said, hits, seed),
        mean_interval((confidence - right) ** 2, seed=seed),
    )


def _reflected(ece: float, rows: Floats, said: Floats, hits: Floats, seed: int) -> Interval:
    n = rows.sum()
    cells = np.concatenate([hits, rows - hits]) / n  # a resample is a draw over (bin, right or wrong)
    draws = np.random.default_rng(seed).multinomial(int(n), cells, size=REPLICATES)
    drawn_hits, drawn = draws[:, : len(rows)], draws[:, : len(rows)] + draws[:, len(rows) :]
    errors = np.abs(drawn_hits - drawn * said).sum(axis=1) / n
    low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(ece, max(0.0, 2 * ece - float(high)), max(0.0, 2 * ece - float(low)))
