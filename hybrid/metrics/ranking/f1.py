"""Macro-F1 with its interval."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval, wilson
from hybrid.metrics.summary import macro_f1
from hybrid.routing.table import UNKNOWN, Floats, Labels

ROWS_A_CLASS = 5  # on average, below which there is no interval


def macro_f1_interval(label: Labels, truth: Labels, *, groups: Labels | None = None) -> Interval:
    """Return macro-F1 with its interval.

    A class's F1 rises with the share of right answers among the rows that are of this class or are called so, and that
    share has Wilson's interval. The classes' ways up and down are put together as errors are that are independent, and
    stretched by what one mistake's counting for two classes adds; neither is shorter than the delta method's, with a
    degree of freedom less for each class. F1 of few rows is too low on average, and both ends are moved up by how much:
    a class's score, drawn towards the F1 of all rows by one row more, times what it is short of 1, over its rows. With
    fewer than `ROWS_A_CLASS` rows a class no such interval holds, and its ends are nan: label more.

    Parameters
    ----------
    label, truth
        Class codes, shape ``(n_rows,)``; `UNKNOWN` as an answer is wrong.
    groups
        Codes of what belongs together, same shape; None: every row is a group of its own.

    References
    ----------
    Takahashi et al. 2022, Confidence interval for micro-averaged F1 and macro-averaged F1 scores (the delta method);
    Zou & Donner 2008, Construction of confidence limits about effect measures.

    Examples
    --------
    >>> truth = np.repeat([0, 1], 20)
    >>> found = macro_f1_interval(np.where(np.arange(40) % 10 == 0, 1 - truth, truth), truth)
    >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
    (0.9, 0.77, 1.0)
    """
    n_classes, n_rows = int(max(truth.max(), label.max())) + 1, len(truth)
    value, right = macro_f1(label, truth), label == truth
    both, of, called = (
        np.bincount(x, minlength=n_classes).astype(np.float64) for x in (truth[right], truth, label[label >= 0])
    )
    either = of + called - both
    present = np.flatnonzero(either)
    if n_rows < ROWS_A_CLASS * len(present):
        return Interval(value, float("nan"), float("nan"))
    scores = np.divide(2 * both, of + called, out=np.zeros(n_classes), where=either > 0)
    pull, alone = _pull(label, truth, scores, of + called)
    together = Groups.of(groups)
    worth = 1.0 if together is None else together.worth(pull - pull.mean()) / n_rows
    low, high = (2 * end / (1 + end) for end in wilson(both[present] * worth, either[present] * worth))
    stretch = np.sqrt(max(float(pull @ pull) / alone, 1.0)) if alone > 0 else 1.0
    own = scores[present]
    down, up = (float(stretch * np.sqrt(np.sum(way**2)) / len(present)) for way in (own - low, high - own))
    free = max(n_rows - len(present), 1)
    normal = float(stdtrit(free, (1 + LEVEL) / 2) * np.sqrt(pull @ pull / worth * n_rows / free)) / len(present)
    # of few rows F1 is too low: what counts for and against it varies together; of one row it says nothing by itself
    counts = (of + called)[present] * worth
    drawn = (own * counts + 2 * both.sum() / (of + called).sum()) / (counts + 1)
    bias = float(np.sum(drawn * (1 - drawn) / counts)) / len(present)
    up = max(up, normal) + bias
    down = max(down, normal - bias)
    return Interval(value, max(value - down, 0.0), min(value + up, 1.0))


def _pull(label: Labels, truth: Labels, scores: Floats, either: Floats) -> tuple[Floats, float]:
    """Return what each row adds to the sum of the scores, shape ``(n_rows,)``, and its squares were classes unrelated.

    A row takes from the class that it is of, and from the one that it is called, its share of their scores.
    """
    weight = np.divide(1.0, either, out=np.zeros(len(either)), where=either > 0)
    lost = np.append(scores * weight, 0.0)  # the last, which UNKNOWN reads, is of no class
    own, named = lost[truth], lost[np.maximum(label, UNKNOWN)]
    right = label == truth
    hit = 2 * weight[truth] * (1 - scores[truth])
    pull: Floats = np.where(right, hit, -own - named)
    return pull, float(np.sum(np.where(right, hit**2, own**2 + named**2)))
