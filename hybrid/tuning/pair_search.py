"""Search: the cheapest thresholds that are accurate enough, or the most accurate that are cheap enough, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.metrics.flips import Chain, with_threshold
from hybrid.metrics.lattice import locate
from hybrid.metrics.order import above
from hybrid.metrics.surface import sum_up
from hybrid.metrics.tally import Tally, below, bit_code, cells, counted
from hybrid.routing.engine import Policy
from hybrid.routing.table import Bools, Floats, Rows

SAMPLE = 1 << 14  # confidences that the bins are laid by
PAIRS = 1 << 20  # pairs of thresholds that are looked at together
_T = TypeVar("_T", np.int64, np.float64)
CENT = 1e-12  # relative: sums of the same costs in another order are the same cost


@dataclass(frozen=True, slots=True)
class Goal:
    """What thresholds are wanted: the least cost at an accuracy, or the most accuracy at a cost.

    Parameters
    ----------
    min_accuracy
        In [0, 1]: find the cheapest policy at or above it.
    max_cost_per_1000
        USD: find the most accurate policy at or below it. Exactly one of the two is given.
    """

    min_accuracy: float | None = None
    max_cost_per_1000: float | None = None

    def __post_init__(self) -> None:
        if (self.min_accuracy is None) == (self.max_cost_per_1000 is None):
            raise TierError("Give either a least accuracy or a highest cost per 1,000.")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise TierError(f"The least accuracy is {self.min_accuracy}: it must be in [0, 1]. Percent? Divide by 100.")
        if self.max_cost_per_1000 is not None and not self.max_cost_per_1000 >= 0:
            raise TierError(f"The highest cost per 1,000 is {self.max_cost_per_1000}: it must be 0 or more.")


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best thresholds of a policy for a goal, on the rows that were searched; no others do better.

    Parameters
    ----------
    policy
        With these thresholds.
    accuracy, cost_per_1000
        Theirs.
    opened
        Cells of the lattice that had to be looked into.
    """

    policy: Policy
    accuracy: float
    cost_per_1000: float
    n_rows: int
    opened: int = 0


def best_pair(policy: Policy, chain: Chain, goal: Goal) -> Optimum | None:
    """Find the best two thresholds of a cascade of three tiers; None where none reach the goal.

    No other thresholds at all do better. Of equally good ones the cheaper, or more accurate, is returned.

    Parameters
    ----------
    policy
        Whose thresholds to choose; the values that it has do not matter.
    chain
        Its columns; see `hybrid.metrics.flips.chain_of_three`.

    Notes
    -----
    Let s, t be the thresholds, and let a row be *passed by s* when its first confidence is below s, and *by t* when
    its second is below t. Accuracy is a constant plus one term a row: 0 if s keeps it, ok₂ − ok₁ if s passes it and t
    keeps it, ok₃ − ok₁ if both pass it.

    *Which thresholds matter.* A row can gain from s only if tier 1 is wrong and tier 2 or 3 is right. Take an optimum
    (s, t), and the largest first confidence below s. If no row that has it can gain, then keeping these rows at tier 1
    loses no right answer and, as costs are not negative, costs no more: a lower s is as good. Repeat until the rows
    last passed include one that can gain, or none is passed. Likewise for t, where a gain is ok₃ > ok₂. So some
    optimum has each threshold right after a row that can gain, or passes nothing at it, and these alone are tried.

    *Which cells are opened.* Edges e cut both axes into bins. For s in (eᵢ, eᵢ₊₁] and t in (eⱼ, eⱼ₊₁] every row outside
    of bin i on the first axis and of bin j on the second has a known end, and of the others each adds at most its best
    possible term. Their sum bounds the accuracy in the cell from above. Thresholds that rise only ever pass more on,
    and a pair that matters passes at least one row of bin i on, or else lies in a lower cell: the cost at (eᵢ, eⱼ) plus
    the least that tier 2 costs bounds the cost from below. (Passing nothing on at s is the pair (0, 0), an edge.) A
    cell is left shut only if by these bounds it holds nothing that
    meets the goal, or nothing better than what is known. All others are opened and all their pairs that matter
    compared. So nothing better exists, and the edges, wherever they lie, decide about the time only.
    """
    found = _Pairs.of(chain, goal).search()
    return None if found is None else _placed(policy, chain, found)


