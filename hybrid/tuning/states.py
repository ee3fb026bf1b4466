"""States: where rows can end under a policy, what decides about it, and what each end adds to the sums of a goal.

A row ends at the first place whose gauge reaches the threshold there, else at the last. So the sums at any thresholds
are those of one column a place, and no search replays a policy: a pattern says its places (`Pattern.stops`), and one
with a single threshold is replayed twice, with every row kept and with every row passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.metrics.curve import with_threshold
from hybrid.metrics.flips import known
from hybrid.metrics.order import Order, above
from hybrid.routing.engine import Policy, Stop, Threshold, replay
from hybrid.routing.table import NEVER, Bools, Floats, Labels, Predictions, Rows
from hybrid.tuning.goals import Goal


def levels(gauge: Floats) -> Floats:
    """Return every threshold at which anything changes, ascending; the last passes every row on."""
    return np.union1d(gauge, [above(float(gauge.max(initial=0.0)))])


def scan(gauge: Floats, kept: Floats, passed: Floats) -> tuple[Floats, Floats]:
    """Return every distinct threshold and the sums at it.

    Parameters
    ----------
    gauge
        What the threshold is compared with, shape ``(n_rows,)``.
    kept, passed
        Terms of each row if it is kept and if it is passed on, shape ``(n_terms, n_rows)``.

    Returns
    -------
    thresholds, totals
        Ascending, ending with one that passes all on; and shape ``(n_terms, n_thresholds)``.

    Examples
    --------
    >>> scan(np.array([0.5, 0.9]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    (array([0.5, 0.9, 1. ]), array([[1., 0., 1.]]))
    """
    whole = kept.sum(axis=1)[:, None]
    if not len(gauge):
        return np.array([above(0.0)]), whole
    order = Order.of(gauge)
    change = np.cumsum((passed - kept)[:, order.rows], axis=1)
    moved = np.concatenate([np.zeros((len(kept), 1)), change], axis=1)
    sums: Floats = whole + moved[:, order.below]
    return order.threshold, sums


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """The places where rows can end under a policy.

    Parameters
    ----------
    policy
        Its thresholds do not matter.
    lines
        The thresholds that are set, in the order in which rows meet them.
    gauges
        What each is compared with, shape ``(n_rows,)``.
    terms
        The goal's measures of each row at each place, shape ``(n_lines + 1, n_measures, n_rows)``.
    """

    policy: Policy
    lines: tuple[Threshold, ...]
    gauges: tuple[Floats, ...]
    terms: Floats

    @property
    def n_rows(self) -> int:
        return int(self.terms.shape[2])

    def take(self, rows: Rows | Bools) -> States:
        """Return the states of these rows only."""
        return replace(self, gauges=tuple(g[rows] for g in self.gauges), terms=self.terms[..., rows])

    def weighted(self, counts: Floats) -> States:
        """Return the states of rows that count as often as this, shape ``(n_rows,)``."""
        return replace(self, terms=self.terms * counts)

    def ends(self, values: Sequence[float], start: int = 0) -> Rows:
        """Return the place where each row ends at these thresholds, from place `start` on, shape ``(n_rows,)``."""
        at = np.full(self.n_rows, len(self.lines), dtype=np.intp)
        for j in range(len(self.lines) - 1, start - 1, -1):
            at[self.gauges[j] >= values[j]] = j
        return at

    def rows_at(self, values: Sequence[float], start: int = 0) -> Floats:
        """Return the measures of each row at these thresholds, shape ``(n_measures, n_rows)``."""
        if len(self.terms) == 1:
            only: Floats = self.terms[0]
            return only
        at = self.ends(values, start)
        found: Floats = self.terms[-1]
        for j in range(len(self.lines) - 1, start - 1, -1):
            found = np.where(at == j, self.terms[j], found)
        return found

    def scan(self, line: int, values: Sequence[float]) -> tuple[Floats, Floats]:
        """Return every distinct value of one threshold and the sums there, the others held; see `scan`."""
        kept, passed = self.terms[line], self.rows_at(values, line + 1)
        if line == 0:
            return scan(self.gauges[0], kept, passed)
        at = self.ends(values)
        before = np.zeros(self.n_rows, dtype=bool)
        for j in range(line):
            before |= self.gauges[j] >= values[j]
        reached = ~before
        thresholds, totals = scan(self.gauges[line][reached], kept[:, reached], passed[:, reached])
        rest = np.zeros(self.terms.shape[1])
        for j in range(line):
            rest += self.terms[j][:, at == j].sum(axis=1)
        return thresholds, totals + rest[:, None]

    def placed(self, values: Sequence[float]) -> Policy:
        """Return the policy with these thresholds."""
        return placed(self.policy, self.lines, values)


def placed(policy: Policy, lines: Sequence[Threshold], values: Sequence[float]) -> Policy:
    """Return a policy with these values of its thresholds."""
    for line, value in zip(lines, values, strict=True):
        policy = with_threshold(policy, line.name, line.index, float(value))
    return policy


def states_of(policy: Policy, predictions: Predictions, truth: Labels, goal: Goal) -> States | None:
    """Read where rows can end; None of a pattern with several thresholds that does not say it.

    Parameters
    ----------
    predictions, truth
        Rows that every tier of the policy has answered.
    """
    lines = tuple(line for line in policy.thresholds() if line.value is not None)
    seen = known(predictions.select(policy.names))
    stops, stop_aside = policy.stops(seen), policy.stop_aside(seen)
    if stops is not None:
        terms = [_terms(stop, seen, truth, goal) for stop in stops]
        if stop_aside is not None:  # wherever the thresholds are
            aside = policy.set_aside(seen)
            fixed = _terms(stop_aside, seen, truth, goal)
            terms = [np.where(aside, fixed, each) for each in terms]
    elif len(lines) > 1:
        return None
    else:
        edges = [placed(policy, lines, [edge] * len(lines)) for edge in (0.0, NEVER)[: len(lines) + 1]]
        terms = [of_replay(p, predictions, truth, goal) for p in edges]
    gauges = tuple(policy.gauge(seen, line.name, line.index) for line in lines)
    return States(policy, lines, gauges, np.stack(terms))


def of_replay(policy: Policy, predictions: Predictions, truth: Labels, goal: Goal) -> Floats:
    """Return a goal's measures of each row under a policy, shape ``(n_measures, n_rows)``."""
    o = replay(policy, predictions)
    return goal.measures(o.label, o.cost, o.latency, truth)


def _terms(stop: Stop, seen: Predictions, truth: Labels, goal: Goal) -> Floats:
    cost, latency = np.zeros(seen.n_rows), np.zeros(seen.n_rows)
    for columns in stop.rounds:
        for j in columns:
            cost += seen.cost[:, j]
        if goal.timed:
            latency += seen.latency[:, list(columns)].max(axis=1)
    return goal.measures(stop.label, cost, latency, truth)
