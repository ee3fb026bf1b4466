"""Groups: rows of one customer or conversation vary together, so they are worth fewer rows than they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from hybrid.metrics.intervals import LEVEL
from hybrid.routing.table import Bools, Floats, Labels, Rows

UNSEEN = 2.0  # rows, each with its whole group, that are imagined to differ: few mistakes say little about clustering
SURE = 0.8  # of the degrees of freedom that groups have
PAIRS = 8  # steps of a table that take as long as a pair of rows


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which rows belong together; where no two do, there is no `Groups` but None.

    Parameters
    ----------
    code
        Of each row, 0 or more, shape ``(n_rows,)``.
    size
        Rows of each code, shape ``(n_codes,)``; 0 where a code does not occur.

    Notes
    -----
    What a statistic of dependent rows varies by is estimated from the sums over groups of each row's pull on it (its
    linearised residual). That variance over the one of as many independent rows is the design effect, and rows over
    design effect is how many independent rows these are worth. Two further rows, each as clustered as a row's whole
    group, are added to both variances: few mistakes show little clustering, and where there is none of them, all is
    possible. Student's t takes the place of the normal.

    Where the sizes differ, the variance of the sums rests on the few large groups, and shows too little wherever these
    happen to be right. So it is taken to be at least what the correlation within groups makes of it, of small groups as
    of large ones (analysis of variance). Of equal sizes both say the same.

    References
    ----------
    Kish 1965, Survey Sampling; Rao & Scott 1992, A Simple Method for the Analysis of Clustered Binary Data; Korn &
    Graubard 1998, Confidence Intervals for Proportions with Small Expected Number of Positive Counts; Bell & McCaffrey
    2002, Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples; Donner 1986, A Review of
    Inference Procedures for the Intraclass Correlation Coefficient (from mean squares).
    """

    code: Labels
    size: Floats

    @classmethod
    def of(cls, groups: Labels | Groups | None) -> Groups | None:
        """Read codes, one a row; None where every row is a group of its own.

        Examples
        --------
        >>> Groups.of(np.array([3, 1, 2])) is None
        True
        >>> Groups.of(np.array([3, 1, 3])).n_groups
        2
        """
        if groups is None or isinstance(groups, Groups):
            return groups
        code = np.asarray(groups)
        if not len(code):
            return None
        if code.min() < 0 or code.max() > max(64 * len(code), 1 << 20):  # counted below: they must be small numbers
            code = np.unique(code, return_inverse=True)[1]
        size = np.bincount(code)
        return cls(code, size.astype(np.float64)) if int(size.max()) > 1 else None

    @classmethod
    def of_sizes(cls, size: Floats) -> Groups | None:
        """Return groups of so many rows each, of which no row is at hand: `worth_of_share` alone can be asked."""
        large = size.max(initial=0.0) > 1
        return cls(np.broadcast_to(np.int64(0), (int(size.sum()),)), size) if large else None

    @property
    def n_rows(self) -> int:
        return len(self.code)

    @property
    def n_groups(self) -> int:
        return int(np.count_nonzero(self.size))

    @property
    def typical(self) -> float:
        """Rows of the group that a row is in, on average."""
        return float(self.size @ self.size) / self.n_rows

    @property
    def freedom(self) -> float:
        """Degrees of freedom of Student's t: groups of the typical size that the rows would fill, less one.

        Of these `SURE`, as sums of 0 and 1 are no normal variables.
        """
        return max(SURE * (self.n_rows / self.typical - 1), 1.0)

    @property
    def _kept(self) -> float:
        """Share of the variance that the sums of groups show whose rows are alike: a large one draws the mean to it."""
        squares = self.size * self.size
        cubes = float(squares @ self.size)
        return 1 - 2 * cubes / (self.n_rows * float(squares.sum())) + float(squares.sum()) / self.n_rows**2

    def take(self, rows: Bools | Rows) -> Groups | None:
        """Return the groups of some of the rows."""
        return Groups.of(self.code[rows])

    def sums(self, values: Floats | Bools | NDArray[np.int8]) -> Floats:
        """Return the sum over each group's rows, shape of `size`."""
        found: Floats = np.bincount(self.code, values, minlength=len(self.size)).astype(np.float64, copy=False)
        return found

    def worth(self, pull: Floats) -> float:
        """Return how many independent rows these are worth to a statistic.

        Parameters
        ----------
        pull
            What each row adds to the statistic, less the mean of all; shape ``(n_rows,)``.
        """
        squares = pull * pull
        alone = float(squares.sum())
        if alone <= 0:
            return float(self._worth(np.array(self.typical)))
        unit = float(squares @ squares) / alone  # of the rows that count
        own = self.sums(pull)
        together = self._together(np.array(own @ own), np.array(self.over_size(own * own)), np.array(alone))
        return float(self._worth((together + UNSEEN * unit * self.typical) / (alone + UNSEEN * unit)))

    def over_size(self, values: Floats) -> float:
        """Return the sum over groups of a value divided by the group's rows."""
        return float(values @ np.divide(1.0, self.size, out=np.zeros(len(self.size)), where=self.size > 0))

    def worth_of_flags(self, flags: Bools) -> float:
        """Return how many independent rows these are worth to the share of True."""
        own = self.sums(flags)
        squares = own * own
        sums = float(squares.sum()), float(own @ self.size), self.over_size(squares)
        return float(self.worth_of_share(int(flags.sum()), *sums))

    def effect_on(self, flags: Bools) -> float:
        """Return how many rows are worth one independent row to the share of True: the design effect."""
        return self.n_rows / self.worth_of_flags(flags)

    def worth_of_share(
        self, hits: Floats | int, squares: Floats | float, cross: Floats | float, shares: Floats | float
    ) -> Floats:
        """Return how many independent rows these are worth to a share.

        Parameters
        ----------
        hits
            Rows that count, at each point; any shape, as are the others.
        squares, cross, shares
            Sums over groups: of the square of a group's hits, of its hits times its rows, and of the square of its hits
            over its rows.
        """
        n = self.n_rows
        p = np.asarray(hits, dtype=np.float64) / n
        alone = np.asarray(n * p * (1 - p))
        together = np.maximum(squares - 2 * p * cross + p * p * (self.typical * n), 0.0)
        together = self._together(together, np.maximum(shares - n * p * p, 0.0), alone)
        return self._worth((together + UNSEEN * self.typical) / (alone + UNSEEN))

    def _together(self, squares: Floats, between: Floats, alone: Floats) -> Floats:
        """Return the variance of the total of the pulls on a statistic, times the rows.

        Parameters
        ----------
        squares, between
            Sums over groups: of the square of a group's sum, and of this over its rows.
        alone
            Sum of the squares of all rows' pulls.
        """
        n, m = self.n_rows, self.n_groups
        if m == 1:
            return squares + n * self.typical
        of_groups, within = between / (m - 1), np.maximum(alone - between, 0.0) / (n - m)
        rest = ((n - self.typical) / (m - 1) - 1) * within  # of what groups of equal size would vary by
        total = of_groups + rest
        alike = np.divide(of_groups - within, total, out=np.ones_like(total), where=total > 0)
        at_least = alone * (1 + np.clip(alike, 0.0, 1.0) * (self.typical - 1))
        found: Floats = np.maximum(squares / self._kept, at_least)
        return found

    def _worth(self, effect: Floats) -> Floats:
        student = float(stdtrit(self.freedom, (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2))
        found: Floats = self.n_rows / (np.maximum(effect, 1.0) * student**2)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A 0 or 1 of each row over two thresholds, as what it is at first and what passing the row on adds.

    Parameters
    ----------
    parts
        At first, passed on along the first axis, along the second, and along both: the more that this adds. Each of
        shape ``(n_rows,)``, or one number for all rows.
    at
        From which step of the first axis on a row is passed on, and of the second; shape ``(n_rows,)`` each.
    shape
        Steps of the second axis, and of the first.
    """

    parts: tuple[NDArray[np.int8] | Floats | float, ...]
    at: tuple[NDArray[np.int32], NDArray[np.int32]]
    shape: tuple[int, int]

    def events(self, rows: Rows) -> list[tuple[Floats, Rows, Rows]]:
        """Return what is added for some rows, and from which step of either axis on."""
        never = np.zeros(len(rows), dtype=np.intp)
        i, j = (x[rows].astype(np.intp) for x in self.at)
        return [
            (np.full(len(rows), part) if isinstance(part, float) else part[rows].astype(np.float64), a, b)
            for part, a, b in zip(self.parts, (never, i, never, i), (never, never, j, j), strict=True)
            if not (isinstance(part, float) and part == 0)
        ]

    def table(self, added: Floats, first: Rows, second: Rows) -> Floats:
        """Return sums of what was added up to each pair of steps, of `shape`."""
        return up_to(self.cells(added, first, second))

    def cells(self, added: Floats, first: Rows, second: Rows) -> Floats:
        """Return sums of what was added at each pair of steps, and behind the last ones."""
        rows, columns = (n + 1 for n in self.shape)
        found = np.bincount(second * columns + first, added, minlength=rows * columns).astype(np.float64, copy=False)
        return found.reshape(rows, columns)


def up_to(cells: Floats) -> Floats:
    """Return the sums of all cells up to each pair of steps, without those behind the last ones."""
    found: Floats = cells[..., :-1, :-1].cumsum(axis=-2).cumsum(axis=-1)
    return found


def worth_over_two(steps: Steps, hits: Floats, groups: Groups) -> Floats:
    """Return what the rows are worth to a share at all pairs of steps of two thresholds, of the shape of `hits`.

    The square of a group's hits is the sum over all pairs of its rows of the product of the two. Groups of many rows
    are summed up over the steps one by one instead.
    """
    rows = np.argsort(groups.code, kind="stable")
    size = groups.size[groups.code[rows]]
    squares, cross, shares = sums = np.zeros((3, *(n + 1 for n in steps.shape)))
    for added, i, j in steps.events(rows):
        cross += steps.cells(added * size, i, j)
    few = size * size <= hits.size / PAIRS
    paired, apart = rows[few], 0
    while len(paired) > apart:
        one, two = paired[: len(paired) - apart], paired[apart:]
        same = groups.code[one] == groups.code[two]
        if not same.any():
            break
        one, two = one[same], two[same]
        times, over = 2.0 if apart else 1.0, 1 / groups.size[groups.code[one]]
        for a, i, j in steps.events(one):
            for b, k, m in steps.events(two):
                both, at = times * a * b, (np.maximum(i, k), np.maximum(j, m))
                squares += steps.cells(both, *at)
                shares += steps.cells(both * over, *at)
        apart += 1
    squares, cross, shares = up_to(sums)
    crowd = rows[~few]
    for own in np.split(crowd, np.flatnonzero(np.diff(groups.code[crowd])) + 1) if len(crowd) else ():
        total = sum(steps.table(added, i, j) for added, i, j in steps.events(own)) ** 2
        squares += total
        shares += total / len(own)
    return groups.worth_of_share(hits, squares, cross, shares)
