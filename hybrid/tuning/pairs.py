"""Pairs: the best of all pairs of two thresholds, without trying them all.

The distinct values of each threshold are cut into blocks. Two-dimensional histograms and their running sums tell the
exact sums at the first pair of every cell of blocks, and a bound that no pair in the cell can beat. Cells whose bound
cannot beat the best pair so far are dropped; the others are opened, and all of their pairs that matter are summed.

Which pairs matter: passing on a row can help only where it makes one of the terms less. If none of the rows with the
greatest value below a threshold can help, keeping them leaves no term greater, so the next lower threshold is as good.
Hence some best pair has each threshold right above a row that can help, or passes nothing on.

The bound: for thresholds inside a cell, a row outside of the cell's two blocks ends where it ends at the first pair.
Of the others each ends, for each term by itself, where that is least: a row whose first gauge lies in the block at any
place that its second gauge leaves open, a row that is passed on at the first and whose second gauge lies in the block
at the second place or the third.
"""

from __future__ import annotations

import numpy as np

from hybrid.routing.table import Floats, Rows
from hybrid.tuning.goals import TOLERANCE, best, violation
from hybrid.tuning.states import States, levels

MIN_BLOCKS, MAX_BLOCKS, ROWS_A_BLOCK = 8, 160, 64
LATTICE = 40  # blocks where nothing is refined
MAX_OPEN = 6_000  # cells


