"""Macro-F1 with its interval."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, stdtrit

from hybrid.metrics.intervals import LEVEL, wilson
from hybrid.metrics.summary import Interval, macro_f1
from hybrid.routing.table import UNKNOWN, Floats, Labels

REPLICATES = 2_000  # of the bootstrap
ROWS_A_CLASS = 5  # on average, below which there is no interval
NEAREST = 1e-6  # to 0 and 1 on the logit scale


def macro_f1_interval(label: Labels, truth: Labels, *, n: int = REPLICATES, seed: int = 0) -> Interval:
    """Return macro-F1 with its bootstrap interval.

    A resample of rows is a multinomial draw over the pairs of truth and answer that occur. Macro-F1 of few rows is too
    low, and that of their resamples again by as much: so the interval lies around the number less that bias, on the
    logit scale, and is as wide as the larger of the bootstrap's and the delta method's standard error makes it. With
    fewer than `ROWS_A_CLASS` rows a class no such interval holds, and its ends are nan: label more.

    Parameters
    ----------
    label, truth
        Class codes, shape ``(n_rows,)``; `UNKNOWN` as an answer is wrong.
    n
        Replicates.
    """
    n_classes, n_rows = int(max(truth.max(), label.max())) + 1, len(truth)
    code = truth * (n_classes + 1) + np.where(label == UNKNOWN, n_classes, label)
    pairs, counts = np.unique(code, return_counts=True)
    rows, said = np.divmod(pairs, n_classes + 1)
    value, right = macro_f1(label, truth), int(np.sum(label == truth))
    if n_rows < ROWS_A_CLASS * len(np.union1d(truth, label[label != UNKNOWN])):
        return Interval(value, float("nan"), float("nan"))
    draws = np.random.default_rng(seed).multinomial(n_rows, counts / n_rows, size=n)
    of_truth, of_answer = (np.equal.outer(side, np.arange(n_classes)).astype(np.float64) for side in (rows, said))
    either = draws @ (of_truth + of_answer)
    both = draws @ (of_truth * of_answer)
    with np.errstate(invalid="ignore"):
        scores = np.nanmean(2 * both / either, axis=1)  # a class that is not drawn at all is left out
    if right in (0, n_rows):
        low, high = wilson(right, n_rows)
        return Interval(value, float(low), float(high))
    error = max(float(np.std(scores)), _standard_error(of_truth, of_answer, counts.astype(np.float64)))
    centre = min(max(2 * value - float(np.mean(scores)), NEAREST), 1 - NEAREST)
    half = stdtrit(max(n_rows - 1, 1), (1 + LEVEL) / 2) * error / (centre * (1 - centre))
    low, high = expit(logit(centre) - half), expit(logit(centre) + half)
    return Interval(value, min(float(low), value), max(float(high), value))


def _standard_error(of_truth: Floats, of_answer: Floats, counts: Floats) -> float:
    """Return the standard error by the delta method, from the pairs that occur and how often each does."""
    either = counts @ (of_truth + of_answer)
    present = either > 0
    both = counts @ (of_truth * of_answer)
    scores = np.divide(2 * both, either, out=np.zeros(len(either)), where=present)
    weight = np.divide(counts.sum(), either, out=np.zeros(len(either)), where=present) / present.sum()
    pull = (2 * of_truth * of_answer - scores * (of_truth + of_answer)) @ weight
    return float(np.sqrt(np.sum(counts * pull**2)) / counts.sum())