@dataclass(frozen=True, slots=True)
class _Better:
    """Compares (right answers, USD) pairs by a goal, on n rows."""

    need: float  # right answers
    limit: float  # USD
    by_cost: bool  # which of the two is made best, the other being the goal

    @classmethod
    def by(cls, goal: Goal, n_rows: int) -> _Better:
        if goal.min_accuracy is not None:
            return cls(float(np.ceil(goal.min_accuracy * n_rows * (1 - CENT))), np.inf, True)
        assert goal.max_cost_per_1000 is not None
        return cls(0.0, goal.max_cost_per_1000 / 1000 * n_rows * (1 + CENT) + 1e-15, False)

    def can(self, right: Floats, cost: Floats) -> Bools:
        """Return which pairs meet the goal."""
        met: Bools = (right >= self.need) & (cost <= self.limit)
        return met

    def than(self, right: Floats, cost: Floats, known: tuple[float, float] | None) -> Bools:
        """Return which pairs meet the goal and beat the one that is known."""
        met = self.can(right, cost)
        if known is None:
            return met
        cheaper = cost < known[1] * (1 - CENT)
        as_cheap = cost <= known[1] * (1 + CENT)
        if self.by_cost:
            better: Bools = cheaper | (as_cheap & (right > known[0]))
        else:
            better = (right > known[0]) | ((right == known[0]) & cheaper)
        return met & better

    def least_right(self, known: tuple[float, float] | None) -> float:
        """Return the right answers below which nothing meets the goal and beats what is known."""
        return self.need if self.by_cost or known is None else known[0]

    def best(self, right: Floats, cost: Floats) -> int | None:
        """Return the best pair, the first of equals; None where none meets the goal."""
        at = np.flatnonzero(self.can(right, cost))
        if not len(at):
            return None
        right, cost = right[at], cost[at]
        if self.by_cost:
            equal = np.flatnonzero(cost <= cost.min() * (1 + CENT))
            return int(at[equal[np.argmax(right[equal])]])
        equal = np.flatnonzero(right == right.max())
        return int(at[equal[np.argmin(cost[equal])]])


