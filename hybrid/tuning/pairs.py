"""Pairs: the best of all pairs of two thresholds, without trying them all.

The distinct values of each threshold are cut into blocks. Two-dimensional histograms and their running sums tell the
exact sums at the first pair of every cell of blocks, and a bound that no pair in the cell can beat. Cells whose bound
cannot beat the best pair so far are dropped; the others are opened, and all of their pairs that matter are summed.

Which pairs matter: passing on a row can help only where it makes one of the terms less. If none of the rows with the
greatest value below a threshold can help, keeping them leaves no term greater, so the next lower threshold is as good.
Hence some best pair has each threshold right above a row that can help, or passes nothing on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybrid.metrics.order import above
from hybrid.routing.table import Floats, Rows
from hybrid.tuning.goals import TOLERANCE, best, violation

BLOCKS = 128  # along each threshold
LATTICE = 48  # blocks where nothing is refined
MAX_OPEN = 6_000  # cells


class PairSearch:
    """Minimise sums over rows over two thresholds.

    Parameters
    ----------
    first, second
        What the thresholds are compared with, shape ``(n_rows,)``.
    corners
        ``corners[a, b]``: terms ``(n_terms, n_rows)`` of rows that the first (second) threshold passes on
        where ``a`` (``b``) is 1, and keeps where it is 0.
    caps
        Of the limits; see `hybrid.tuning.goals.best`.
    """

    def __init__(self, first: Floats, second: Floats, corners: Floats, caps: Floats) -> None:
        self.corners, self.caps = corners, caps
        self.values = [np.union1d(g, [above(float(g.max()))]) for g in (first, second)]
        self.place = [np.searchsorted(v, g) for v, g in zip(self.values, (first, second), strict=True)]
        # whether passing a row on at either threshold can make a term less, whatever the other decides
        self.helps = [(c[1] < c[0]).any(axis=(0, 1)) for c in (corners, corners.swapaxes(0, 1))]
        self.n_pairs = len(self.values[0]) * len(self.values[1])
        self.n_lattice = min(BLOCKS, len(self.values[0])) * min(BLOCKS, len(self.values[1]))

    def on_lattice(self) -> tuple[tuple[float, float], Floats, bool]:
        """Return the best thresholds at the first of each block, the sums there, and whether that is exact."""
        starts = self._cut(LATTICE)
        totals = self._first_of_cells(starts)
        at = best(totals, self.caps)
        i, j = (int(x) for x in np.unravel_index(at, totals.shape[1:]))
        exact = all(len(s) == len(v) for s, v in zip(starts, self.values, strict=True))
        return self._pair(int(starts[0][i]), int(starts[1][j])), totals[:, i, j], exact

    def refined(self) -> tuple[tuple[float, float], Floats, bool]:
        """Return the best thresholds, the sums there, and whether they are proven best."""
        starts = self._cut(BLOCKS)
        totals = self._first_of_cells(starts)
        at = best(totals, self.caps)
        i, j = (int(x) for x in np.unravel_index(at, totals.shape[1:]))
        chosen, sums = (int(starts[0][i]), int(starts[1][j])), totals[:, i, j]
        bounds = self._bounds(starts)
        over = violation(bounds, self.caps)
        order = np.lexsort((bounds[0].ravel(), over.ravel()))
        members = [_members(*each) for each in zip(self.place, starts, self.values, strict=True)]
        opened = 0
        for cell in order:
            i, j = (int(x) for x in np.unravel_index(cell, over.shape))
            if not self._may_beat(bounds[:, i, j], sums):
                if over[i, j] > violation(sums[:, None], self.caps)[0] or bounds[0, i, j] > sums[0]:
                    break  # cells come by rising bound
                continue
            if opened == MAX_OPEN:
                return self._pair(*chosen), sums, False
            opened += 1
            k, inside = self._open(starts, (members[0][i], members[1][j]), (i, j), totals[:, i, j])
            both = np.stack([sums, inside], axis=1)
            if best(both, self.caps) == 1:
                chosen, sums = k, inside
        return self._pair(*chosen), sums, True

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
        """Return the sums at the first pair of every cell, shape ``(n_terms, n_first, n_second)``."""
        at = [np.searchsorted(s, p, side="right") for s, p in zip(starts, self.place, strict=True)]
        return _tables(at[0], at[1], self.corners, (len(starts[0]), len(starts[1])))

    def _bounds(self, starts: list[Rows]) -> Floats:
        """Return for every cell what none of its pairs can beat in any term, shape as `_first_of_cells`."""
        sides = []
        for place, s, v in zip(self.place, starts, self.values, strict=True):
            block = np.searchsorted(s, place, side="right") - 1
            last = np.append(s[1:], len(v))[block] - 1 == place
            sides.append(2 * block + last)  # below block b: under 2b; sure to be kept: over 2b; else it depends
        shape = (2 * len(starts[0]), 2 * len(starts[1]))
        cell = sides[0] * shape[1] + sides[1]
        c = self.corners
        low_i, low_j = np.minimum(c[0], c[1]), np.minimum(c[:, 0], c[:, 1])
        bounds = np.zeros((c.shape[2], len(starts[0]), len(starts[1])))
        for t in range(c.shape[2]):

            def table(terms: Floats) -> Floats:
                found = np.bincount(cell, terms, minlength=shape[0] * shape[1]).reshape(shape)
                return np.pad(found.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

            i, j = (
                2 * np.arange(n)[x] for n, x in ((len(starts[0]), np.s_[:, None]), (len(starts[1]), np.s_[None, :]))
            )
            n_i, n_j = shape
            parts = (
                (c[1, 1, t], (0, i), (0, j)),
                (c[1, 0, t], (0, i), (j + 1, n_j)),
                (c[0, 1, t], (i + 1, n_i), (0, j)),
                (c[0, 0, t], (i + 1, n_i), (j + 1, n_j)),
                (low_i[1, t], (i, i + 1), (0, j)),
                (low_i[0, t], (i, i + 1), (j + 1, n_j)),
                (low_j[1, t], (0, i), (j, j + 1)),
                (low_j[0, t], (i + 1, n_i), (j, j + 1)),
                (np.minimum(low_i[0, t], low_i[1, t]), (i, i + 1), (j, j + 1)),
            )
            for terms, (a, b), (e, f) in parts:
                sums = table(terms)
                bounds[t] += sums[b, f] - sums[a, f] - sums[b, e] + sums[a, e]
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
        rows = np.union1d(*members)
        steps, at = [], []
        for s, v, p, helps, x in zip(starts, self.values, self.place, self.helps, cell, strict=True):
            start, end = int(s[x]), int(np.append(s[1:], len(v))[x])
            place = p[rows]
            above = place[helps[rows] & (place >= start) & (place < end - 1)] + 1
            steps.append(np.union1d([start], above))
            at.append(np.searchsorted(steps[-1], place, side="right"))
        size = (len(steps[0]), len(steps[1]))
        inside = _tables(at[0], at[1], self.corners[..., rows], size)
        inside += (first - inside[:, 0, 0])[:, None, None]  # what the other rows add is the same in the whole cell
        k = best(inside, self.caps)
        a, b = (int(x) for x in np.unravel_index(k, size))
        return (int(steps[0][a]), int(steps[1][b])), inside[:, a, b]


def _members(place: Rows, starts: Rows, values: Floats) -> list[Rows]:
    """Return for each block the rows for which thresholds of the block differ."""
    block = np.searchsorted(starts, place, side="right") - 1
    last = np.append(starts[1:], len(values)) - 1  # the last threshold of each block
    order = np.argsort(block, kind="stable")
    order = order[(place < last[block])[order]]
    return np.split(order, np.searchsorted(block[order], np.arange(1, len(starts))))


def _tables(i: Rows, j: Rows, corners: Floats, size: tuple[int, int]) -> Floats:
    """Return sums at every pair of steps; row r is passed on by the first threshold from step ``i[r]`` on."""
    shape = (size[0] + 1, size[1] + 1)
    cell: NDArray[np.intp] = i * shape[1] + j
    found = np.zeros((corners.shape[2], *size))
    for t in range(corners.shape[2]):
        neither, only_second = corners[0, :, t]
        only_first, both = corners[1, :, t]
        total = np.full(shape, neither.sum())
        total += np.cumsum(np.bincount(i, only_first - neither, minlength=shape[0]))[:, None]
        total += np.cumsum(np.bincount(j, only_second - neither, minlength=shape[1]))[None, :]
        crossed = np.bincount(cell, both - only_first - only_second + neither, minlength=shape[0] * shape[1])
        total += crossed.reshape(shape).cumsum(axis=0).cumsum(axis=1)
        found[t] = total[:-1, :-1]
    return found