class PairSearch:
    """Minimise sums over rows over the two thresholds of some states.

    Parameters
    ----------
    states
        With two thresholds.
    chosen_by
        Which measures are the aim, the tie-break and the limits; see `hybrid.tuning.goals.Goal.rows`.
    caps
        Of the limits; see `hybrid.tuning.goals.best`.
    """

    def __init__(self, states: States, chosen_by: list[int], caps: Floats) -> None:
        self.terms, self.chosen_by, self.caps = states.terms, chosen_by, caps
        self.values = [levels(g) for g in states.gauges]
        self.place = [np.searchsorted(v, g) for v, g in zip(self.values, states.gauges, strict=True)]
        self.n_pairs = len(self.values[0]) * len(self.values[1])

    def on_lattice(self) -> tuple[tuple[Floats, Floats], Floats, bool]:
        """Return thresholds at the first of each block, the sums at all pairs of them, and whether these are all."""
        starts = self._cut(LATTICE)
        totals = self._first_of_cells(starts)
        exact = all(len(s) == len(v) for s, v in zip(starts, self.values, strict=True))
        first, second = (v[s] for v, s in zip(self.values, starts, strict=True))
        return (first, second), totals, exact

    def refined(self, *, beat: Floats | None = None) -> tuple[tuple[float, float], Floats, bool]:
        """Return the best thresholds, the sums there, and whether they are proven best.

        Parameters
        ----------
        beat
            Sums, as chosen by, that are reached elsewhere: what cannot beat them is not looked into, and the proof is
            that no pair beats them or what is returned.
        """
        n = len(self.place[0])
        starts = self._cut(int(np.clip(n // ROWS_A_BLOCK, MIN_BLOCKS, MAX_BLOCKS)))
        totals = self._first_of_cells(starts)
        i, j = (int(x) for x in np.unravel_index(best(totals[self.chosen_by], self.caps), totals.shape[1:]))
        chosen, sums = (int(starts[0][i]), int(starts[1][j])), totals[:, i, j]
        rival = sums[self.chosen_by]
        if beat is not None and self._beats(beat, rival):
            rival = beat
        bounds = self._bounds(starts, totals)[self.chosen_by]
        over = violation(bounds, self.caps)
        order = np.lexsort((bounds[0].ravel(), over.ravel()))
        members: list[list[Rows]] | None = None
        opened = 0
        for cell in order:
            i, j = (int(x) for x in np.unravel_index(cell, over.shape))
            if not self._may_beat(bounds[:, i, j], rival):
                if over[i, j] > violation(rival[:, None], self.caps)[0] or bounds[0, i, j] > rival[0]:
                    break  # cells come by rising bound
                continue
            if opened == MAX_OPEN:
                return self._pair(*chosen), sums, False
            opened += 1
            if members is None:
                self.helps = [
                    (np.minimum(self.terms[1], self.terms[2]) < self.terms[0]).any(axis=0),
                    (self.terms[2] < self.terms[1]).any(axis=0),
                ]
                members = [_members(*each) for each in zip(self.place, starts, self.values, strict=True)]
            k, inside = self._open(starts, (members[0][i], members[1][j]), (i, j), totals[:, i, j])
            if self._beats(inside[self.chosen_by], sums[self.chosen_by]):
                chosen, sums = k, inside
                if self._beats(inside[self.chosen_by], rival):
                    rival = inside[self.chosen_by]
        return self._pair(*chosen), sums, True

    def _beats(self, new: Floats, old: Floats) -> bool:
        return best(np.stack([old, new], axis=1), self.caps) == 1

    def _pair(self, i: int, j: int) -> tuple[float, float]:
        return float(self.values[0][i]), float(self.values[1][j])

    def _cut(self, blocks: int) -> list[Rows]:
        """Return where blocks start along each threshold, with about as many rows in each."""
        starts = []
        for v, p in zip(self.values, self.place, strict=True):
            if len(v) <= blocks:
                starts.append(np.arange(len(v)))
            else:
                below = np.cumsum(np.bincount(p, minlength=len(v)))
                wanted = np.searchsorted(below, np.linspace(0, below[-1], blocks, endpoint=False), side="right")
                starts.append(np.unique(np.append(np.minimum(wanted, len(v) - 1), [0, len(v) - 1])))
        return starts

    def _first_of_cells(self, starts: list[Rows]) -> Floats:
        """Return the sums at the first pair of every cell, shape ``(n_measures, n_first, n_second)``."""
        at = [np.searchsorted(s, p, side="right") for s, p in zip(starts, self.place, strict=True)]
        return _tables(at[0], at[1], self.terms, (len(starts[0]), len(starts[1])))

    def _bounds(self, starts: list[Rows], totals: Floats) -> Floats:
        """Return for every cell what none of its pairs can beat in any measure, shape as `totals`."""
        block, open_ = [], []
        for p, s, v in zip(self.place, starts, self.values, strict=True):
            block.append(np.searchsorted(s, p, side="right") - 1)
            open_.append(p < np.append(s[1:], len(v))[block[-1]] - 1)  # thresholds of its block part it from the rest
        kept_to = np.where(open_[1], block[1], block[1] + 1)  # kept at the second in cells before this
        size = (len(starts[0]), len(starts[1]))
        bounds = totals.copy()
        for t in range(len(totals)):
            one, two = self.terms[1, t] - self.terms[0, t], self.terms[2, t] - self.terms[0, t]
            last = self.terms[2, t] - self.terms[1, t]
            column = np.where(open_[1], last, 0.0)
            to_2, to_1, both = (np.where(open_[0], x, 0.0) for x in (two, one, np.minimum(one, two)))
            both = np.where(open_[1], both, 0.0)
            # passed on at the first for sure: from the cell after its block on
            bounds[t] += _summed(block[0] + 1, block[1], column, size).cumsum(axis=0)
            bounds[t] += _summed(block[0], block[1] + 1, to_2, size).cumsum(axis=1)
            until = _summed(block[0], kept_to, to_1, size, more=1)
            bounds[t] += until.sum(axis=1, keepdims=True) - until.cumsum(axis=1)[:, :-1]
            bounds[t] += _summed(block[0], block[1], both, size)
        return bounds

    def _may_beat(self, bound: Floats, sums: Floats) -> bool:
        over, now = (float(violation(x[:, None], self.caps)[0]) for x in (bound, sums))
        if over != now:
            return over < now
        slack = TOLERANCE * max(1e-6, abs(float(sums[0])))
        if bound[0] < sums[0] - slack:
            return True
        return bool(bound[0] <= sums[0] + slack and bound[1] < sums[1] - slack)

    def _open(
        self, starts: list[Rows], members: tuple[Rows, Rows], cell: tuple[int, int], first: Floats
    ) -> tuple[tuple[int, int], Floats]:
        """Return the best pair inside a cell and the sums there, given the sums at its first pair."""
        end = int(np.append(starts[0][1:], len(self.values[0]))[cell[0]])
        reach = members[1][self.place[0][members[1]] < end - 1]  # the others are kept at the first
        rows = np.union1d(members[0], reach)
        steps, at = [], []
        for s, v, p, helps, x in zip(starts, self.values, self.place, self.helps, cell, strict=True):
            start, end = int(s[x]), int(np.append(s[1:], len(v))[x])
            place = p[rows]
            above = place[helps[rows] & (place >= start) & (place < end - 1)] + 1
            steps.append(np.union1d([start], above))
            at.append(np.searchsorted(steps[-1], place, side="right"))
        size = (len(steps[0]), len(steps[1]))
        inside = _tables(at[0], at[1], self.terms[..., rows], size)
        inside += (first - inside[:, 0, 0])[:, None, None]  # what the other rows add is the same in the whole cell
        k = best(inside[self.chosen_by], self.caps)
        a, b = (int(x) for x in np.unravel_index(k, size))
        return (int(steps[0][a]), int(steps[1][b])), inside[:, a, b]


def _members(place: Rows, starts: Rows, values: Floats) -> list[Rows]:
    """Return for each block the rows for which thresholds of the block differ."""
    block = np.searchsorted(starts, place, side="right") - 1
    last = np.append(starts[1:], len(values)) - 1  # the last threshold of each block
    order = np.argsort(block, kind="stable")
    order = order[(place < last[block])[order]]
    return np.split(order, np.searchsorted(block[order], np.arange(1, len(starts))))


def _summed(i: Rows, j: Rows, gain: Floats, size: tuple[int, int], *, more: int = 0) -> Floats:
    """Return the sums of what is below 0, by cell; what lies beyond the table and `more` columns is left out."""
    rows = np.flatnonzero(gain < 0)
    shape = (size[0] + 1, size[1] + 1 + more)
    found = np.bincount(i[rows] * shape[1] + j[rows], gain[rows], minlength=shape[0] * shape[1])
    return np.asarray(found.reshape(shape)[: size[0], : size[1] + more], dtype=np.float64)


def _tables(i: Rows, j: Rows, terms: Floats, size: tuple[int, int]) -> Floats:
    """Return sums at every pair of steps; row r is passed on by the first threshold from step ``i[r]`` on."""
    shape = (size[0] + 1, size[1] + 1)
    cell = i * shape[1] + j
    found = np.zeros((terms.shape[1], *size))
    for t in range(len(found)):
        first, second, third = terms[:, t]
        total = np.cumsum(np.bincount(i, second - first, minlength=shape[0]))[:, None] + first.sum()
        crossed = np.bincount(cell, third - second, minlength=shape[0] * shape[1])
        found[t] = (total + crossed.reshape(shape).cumsum(axis=0).cumsum(axis=1))[:-1, :-1]
    return found