def _levels(values: Floats, most: int) -> Floats:
    """Return thresholds from 0 to 1 that part the values into about equal shares."""
    sample = np.sort(values[:: max(1, len(values) // SAMPLE)])
    sample = np.clip(sample[np.isfinite(sample)], 0.0, 1.0)
    inner = sample[np.linspace(0, len(sample) - 1, most).astype(np.intp)] if len(sample) else sample
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


@dataclass(frozen=True, slots=True)
class _Found:
    """A pair of thresholds as the values after which they stand; None: nothing is passed on at that tier."""

    after: tuple[float | None, float | None]
    right: float
    cost: float
    opened: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """All pairs of thresholds of a cascade of three tiers, cut into cells by edges on both axes."""

    chain: Chain
    better: _Better
    edges: tuple[Floats, Floats]
    bins: tuple[NDArray[np.int16], NDArray[np.int16]]
    code: NDArray[np.uint8]  # which tiers are right, tier j as bit j
    counts: NDArray[np.int64]  # rows by code and bins

    @classmethod
    def of(cls, chain: Chain, goal: Goal) -> _Pairs:
        n = chain.n_rows
        most = int(np.clip(n // 128, 8, 256))
        edges = tuple(_levels(c, most) for c in chain.confidence[:2])
        bins = [(locate(e, c) - 1).astype(np.int16) for e, c in zip(edges, chain.confidence[:2], strict=True)]
        code = bit_code(chain.right)
        counts = counted([code, *bins], (8, len(edges[0]), len(edges[1])))
        return cls(chain, _Better.by(goal, n), (edges[0], edges[1]), (bins[0], bins[1]), code, counts)

    def search(self) -> _Found | None:
        right, cost = self._at_edges()
        at = self.better.best(right.ravel(), cost.ravel())
        found: _Found | None = None
        if at is not None:
            i, j = np.unravel_index(at, right.shape)
            after = tuple(self._last_before(axis, int(b)) for axis, b in enumerate((i, j)))
            found = _Found((after[0], after[1]), float(right[i, j]), float(cost[i, j]))
        most = _most(self.counts, right)
        least = cost + float(np.min(self.chain.cost[1]))  # every pair inside passes a row on
        open_ = np.flatnonzero(self.better.than(most.ravel(), least.ravel(), _known(found)))
        # the most promising first: what they hold shuts others
        order = np.lexsort((least.ravel()[open_], -most.ravel()[open_]))
        if self.better.by_cost:
            order = np.lexsort((-most.ravel()[open_], least.ravel()[open_]))
        if not len(open_):
            return found
        strips = tuple(_Strips.of(b, len(e)) for b, e in zip(self.bins, self.edges, strict=True))
        opened = 0
        for flat in open_[order]:
            i, j = np.unravel_index(flat, right.shape)
            if not self.better.than(most[i, j : j + 1], least[i, j : j + 1], _known(found))[0]:
                continue
            opened += 1
            for seen in self._inside(int(i), int(j), strips, (float(right[i, j]), float(cost[i, j])), found):
                if self.better.than(np.array([seen.right]), np.array([seen.cost]), _known(found))[0]:
                    found = seen
        return None if found is None else replace(found, opened=opened)

    def _at_edges(self) -> tuple[Floats, Floats]:
        """Return right answers and USD with both thresholds at edges."""
        ok = _weights()
        first = _weighed(self.counts.sum(axis=2), ok[1] - ok[0])
        right = float((self.counts.sum(axis=(1, 2)) * ok[0]).sum()) + below(first)[:, None]
        right = right + below(_weighed(self.counts, ok[2] - ok[1]))
        costs = [self._costs(j) for j in range(3)]
        return right.astype(float), costs[0] + _below(costs[1])[:, None] + _below(costs[2])

    def _costs(self, tier: int) -> Floats:
        """Return USD of a tier by the bins of the tiers before it."""
        value = self.chain.cost[tier]
        if isinstance(value, float):
            rows = self.counts.sum(axis=(0, *range(tier + 1, 3)))
            return np.asarray(rows * value)
        if tier == 0:
            return np.asarray(value.sum())
        shape = self.counts.shape[1 : tier + 1]
        summed: Floats = np.bincount(cells(self.bins[:tier], shape), value, minlength=prod(shape)).astype(np.float64)
        return summed.reshape(shape)

    def _last_before(self, axis: int, edge: int) -> float | None:
        """Return the greatest confidence below an edge, None where none is."""
        values = self.chain.confidence[axis]
        last = float(np.where(values < self.edges[axis][edge], values, -1.0).max())
        return None if last < 0 else last

    def _inside(
        self, i: int, j: int, strips: tuple[_Strips, ...], corner: tuple[float, float], known: _Found | None
    ) -> Iterator[_Found]:
        """Compare the pairs of a cell that matter; yields the best of each part of them.

        Parameters
        ----------
        corner
            Right answers and USD at the cell's lower corner.
        known
            What is to be beaten.
        """
        ok = _weights()
        confidence, (_, cost_2, cost_3) = self.chain.confidence, self.chain.cost
        rows = strips[0].rows(i)
        side, code = self.bins[1][rows], self.code[rows]
        firsts = _candidates(confidence[0][rows], ((ok[0] == 0) & (ok[1] + ok[2] > 0))[code])
        column = strips[1].rows(j)
        column = column[self.bins[0][column] < i]
        both = rows[side == j]
        lasting = np.concatenate([column, both])
        seconds = _candidates(confidence[1][lasting], (ok[2] > ok[1])[self.code[lasting]])

        # what passing on at the first threshold changes; rows of the corner go to the second tier, for now
        to_3 = side < j
        gain = np.where(to_3, (ok[2] - ok[0])[code], (ok[1] - ok[0])[code])
        paid = _of(cost_2, rows) + np.where(to_3, _of(cost_3, rows), 0.0)
        at = np.searchsorted(firsts, confidence[0][rows])
        right_1, paid_1 = _prefix(at, gain, len(firsts)), _prefix(at, paid, len(firsts))
        # what passing on at the second changes, for rows that the first has passed on for sure
        at = np.searchsorted(seconds, confidence[1][column])
        gain = (ok[2] - ok[1])[self.code[column]]
        right_2, paid_2 = _prefix(at, gain, len(seconds)), _prefix(at, _of(cost_3, column), len(seconds))
        # and for the corner: rows that both pass on, from these candidates on
        from_1, from_2 = (np.searchsorted(v, confidence[a][both]) + 1 for a, v in enumerate((firsts, seconds)))
        gain = (ok[2] - ok[1])[self.code[both]]
        none = 0 if j == 0 else 1  # passing nothing on at the second belongs to the first cell of a row
        step = max(1, PAIRS // (len(seconds) + 1))
        for start in range(1, len(firsts) + 1, step):
            part = slice(start, min(start + step, len(firsts) + 1))
            right = _crossed(part, (from_1, from_2), gain, len(seconds))
            right += right_1[part, None] + int(corner[0])
            right += right_2
            right = right[:, none:]
            enough = np.flatnonzero(right >= self.better.least_right(_known(known)))
            if not len(enough):  # most cells hold nothing better: their costs need not be known
                continue
            a, b = np.unravel_index(enough, right.shape)
            cost = corner[1] + paid_1[part][a] + paid_2[b + none]
            cost += _crossed(part, (from_1, from_2), _of(cost_3, both), len(seconds))[a, b + none]
            best = self.better.best(right[a, b].astype(np.float64), cost)
            if best is not None:
                after = float(firsts[start + a[best] - 1]), _before(seconds, int(b[best]) + none)
                yield _Found(after, float(right[a[best], b[best]]), float(cost[best]))


@dataclass(frozen=True, slots=True, eq=False)
class _Strips:
    """Rows grouped by their bin."""

    order: Rows
    starts: Rows

    @classmethod
    def of(cls, bins: NDArray[np.int16], n_bins: int) -> _Strips:
        order = np.argsort(bins.astype(np.uint16), kind="stable")  # a radix sort
        return cls(order, np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=n_bins))]))

    def rows(self, b: int) -> Rows:
        return self.order[self.starts[b] : self.starts[b + 1]]


def _most(counts: NDArray[np.int64], right: Floats) -> Floats:
    """Return the most right answers that thresholds inside each cell of three tiers can give.

    `right` has those with both thresholds at edges.
    """
    ok = _weights().astype(bool)
    # rows of bin j that are passed on at the first threshold for sure: the second may pass just those that gain
    column = below(_weighed(counts, ok[2] & ~ok[1]), axes=(0,))
    # rows of bin i: passed on just if that gains, wherever they end
    at_2, at_3 = (_weighed(counts, ok[j] & ~ok[0]) for j in (1, 2))
    corner = _weighed(counts, (ok[1] | ok[2]) & ~ok[0])
    rest = at_2.sum(axis=1, keepdims=True) - np.cumsum(at_2, axis=1)
    return np.asarray(right + column + below(at_3, axes=(1,)) + rest + corner)


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
    """Find the best thresholds among the edges; None where none of them reaches the goal.

    The bound is that of `best_pair`: of every cell between edges, by what its rows can gain at best.
    """
    n = sums.n_rows
    right, cost = sums.correct().astype(np.float64), sums.cost_grid()
    better = _Better.by(goal, n)
    at = better.best(right.ravel(), cost.ravel())
    if at is None:
        return None
    index = np.unravel_index(at, right.shape)
    found = float(right[index]) / n, 1000 * float(cost[index]) / n
    bound = None
    if sums.n_tiers <= 3:
        most = right + sums.right[0b10] if sums.n_tiers == 2 else _most(sums.right, right)
        inside = better.can(most.ravel(), cost.ravel())
        reach, least = most.ravel()[inside] / n, 1000 * cost.ravel()[inside] / n
        if better.by_cost:
            bound = min(found[1], float(least.min(initial=np.inf)))
        else:
            bound = max(found[0], float(reach.max(initial=0.0)))
    return EdgeOptimum(tuple(float(sums.lattice.edges[i]) for i in index), *found, bound, n)


def _weights() -> NDArray[np.int64]:
    """Return whether each tier is right under each code, shape ``(3, 8)``."""
    return np.arange(8) >> np.arange(3)[:, None] & 1


def _weighed(counts: NDArray[np.int64], weight: NDArray[np.int64] | Bools) -> NDArray[np.int64]:
    """Return weighted sums over the codes, which are the first axis."""
    return np.asarray(sum(int(w) * table for w, table in zip(weight, counts, strict=True) if w))


def _candidates(values: Floats, gains: Bools) -> Floats:
    """Return the values of rows that can gain, ascending."""
    return np.unique(values[gains])


def _of(value: Floats | float, rows: Rows) -> Floats:
    return np.full(len(rows), value) if isinstance(value, float) else value[rows]


def _prefix(at: Rows, weight: NDArray[_T], size: int) -> NDArray[_T]:
    """Return the sum of weights when nothing, or up to each candidate, is passed on: shape ``(size + 1,)``."""
    sums = np.zeros(size + 1, dtype=weight.dtype)
    np.cumsum(np.bincount(at, weight, minlength=size + 1)[:size].astype(weight.dtype), out=sums[1:])
    return sums


def _crossed(part: slice, since: tuple[Rows, Rows], weight: NDArray[_T], n_seconds: int) -> NDArray[_T]:
    """Return the sum of weights over rows that both thresholds pass on, for a part of the first candidates.

    `since` has the candidates from which on each row is passed on; shape ``(len(part), n_seconds + 1)``.
    """
    first, second = np.maximum(since[0], part.start) - part.start, since[1]
    shape = part.stop - part.start, n_seconds + 1
    inside = np.flatnonzero((first < shape[0]) & (second < shape[1]))
    cell = first[inside] * shape[1] + second[inside]
    table: NDArray[_T] = np.bincount(cell, weight[inside], minlength=prod(shape)).astype(weight.dtype)
    return sum_up(table.reshape(shape))


def _before(candidates: Floats, n: int) -> float | None:
    return float(candidates[n - 1]) if n else None


def _below(table: Floats) -> Floats:
    """Return the sums over all bins before each on all axes; shape as given."""
    for axis in range(table.ndim):
        table = np.roll(np.cumsum(table, axis=axis), 1, axis=axis)
        np.moveaxis(table, axis, 0)[0] = 0.0
    return table


def _known(found: _Found | None) -> tuple[float, float] | None:
    return None if found is None else (found.right, found.cost)


def _placed(policy: Policy, chain: Chain, found: _Found) -> Optimum:
    """Return the optimum with each threshold at the next confidence in the data, as `sweep` places them."""
    chosen = policy
    for line, after, values in zip(policy.thresholds(), found.after, chain.confidence, strict=False):
        value = 0.0 if after is None else float(np.where(values > after, values, above(after)).min())
        chosen = with_threshold(chosen, line.name, line.index, value)
    n = chain.n_rows
    return Optimum(chosen, found.right / n, 1000 * found.cost / n, n, found.opened)
