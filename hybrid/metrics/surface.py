"""Surfaces: a policy's metrics at all pairs of two of its thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid.metrics.flips import Chain, Change, Sum, chain_of_three, flips, require_rows, with_threshold
from hybrid.metrics.groups import Groups, Steps, worth_over_two
from hybrid.metrics.intervals import wilson_of
from hybrid.metrics.lattice import locate
from hybrid.metrics.tally import cells
from hybrid.routing.engine import Policy, Threshold
from hybrid.routing.table import NEVER, Floats, Labels, Predictions, Rows

ROW = 2.0**27
_T = TypeVar("_T", np.int64, np.float64)
_Pair = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Surface:
    """Metrics over two thresholds, exact at every pair; arrays of shape ``(len(second), len(first))``."""

    first: Floats
    second: Floats
    accuracy: Floats
    escalation_rate: Floats
    cost_per_1000: Floats
    n_rows: int
    worth: Floats | None = None  # of the accuracy and the escalation rate, shape (2, …): see `Curve`

    def band(self) -> tuple[Floats, Floats]:
        """Return the Wilson interval of the accuracy at every pair."""
        return wilson_of(self.accuracy, self.n_rows, None if self.worth is None else self.worth[0])

    def escalation_band(self) -> tuple[Floats, Floats]:
        """Return the Wilson interval of the escalation rate at every pair."""
        return wilson_of(self.escalation_rate, self.n_rows, None if self.worth is None else self.worth[1])


def surface(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    axes: tuple[Threshold, Threshold],
    first: Floats,
    second: Floats,
    groups: Labels | None = None,
) -> Surface:
    """Measure a policy at all pairs of two of its thresholds, O(n + pairs).

    A cascade of three tiers is read off its columns; any other policy takes six replays.

    Parameters
    ----------
    axes
        The two thresholds.
    first, second
        Their values, ascending, in [0, 1], or `NEVER`.
    groups
        Codes of what belongs together, shape ``(n_rows,)``; None: every row is a group of its own.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    require_rows(truth)
    together = Groups.of(groups)
    # sums of up to 2**26 rows, times ROW, are whole numbers that a double holds
    if [a.index for a in axes] == [0, 1] and len(truth) < 1 << 26:
        chain = chain_of_three(policy, predictions, truth)
        if chain is not None:
            found = surface_of(chain, first, second)
            if together is None:
                return found
            at = locate(first, chain.confidence[0]), locate(second, chain.confidence[1])
            one, two, three = (right.view(np.int8) for right in chain.right)
            parts = (one, two - one, 0.0, three - two), (0.0, 0.0, 0.0, 1.0)
            return _with_worth(found, parts, at, together)
    return _of_flips(policy, predictions, truth, axes, (first, second), together)


def _with_worth(
    found: Surface,
    parts: tuple[tuple[Change, ...], tuple[Change, ...]],
    at: tuple[NDArray[np.int32], NDArray[np.int32]],
    groups: Groups,
) -> Surface:
    """Return the surface with what its rows are worth; `parts` as in `Steps`, of right answers and of escalations."""
    shape = found.accuracy.shape
    worth = [
        worth_over_two(Steps(one, at, (shape[0], shape[1])), np.round(share * found.n_rows), groups)
        for one, share in zip(parts, (found.accuracy, found.escalation_rate), strict=True)
    ]
    return replace(found, worth=np.stack(worth))


def surface_of(chain: Chain, first: Floats, second: Floats) -> Surface:
    """Return the surface over both thresholds of a cascade of three tiers whose columns were read already.

    Notes
    -----
    A row is passed on from that value of each axis on that is the first above its confidence. Passed on along the
    first axis it adds ok₂ − ok₁ right answers and what tier 2 costs, and passed on along both ok₃ − ok₂ more and what
    tier 3 costs. So rows are summed up by where they are passed on, once along the first axis and once over both.
    """
    n = chain.n_rows
    i, j = locate(first, chain.confidence[0]), locate(second, chain.confidence[1])
    one, two, three = (right.view(np.int8) for right in chain.right)
    shape = len(second) + 1, len(first) + 1
    cell = cells([j, i], shape)
    # all three in one piece, which is large enough for the large pages of memory that are fast to get
    right, passed, cost = np.empty((3, len(second), len(first)))

    both = right.view(np.int64)
    both[...] = np.bincount(cell, (three - two) + ROW, minlength=prod(shape)).reshape(shape)[:-1, :-1]
    _split(sum_up(both), passed, right, spare=cost)
    both_1 = np.bincount(i, (two - one) + ROW, minlength=shape[1])[:-1].cumsum()
    right_1, passed_1, spare = np.empty((3, len(first)))
    _split(both_1, passed_1, right_1, spare=spare)
    right += np.count_nonzero(one) + right_1
    right /= n

    paid_1, paid_2, paid_3 = chain.cost
    if isinstance(paid_3, float):
        np.multiply(passed, paid_3, out=cost)
    else:
        cost[...] = _over_both(cell, paid_3, shape)
    cost += passed_1 * paid_2 if isinstance(paid_2, float) else _along(i, paid_2, shape[1])
    cost += n * paid_1 if isinstance(paid_1, float) else paid_1.sum()
    cost *= 1000 / n
    passed /= n
    return Surface(first, second, right, passed, cost, n)


