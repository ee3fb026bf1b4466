"""Curves: a policy's metrics over its thresholds; `replay` is the specification, `sweep` the fast path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.errors import TierError
from hybrid.intervals import wilson
from hybrid.patterns import Triage
from hybrid.predictions import Bools, Floats, Labels, Predictions, Rows
from hybrid.routing import Policy, parameters, replay

GRID = 101  # thresholds of a pattern without a fast path


@dataclass(frozen=True, slots=True)
class Curve:
    """Metrics at thresholds, ascending; all arrays of shape ``(n_points,)``.

    Where `exact` is True the thresholds are all those at which anything changes, and `at` answers for any
    threshold whatever; else they are a grid, exact at its points.
    """

    threshold: Floats
    accuracy: Floats
    escalation_rate: Floats
    cost_per_1000: Floats
    latency_mean: Floats  # seconds
    n_rows: int
    exact: bool

    def at(self, threshold: float) -> int:
        """Return the point that holds for this threshold.

        Raises
        ------
        TierError
            If the curve is a grid and this is not one of its points.
        """
        # the point of t has the smallest breakpoint that is at or above t: between breakpoints nothing changes
        i = int(np.searchsorted(self.threshold, threshold, side="left"))
        if not self.exact and (i == len(self.threshold) or self.threshold[i] != threshold):
            raise TierError(f"Threshold {threshold} is not on the grid of this curve: replay the policy there.")
        return min(i, len(self.threshold) - 1)

    def band(self) -> tuple[Floats, Floats]:
        """Return the Wilson interval of the accuracy at every point."""
        return wilson(np.round(self.accuracy * self.n_rows), self.n_rows)

    def thin(self, n_points: int) -> Curve:
        """Return at most about this many of the points, the ends among them, for drawing."""
        if len(self.threshold) <= n_points:
            return self
        keep = np.unique(np.linspace(0, len(self.threshold) - 1, n_points).astype(np.intp))
        return self._take(keep)

    def _take(self, keep: Rows) -> Curve:
        return replace(
            self,
            threshold=self.threshold[keep],
            accuracy=self.accuracy[keep],
            escalation_rate=self.escalation_rate[keep],
            cost_per_1000=self.cost_per_1000[keep],
            latency_mean=self.latency_mean[keep],
        )


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


def sweep(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    name: str,
    index: int | None = None,
    grid: Sequence[float] | None = None,
) -> Curve:
    """Measure a policy over one of its thresholds, the others held.

    Parameters
    ----------
    predictions, truth
        Rows that every tier of the policy has answered.
    name, index
        Which threshold; see `with_threshold`.
    grid
        Thresholds for a pattern without a fast path; default `GRID` even steps over [0, 1] and the policy's own.
        Triage takes none: it is exact everywhere.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    if not len(truth):
        raise TierError("There is no row to draw a curve from: no row has an answer from every tier of this policy.")
    if isinstance(policy.pattern, Triage):
        return _sweep_triage(policy, predictions, truth)
    own = parameters(policy.pattern)[name]
    own = own if index is None else own[index]
    thresholds = np.linspace(0, 1, GRID) if grid is None else np.asarray(grid, dtype=float)
    thresholds = np.union1d(thresholds, [] if own is None else [own])
    points = []
    for t in thresholds:
        o = replay(with_threshold(policy, name, index, float(t)), predictions)
        points.append(((o.label == truth).mean(), o.asked[:, -1].mean(), 1000 * o.cost.mean(), o.latency.mean()))
    accuracy, escalation, cost, latency = np.array(points, dtype=float).T
    return Curve(thresholds, accuracy, escalation, cost, latency, len(truth), exact=False)


def _sweep_triage(policy: Policy, predictions: Predictions, truth: Labels) -> Curve:
    """One sort and cumulative sums: exact at every threshold, O(n log n).

    A row is escalated at threshold t when its confidence is below t. In ascending order of confidence the rows
    below each distinct value are a prefix, so every metric is the cheap tier's plus a prefix sum of differences.
    """
    cheap, strong = (predictions.index(n) for n in policy.names)
    confidence = predictions.confidence[:, cheap]
    order = np.argsort(confidence, kind="stable")
    ascending = confidence[order]
    right = predictions.label == truth[:, None]
    gain = (right[:, strong].astype(float) - right[:, cheap])[order]
    first = np.flatnonzero(np.concatenate([[True], np.diff(ascending) > 0]))  # first row of each distinct confidence
    below = np.concatenate([first, [len(order)]])  # rows escalated; the last point escalates all
    thresholds = np.concatenate([ascending[first], [np.nextafter(ascending[-1], 2.0)]])

    def prefix(values: Floats) -> Floats:
        sums: Floats = np.concatenate([[0.0], np.cumsum(values)])[below]
        return sums

    n = len(truth)
    return Curve(
        thresholds,
        (right[:, cheap].sum() + prefix(gain)) / n,
        below / n,
        1000 * (predictions.cost[:, cheap].sum() + prefix(predictions.cost[order, strong])) / n,
        (predictions.latency[:, cheap].sum() + prefix(predictions.latency[order, strong])) / n,
        n,
        exact=True,
    )


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
