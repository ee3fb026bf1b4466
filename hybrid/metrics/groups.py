"""Groups: rows of one customer or conversation vary together, so they are worth fewer rows than they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from hybrid.metrics.intervals import LEVEL
from hybrid.routing.table import Bools, Floats, Labels, Rows

UNSEEN = 2.0  # rows, each with its whole group, that are imagined to differ: few mistakes say little about clustering
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
    possible. Student's t takes the place of the normal. Its degrees of freedom, and what the variance is short of
    because the mean is estimated too, are those of rows that are all alike within a group: where few groups are large,
    the variance rests on these few.

    References
    ----------
    Kish 1965, Survey Sampling; Rao & Scott 1992, A Simple Method for the Analysis of Clustered Binary Data; Korn &
    Graubard 1998, Confidence Intervals for Proportions with Small Expected Number of Positive Counts; Satterthwaite
    1946; Bell & McCaffrey 2002, Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples.
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
        """Degrees of freedom of Student's t: (Σ size²)² / Σ size⁴, less one; of equal groups their number, less one.

        Not fewer than a quarter of `n_rows` / `typical`: one text that comes again and again is no group like others.
        """
        squares = self.size * self.size
        return max(float(squares.sum() ** 2 / (squares @ squares)) - 1, self.n_rows / self.typical / 4 - 1, 1.0)

    @property
    def _kept(self) -> float:
        """Share of the variance that the sums over groups show: the larger a group, the nearer to it is the mean."""
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
        together = self._unbiased(np.array(np.sum(self.sums(pull) ** 2)))
        return float(self._worth((together + UNSEEN * unit * self.typical) / (alone + UNSEEN * unit)))

    def worth_of_flags(self, flags: Bools) -> float:
        """Return how many independent rows these are worth to the share of True."""
        own = self.sums(flags)
        return float(self.worth_of_share(int(flags.sum()), float(own @ own), float(own @ self.size)))

    def effect_on(self, flags: Bools) -> float:
        """Return how many rows are worth one independent row to the share of True: the design effect."""
        return self.n_rows / self.worth_of_flags(flags)

    def worth_of_share(self, hits: Floats | int, squares: Floats | float, cross: Floats | float) -> Floats:
        """Return how many independent rows these are worth to a share.

        Parameters
        ----------
        hits
            Rows that count, at each point; any shape, as are the others.
        squares, cross
            Sums over groups: of the square of a group's hits, and of its hits times its rows.
        """
        n = self.n_rows
        p = np.asarray(hits, dtype=np.float64) / n
        together = np.maximum(squares - 2 * p * cross + p * p * (self.typical * n), 0.0)
        effect = (self._unbiased(together) + UNSEEN * self.typical) / (n * p * (1 - p) + UNSEEN)
        return self._worth(np.asarray(effect))

    def _unbiased(self, together: Floats) -> Floats:
        found: Floats = together / self._kept if self.n_groups > 1 else together + self.n_rows * self.typical
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
        rows, columns = (n + 1 for n in self.shape)
        found = np.bincount(second * columns + first, added, minlength=rows * columns).reshape(rows, columns)
        return found[:-1, :-1].cumsum(axis=0).cumsum(axis=1)


def worth_over_two(steps: Steps, hits: Floats, groups: Groups) -> Floats:
    """Return what the rows are worth to a share at all pairs of steps of two thresholds, of the shape of `hits`.

    The square of a group's hits is the sum over all pairs of its rows of the product of the two. Groups of many rows
    are summed up over the steps one by one instead.
    """
    rows = np.argsort(groups.code, kind="stable")
    size = groups.size[groups.code[rows]]
    cross = np.zeros(steps.shape)
    for added, i, j in steps.events(rows):
        cross += steps.table(added * size, i, j)
    few = size * size <= hits.size / PAIRS
    squares, apart = np.zeros(steps.shape), 0
    paired = rows[few]
    while len(paired) > apart:
        one, two = paired[: len(paired) - apart], paired[apart:]
        same = groups.code[one] == groups.code[two]
        if not same.any():
            break
        one, two = one[same], two[same]
        for a, i, j in steps.events(one):
            for b, k, m in steps.events(two):
                squares += (2.0 if apart else 1.0) * steps.table(a * b, np.maximum(i, k), np.maximum(j, m))
        apart += 1
    crowd = rows[~few]
    for own in np.split(crowd, np.flatnonzero(np.diff(groups.code[crowd])) + 1) if len(crowd) else ():
        total = np.zeros(steps.shape)
        for added, i, j in steps.events(own):
            total += steps.table(added, i, j)
        squares += total * total
    return groups.worth_of_share(hits, squares, cross)