def _split(both: NDArray[Any], rows: Floats, gains: Floats, *, spare: Floats) -> None:
    """Split sums of gains and rows: rows are the multiples of `ROW`, and gains, fewer than half of that, are the rest.

    `gains` may be the memory of `both`.
    """
    np.multiply(both, 1 / ROW, out=rows)
    np.rint(rows, out=rows)
    np.multiply(rows, ROW, out=spare)
    np.subtract(both, spare, out=gains)


def _along(at: NDArray[np.int32], weight: Change, n_steps: int) -> Floats:
    """Return sums over the rows that are passed on, at each step but the last; `at`: the step from which on each is."""
    weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), at.shape)
    summed: Floats = np.bincount(at, weights, minlength=n_steps)[:-1].cumsum()
    return summed


def _over_both(cell: Rows, weight: Floats, shape: tuple[int, int]) -> Floats:
    """Return the same along two axes; `cell`: the number of the pair of steps in a table of this shape."""
    table: Floats = np.bincount(cell, weight, minlength=prod(shape)).astype(np.float64, copy=False)
    return sum_up(table.reshape(shape)[:-1, :-1])


def sum_up(table: NDArray[_T]) -> NDArray[_T]:
    """Replace each number by the sum of all up to it along both axes."""
    table.cumsum(axis=1, out=table)
    for before, row in pairwise(table):  # numpy goes along the first axis in strides, several times slower
        row += before
    return table


def _of_flips(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    axes: tuple[Threshold, Threshold],
    at: _Pair,
    groups: Groups | None,
) -> Surface:
    (one, two), (first, second) = axes, at
    lower, upper = (
        flips(with_threshold(policy, two.name, two.index, edge), predictions, truth, name=one.name, index=one.index)
        for edge in (0.0, NEVER)
    )
    across = flips(with_threshold(policy, one.name, one.index, 0.0), predictions, truth, name=two.name, index=two.index)
    # the first value of each axis at which a row is passed on
    i, j = locate(first, lower.gauge), locate(second, across.gauge)
    shape = (len(second) + 1, len(first) + 1)
    cell = cells([j, i], shape)

    def table(neither: Sum, lower: Change, across: Change, upper: Change) -> Floats:
        more = np.asarray(upper, dtype=np.float64) - lower  # passing a row on at both is more than at each singly
        total = _over_both(cell, np.broadcast_to(more, len(truth)), shape)
        total += _along(i, lower, shape[1])
        total += _along(j, across, shape[0])[:, None]
        total += neither.at_0(len(truth))
        total /= len(truth)
        return total

    found = Surface(
        first,
        second,
        table(lower.right, lower.right.change, across.right.change, upper.right.change),
        table(lower.last, lower.last.change, across.last.change, upper.last.change),
        1000 * table(lower.cost, lower.cost.change, across.cost.change, upper.cost.change),
        len(truth),
    )
    if groups is None:
        return found

    def parts(neither: Sum, lower: Change, across: Change, upper: Change) -> tuple[Change, ...]:
        kept = neither.kept if isinstance(neither.kept, float) else neither.kept.astype(np.float64)
        return kept, lower, across, np.asarray(upper, dtype=np.float64) - lower

    right, last = (
        parts(a, a.change, b.change, c.change)
        for a, b, c in ((lower.right, across.right, upper.right), (lower.last, across.last, upper.last))
    )
    return _with_worth(found, (right, last), (i, j), groups)
