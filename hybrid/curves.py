"""Curves: a policy's metrics over its thresholds; `replay` is the specification, `sweep` and `surface` the fast path.

A pattern meets a threshold in one comparison only: ``gauge >= threshold`` keeps a row at a tier, else it is passed on.
So two replays tell everything: one at 0, where every row is kept, one at 1, where every row below 1 is passed on.
At any threshold a row's outcome is its outcome in one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.errors import TierError
from hybrid.intervals import wilson
from hybrid.predictions import Bools, Floats, Labels, Predictions, Rows
from hybrid.routing import Outcomes, Policy, Threshold, parameters, replay

LATENCIES = 512  # distinct latencies up to which their quantiles are known at every threshold


@dataclass(frozen=True, slots=True)
class Curve:
    """Metrics at every threshold at which anything changes, ascending; all arrays of shape ``(n_points,)``.

    Point ``i`` holds for thresholds in ``(threshold[i - 1], threshold[i]]``; the last threshold is 1.
    """

    threshold: Floats
    accuracy: Floats
    escalation_rate: Floats
    cost_per_1000: Floats
    latency_mean: Floats  # seconds
    kept: Floats  # share of rows at or above the threshold
    n_rows: int

    def at(self, threshold: float | Floats) -> Rows:
        """Return the points that hold for these thresholds in [0, 1], of the same shape."""
        found: Rows = np.searchsorted(self.threshold, threshold, side="left")
        return found

    def band(self) -> tuple[Floats, Floats]:
        """Return the Wilson interval of the accuracy at every point."""
        return wilson(np.round(self.accuracy * self.n_rows), self.n_rows)

    def thin(self, n_points: int) -> Curve:
        """Return at most about this many of the points, the ends among them, for drawing."""
        if len(self.threshold) <= n_points:
            return self
        return self.take(np.unique(np.linspace(0, len(self.threshold) - 1, n_points).astype(np.intp)))

    def on(self, thresholds: Floats) -> Curve:
        """Return the curve at these thresholds, ascending, in [0, 1]."""
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
        )


@dataclass(frozen=True, slots=True)
class Surface:
    """Metrics over two thresholds, exact at every pair; arrays of shape ``(len(second), len(first))``."""

    first: Floats
    second: Floats
    accuracy: Floats
    escalation_rate: Floats
    cost_per_1000: Floats
    n_rows: int


def with_threshold(policy: Policy, name: str, index: int | None, value: float) -> Policy:
    """Return the policy with one threshold moved.

    Parameters
    ----------
    name
        The parameter's name.
    index
        Which of its values, for a parameter per tier; else None.
    """
    changed: float | tuple[float, ...] = value
    if index is not None:
        values = list(parameters(policy.pattern)[name])
        values[index] = value
        changed = tuple(values)
    return replace(policy, pattern=replace(policy.pattern, **{name: changed}))


def sweep(policy: Policy, predictions: Predictions, truth: Labels, *, name: str, index: int | None = None) -> Curve:
    """Measure a policy at every value of one of its thresholds, the others held: two replays and one sort.

    Parameters
    ----------
    predictions, truth
        Rows that every tier of the policy has answered.
    name, index
        Which threshold; see `with_threshold`.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    side = _both_sides(policy, predictions, truth, name, index)
    kept, passed = side.outcomes
    order = np.argsort(side.gauge, kind="stable")
    ascending = side.gauge[order]
    breaks = np.union1d(ascending, [1.0])
    below = np.searchsorted(ascending, breaks, side="left")  # rows that are passed on, a prefix

    def mean(of_kept: Floats | Bools, of_passed: Floats | Bools) -> Floats:
        change = (of_passed.astype(float) - of_kept)[order]
        sums: Floats = of_kept.sum() + np.concatenate([[0.0], np.cumsum(change)])[below]
        return sums / len(truth)

    return Curve(
        breaks,
        mean(kept.label == truth, passed.label == truth),
        mean(kept.asked[:, -1], passed.asked[:, -1]),
        1000 * mean(kept.cost, passed.cost),
        mean(kept.latency, passed.latency),
        1 - below / len(truth),
        len(truth),
    )


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
    side = _both_sides(policy, predictions, truth, name, index)
    kept, passed = side.outcomes
    values, code = np.unique(np.concatenate([kept.latency, passed.latency]), return_inverse=True)
    if len(values) > LATENCIES:
        return None
    n = len(truth)
    # how many of each value at each threshold: all rows kept, then those below it moved over
    step = np.searchsorted(thresholds, side.gauge, side="right")
    shape = (len(thresholds) + 1, len(values))
    moved = np.zeros(shape)
    np.add.at(moved, (step, code[n:]), 1)
    np.add.at(moved, (step, code[:n]), -1)
    counts = np.bincount(code[:n], minlength=len(values)) + np.cumsum(moved, axis=0)[:-1]
    ranks = np.cumsum(counts, axis=1)
    found = []
    for one in q:
        at = one * (n - 1)
        low, high = (values[(ranks <= rank).sum(axis=1)] for rank in (np.floor(at), np.ceil(at)))
        found.append(low + (high - low) * (at - np.floor(at)))
    return np.array(found)


