"""Curves: a policy's metrics over a threshold; `replay` is the specification, `sweep` the fast path.

`hybrid.metrics.flips` tells what a threshold decides about each row. Rows are then sorted by what the threshold is
compared with, once; at any threshold those below it are a prefix, and a metric is a cumulative sum. Another price or
another mix of classes needs no other `Order`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.metrics.distinct import few_values
from hybrid.metrics.flips import Flips, Sum, flips, with_threshold
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import wilson_of
from hybrid.metrics.lattice import locate
from hybrid.metrics.order import Order
from hybrid.metrics.surface import Surface, surface
from hybrid.routing.engine import Policy
from hybrid.routing.table import Bools, Floats, Labels, Predictions, Rows

__all__ = [
    "Curve",
    "Order",
    "Surface",
    "curve_of",
    "latency_quantiles",
    "pareto_front",
    "surface",
    "sweep",
    "with_threshold",
]

LATENCIES = 512  # distinct latencies up to which their quantiles are known at every threshold


@dataclass(frozen=True, slots=True)
class Curve:
    """Metrics at every threshold at which anything changes, ascending; all arrays of shape ``(n_points,)``.

    Point ``i`` holds for thresholds in ``(threshold[i - 1], threshold[i]]``; the last threshold, 1 or `NEVER`,
    passes every row on, and what is above it does likewise. `worth` says, for the accuracy and
    for the escalation rate, how many independent rows the rows are worth at each point, shape ``(2, n_points)``; None
    where every row is a group of its own.
    """

    threshold: Floats
    accuracy: Floats
    escalation_rate: Floats
    cost_per_1000: Floats
    latency_mean: Floats  # seconds
    kept: Floats  # share of rows at or above the threshold
    n_rows: int
    worth: Floats | None = None

    def at(self, threshold: float | Floats) -> Rows:
        """Return the points that hold for these thresholds, of the same shape."""
        found: Rows = np.searchsorted(self.threshold[:-1], threshold, side="left")
        return found

    def band(self) -> tuple[Floats, Floats]:
        """Return the Wilson interval of the accuracy at every point."""
        return wilson_of(self.accuracy, self.n_rows, None if self.worth is None else self.worth[0])

    def escalation_band(self) -> tuple[Floats, Floats]:
        """Return the Wilson interval of the escalation rate at every point."""
        return wilson_of(self.escalation_rate, self.n_rows, None if self.worth is None else self.worth[1])

    def thin(self, n_points: int) -> Curve:
        """Return at most about this many of the points, the ends among them, for drawing."""
        if len(self.threshold) <= n_points:
            return self
        return self.take(np.unique(np.linspace(0, len(self.threshold) - 1, n_points).astype(np.intp)))

    def on(self, thresholds: Floats) -> Curve:
        """Return the curve at these thresholds, ascending."""
        return replace(self.take(self.at(thresholds)), threshold=thresholds)

    def take(self, points: Rows) -> Curve:
        """Return some of the points."""
        return replace(
            self,
            threshold=self.threshold[points],
            accuracy=self.accuracy[points],
            escalation_rate=self.escalation_rate[points],
            cost_per_1000=self.cost_per_1000[points],
            latency_mean=self.latency_mean[points],
            kept=self.kept[points],
            worth=None if self.worth is None else self.worth[:, points],
        )


def sweep(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    name: str,
    index: int | None = None,
    order: Order | None = None,
    groups: Labels | None = None,
) -> Curve:
    """Measure a policy at every value of one of its thresholds, the others held: one sort.

    Parameters
    ----------
    predictions, truth
        Rows that every tier of the policy has answered.
    name, index
        Which threshold; see `with_threshold`.
    order
        Of these rows by what the threshold is compared with, where it is known already.
    groups
        Codes of what belongs together, shape ``(n_rows,)``; None: every row is a group of its own.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    rows = flips(policy, predictions, truth, name=name, index=index)
    return curve_of(rows, order or Order.of(rows.gauge), groups=groups)


def curve_of(rows: Flips, order: Order, *, groups: Labels | None = None) -> Curve:
    """Return the curve over a threshold whose flips and whose order of the rows are known."""
    n = len(order.rows)
    # in one piece of memory: many pieces are slower to get than to fill
    found = np.empty((5, len(order.threshold)))
    right, last, cost, latency, kept = found
    metrics = (rows.right, rows.last, rows.cost, rows.latency)
    totals, before = [metric.at_0(n) for metric in metrics], 0
    for part, points in order.parts():
        passed = order.below[points]
        share = np.divide(passed, n, out=kept[points])
        for k, metric in enumerate(metrics):
            means = found[k, points]
            if isinstance(metric.change, float):
                np.multiply(share, metric.change, out=means)
                means += totals[k] / n
            else:
                sums = np.concatenate([[totals[k]], metric.change[part]])
                np.cumsum(sums, out=sums)
                np.divide(sums[passed - before], n, out=means)
                totals[k] = sums[-1]
        before += len(part)
        cost[points] *= 1000
        np.subtract(1, share, out=share)
    together, worth = Groups.of(groups), None
    if together is not None:
        pairs = ((rows.right, right), (rows.last, last))
        worth = np.stack([_worth(flipped, np.round(share * n), order, together) for flipped, share in pairs])
    return Curve(order.threshold, right, last, cost, latency, kept, n, worth)


