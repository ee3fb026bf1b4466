"""Edges: the best thresholds at the edges of a tally's lattice, and how much better any others can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.metrics.tally import Tally, below
from hybrid.routing.table import Bools, Floats
from hybrid.tuning.goals import CHEAPEST, Goal, best, violation


@dataclass(frozen=True, slots=True)
class EdgeOptimum:
    """The best thresholds at the edges of a tally's lattice, and how much better any others can be.

    Parameters
    ----------
    thresholds
        One for each tier but the last.
    bound
        No thresholds at all are cheaper per 1,000 than this, where the goal is an accuracy; or more accurate, where it
        is a cost. None with more than two thresholds.
    """

    thresholds: tuple[float, ...]
    accuracy: float
    cost_per_1000: float
    bound: float | None
    n_rows: int


def optimum_at_edges(sums: Tally, goal: Goal) -> EdgeOptimum | None:
    """Find the best thresholds among the edges; None where none of them keeps the limits.

    Parameters
    ----------
    goal
        The cheapest at a floor, or the most accurate within a budget.

    Notes
    -----
    The bound: thresholds inside a cell pass at least those rows on that its lower corner does, so they cost no less;
    and of the rows in the cell's bins each adds a right answer at most where a later tier is right and the earlier
    ones are wrong.
    """
    n = sums.n_rows
    right, cost = sums.correct().astype(np.float64), sums.cost_grid()
    terms, caps = np.stack([cost, n - right])[goal.rows], goal.caps(n)
    at = best(terms, caps)
    if violation(terms.reshape(len(terms), -1)[:, [at]], caps)[0] > 0:
        return None
    index = np.unravel_index(at, right.shape)
    found = float(right[index]) / n, 1000 * float(cost[index]) / n
    bound = None
    if sums.n_tiers <= 3:
        gain = sums.right[0b10].astype(np.float64)
        if sums.n_tiers == 2:
            gain[-2:] = 0  # rows at exactly 1 are kept or passed on all together
        most = right + gain if sums.n_tiers == 2 else _most(sums.right, right)
        hopeful = violation(np.stack([cost, n - most])[goal.rows], caps) == 0
        if goal.kind == CHEAPEST:
            bound = min(found[1], float((1000 * cost[hopeful] / n).min(initial=np.inf)))
        else:
            bound = max(found[0], float((most[hopeful] / n).max(initial=0.0)))
    return EdgeOptimum(tuple(float(sums.lattice.edges[i]) for i in index), *found, bound, n)


def _most(counts: NDArray[np.int64], right: Floats) -> Floats:
    """Return the most right answers that thresholds inside each cell of three tiers can give.

    `right` has those with both thresholds at edges.
    """
    ok = (np.arange(8) >> np.arange(3)[:, None] & 1).astype(bool)  # whether each tier is right under each code
    # rows of bin j that are passed on at the first threshold for sure: the second may pass just those that gain
    column = below(_weighed(counts, ok[2] & ~ok[1]), axes=(0,))
    # rows of bin i: passed on just if that gains, wherever they end
    at_2, at_3 = (_weighed(counts, ok[j] & ~ok[0]) for j in (1, 2))
    corner = _weighed(counts, (ok[1] | ok[2]) & ~ok[0])
    rest = at_2.sum(axis=1, keepdims=True) - np.cumsum(at_2, axis=1)
    found: Floats = right + column + below(at_3, axes=(1,)) + rest + corner
    return found


def _weighed(counts: NDArray[np.int64], weight: Bools) -> NDArray[np.int64]:
    """Return the sums over some of the codes, which are the first axis."""
    return np.asarray(sum(table for w, table in zip(weight, counts, strict=True) if w))
