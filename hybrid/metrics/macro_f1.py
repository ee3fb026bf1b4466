"""Macro-F1 at every threshold: each answer that is passed on changes the F1 of two classes at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid.metrics.flips import Flips
from hybrid.metrics.order import Order
from hybrid.metrics.tally import counted
from hybrid.routing.table import CHUNK, Floats, Labels, Rows


def macro_f1_of(rows: Flips, order: Order, truth: Labels) -> Floats:
    """Return the macro-F1 over a threshold whose flips and whose order of the rows are known.

    Notes
    -----
    A row that is passed on moves one answer from a class to another: two events. Sorted by class, running counts
    within each class give its F1 after every event; what each event adds, put back in the order of the thresholds
    and summed up, is the sum over the classes. O(n log n), whatever the number of classes.

    F1s are rounded to multiples of 2⁻⁵⁶ (of 77 classes; coarser for more), so that sums of differences are exact.
    """
    n, n_classes = len(truth), int(max(truth.max(), rows.kept.max(), rows.passed.max())) + 2
    event, shift = _events(rows, order, truth, n_classes)
    # the first class is that of unknown answers: it is never true, nor said often enough to count
    of_class = np.append(-2 * n, np.bincount(truth, minlength=n_classes - 1))
    # by class: answers and right ones, with all rows kept and with all passed on
    said, right = np.empty((2, 2, n_classes), dtype=np.int64)
    for i, label in enumerate((rows.kept, rows.passed)):
        counts = counted([label, (label == truth).view(np.int8)], (n_classes, 2), first=2)
        said[i], right[i] = counts.sum(axis=1), counts[:, 1]
    said += of_class
    unit = 2.0 ** (62 - n_classes.bit_length())

    def sums(value: Callable[[Rows, Rows], Floats]) -> Floats:
        """Sum a value of at most 1 over the classes at every threshold, in multiples of 1 / unit."""
        first = np.rint(value(said[0], right[0]) * unit).astype(np.int64)
        total = np.zeros(n + 1, dtype=np.int64)
        total[0] = first.sum()
        # counts run on from class to class: what the classes before have come to is taken off again
        own_said, own_right = (x[0] - np.cumsum(x[1] - x[0]) + (x[1] - x[0]) for x in (said, right))
        now_said = now_right = now = of_last = np.int64(0)
        for start in range(0, len(event), CHUNK):
            part = event[start : start + CHUNK].astype(np.int64)
            of, step = part >> shift, (part & 2) - 1
            running_said, running_right = np.cumsum(step) + now_said, np.cumsum(step * (part & 1)) + now_right
            after = np.rint(value(running_said + own_said[of], running_right + own_right[of]) * unit).astype(np.int64)
            before = np.concatenate([[now], after[:-1]])
            new = np.flatnonzero(np.diff(of, prepend=of_last))
            before[new] = first[of[new]]
            np.add.at(total, (part >> 2 & (1 << shift - 2) - 1) + 1, after - before)
            now_said, now_right, now, of_last = running_said[-1], running_right[-1], after[-1], of[-1]
        total.cumsum(out=total)
        found: Floats = total[order.below] / unit
        return found

    f1 = sums(lambda said, right: 2 * right / np.maximum(said, 1))
    if of_class[1:].all():
        f1 /= n_classes - 1
    else:  # a class that is never true is one only while somebody says it
        f1 /= np.rint(sums(lambda said, right: (said > 0).astype(np.float64)))
    return f1


def _events(rows: Flips, order: Order, truth: Labels, n_classes: int) -> tuple[NDArray[Any], int]:
    """Return what passing rows on does to their two classes, sorted by class and place, and where the class starts.

    One integer an event, from the highest bits: class, place in the order, whether an answer comes, and is right.
    """
    shift = len(truth).bit_length() + 2
    moves = rows.kept != rows.passed
    kind = np.uint32 if n_classes << shift <= 1 << 32 else np.uint64
    event = np.empty((2, np.count_nonzero(moves)), dtype=kind)
    filled = 0
    for start in range(0, len(truth), CHUNK):
        place = np.flatnonzero(moves[order.rows[start : start + CHUNK]]) + start
        moved = order.rows[place]
        true = truth[moved]
        for into, labels, comes in zip(event, (rows.kept, rows.passed), (0, 2), strict=True):
            label = labels[moved]
            into[filled : filled + len(moved)] = (label + 1 << shift) + (place << 2) + comes + (label == true)
        filled += len(moved)
    by_class = event.ravel()
    by_class.sort()
    return by_class, shift