def _worth(flipped: Sum, hits: Floats, order: Order, groups: Groups) -> Floats:
    """Return how many independent rows the rows are worth to a share at every threshold, by running sums.

    Parameters
    ----------
    flipped
        0 or 1 on each row when kept, and what passing it on changes.
    hits
        Rows that count, at every threshold.
    """
    n = groups.n_rows
    kept = np.broadcast_to(np.asarray(flipped.kept, dtype=np.float64), n)
    change = np.broadcast_to(np.asarray(flipped.change, dtype=np.float64), n)[order.rows]
    code, own = groups.code[order.rows], groups.sums(kept)
    square, cross, over = np.zeros((3, n + 1))
    square[0], cross[0], over[0] = own @ own, own @ groups.size, groups.over_size(own * own)
    np.multiply(change, groups.size[code], out=cross[1:])
    moved = np.flatnonzero(change)
    within = moved[np.argsort(code[moved], kind="stable")]  # group by group, each in the order of the thresholds
    step, group = change[within], code[within]
    before = np.cumsum(step) - step
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    before += own[group] - np.repeat(before[starts], np.diff(starts, append=len(group)))
    more = step * (2 * before + step)
    square[1 + within], over[1 + within] = more, more / groups.size[group]
    return groups.worth_of_share(hits, *(np.cumsum(sums)[order.below] for sums in (square, cross, over)))


def latency_quantiles(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    name: str,
    index: int | None,
    thresholds: Floats,
    q: Sequence[float],
) -> Floats | None:
    """Return quantiles of the per-row latency at thresholds, shape ``(len(q), len(thresholds))``.

    None where latencies take more than `LATENCIES` values: then each threshold needs a replay of its own.
    """
    rows = flips(policy, predictions, truth, name=name, index=index)
    n = len(truth)
    kept = _codes(rows.latency.kept, n)
    passed = _codes(np.asarray(rows.latency.kept + rows.latency.change, dtype=np.float64), n)
    if kept is None or passed is None:
        return None
    values = np.union1d(kept[0], passed[0])
    if len(values) > LATENCIES:
        return None
    # how many of each value at each threshold: all rows kept, then those below it moved over
    width = len(values)
    step = locate(thresholds, rows.gauge).astype(np.intp) * width
    before, after = (np.searchsorted(values, found)[code] for found, code in (kept, passed))
    size = (len(thresholds) + 1) * width
    moved = np.bincount(step + after, minlength=size) - np.bincount(step + before, minlength=size)
    counts = np.bincount(before, minlength=width) + np.cumsum(moved.reshape(-1, width), axis=0)[:-1]
    ranks = np.cumsum(counts, axis=1)
    found = []
    for one in q:
        at = one * (n - 1)
        low, high = (values[(ranks <= rank).sum(axis=1)] for rank in (np.floor(at), np.ceil(at)))
        found.append(low + (high - low) * (at - np.floor(at)))
    return np.array(found)


def _codes(values: Floats | Bools | float, n_rows: int) -> tuple[Floats, Rows] | None:
    if np.ndim(values) == 0:
        return np.array([float(values)]), np.zeros(n_rows, dtype=np.intp)
    return few_values(np.asarray(values, dtype=np.float64), most=LATENCIES)


def pareto_front(cost: Floats, accuracy: Floats) -> Bools:
    """Return which points no other beats, being cheaper and no less accurate, or as cheap and more accurate.

    Parameters
    ----------
    cost, accuracy
        Shape ``(n_points,)``. Of equal points all stay.

    Examples
    --------
    >>> pareto_front(np.array([0.0, 1.0, 2.0, 2.0]), np.array([0.8, 0.7, 0.9, 0.9])).tolist()
    [True, False, True, True]
    """
    order = np.lexsort((-accuracy, cost))
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], accuracy[order]]))[:-1]
    front = np.zeros(len(cost), dtype=bool)
    front[order] = accuracy[order] > best_before
    # a point equal to one on the front is on it too
    kept = set(zip(cost[front], accuracy[front], strict=True))
    return np.array([(c, a) in kept for c, a in zip(cost, accuracy, strict=True)], dtype=bool)
