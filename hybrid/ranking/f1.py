"""Macro-F1 with its interval."""

from __future__ import annotations

import numpy as np

from hybrid.metrics import LEVEL, REPLICATES, Interval, macro_f1
from hybrid.predictions import UNKNOWN, Labels


def macro_f1_interval(label: Labels, truth: Labels, *, n: int = REPLICATES, seed: int = 0) -> Interval:
    """Return macro-F1 with its bootstrap interval.

    A resample of rows is a multinomial draw over the pairs of truth and answer that occur.

    Parameters
    ----------
    label, truth
        Class codes, shape ``(n_rows,)``; `UNKNOWN` as an answer is wrong.
    n
        Replicates.
    """
    n_classes = int(max(truth.max(), label.max())) + 1
    code = truth * (n_classes + 1) + np.where(label == UNKNOWN, n_classes, label)
    pairs, counts = np.unique(code, return_counts=True)
    rows, said = np.divmod(pairs, n_classes + 1)
    draws = np.random.default_rng(seed).multinomial(len(truth), counts / len(truth), size=n)
    of_truth, of_answer = (np.equal.outer(side, np.arange(n_classes)).astype(np.float64) for side in (rows, said))
    either = draws @ (of_truth + of_answer)
    both = draws @ (of_truth * of_answer)
    with np.errstate(invalid="ignore"):
        scores = np.nanmean(2 * both / either, axis=1)  # a class that is not drawn at all is left out
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(macro_f1(label, truth), float(low), float(high))