def surface(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    axes: tuple[Threshold, Threshold],
    first: Floats,
    second: Floats,
) -> Surface:
    """Measure a policy at all pairs of two of its thresholds: four replays, O(n + pairs).

    Parameters
    ----------
    axes
        The two thresholds.
    first, second
        Their values, ascending, in [0, 1].

    Raises
    ------
    TierError
        If there is not a single row.
    """
    one, two = axes
    lower, upper = (
        _both_sides(with_threshold(policy, two.name, two.index, edge), predictions, truth, one.name, one.index)
        for edge in (0.0, 1.0)
    )
    gauge = _both_sides(policy, predictions, truth, two.name, two.index).gauge
    # the first value of each axis at which a row is passed on
    i = np.searchsorted(first, lower.gauge, side="right")
    j = np.searchsorted(second, gauge, side="right")
    shape = (len(second) + 1, len(first) + 1)
    cell = j * shape[1] + i

    def table(metric: list[Floats | Bools]) -> Floats:
        neither, only_first, only_second, both = (m.astype(float) for m in metric)
        total = np.full(shape, neither.sum())
        total += np.cumsum(np.bincount(i, only_first - neither, minlength=shape[1]))[None, :]
        total += np.cumsum(np.bincount(j, only_second - neither, minlength=shape[0]))[:, None]
        crossed = np.bincount(cell, both - only_first - only_second + neither, minlength=shape[0] * shape[1])
        total += crossed.reshape(shape).cumsum(axis=0).cumsum(axis=1)
        means: Floats = total[:-1, :-1] / len(truth)
        return means

    corners = [*lower.outcomes, *upper.outcomes]
    return Surface(
        first,
        second,
        table([o.label == truth for o in corners]),
        table([o.asked[:, -1] for o in corners]),
        1000 * table([o.cost for o in corners]),
        len(truth),
    )


@dataclass(frozen=True, slots=True)
class _Sides:
    """What a threshold is compared with, and the outcomes with every row kept and with every row passed on."""

    gauge: Floats
    outcomes: tuple[Outcomes, Outcomes]


def _both_sides(policy: Policy, predictions: Predictions, truth: Labels, name: str, index: int | None) -> _Sides:
    if not len(truth):
        raise TierError("There is no row to draw a curve from: no row has an answer from every tier of this policy.")
    kept, passed = (with_threshold(policy, name, index, edge) for edge in (0.0, 1.0))
    gauge = kept.pattern.gauge(predictions.select(policy.names), name, index)
    return _Sides(gauge, (replay(kept, predictions), replay(passed, predictions)))


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
