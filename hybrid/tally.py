"""Tally: what curves need of any number of rows, as sums: batches are tallied apart and added up, in any order.

All sums are whole numbers (rows, nano-dollars, microseconds), so that the same rows give the same bits however they
were cut into batches and on whichever machine each batch was tallied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.lattice import CHUNK, Lattice
from hybrid.predictions import Bools, Floats, Labels, Rows

NANO, MICRO = 1e9, 1e6  # per USD, per second

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over rows that went through a chain of tiers, by the bins of their confidences.

    Parameters
    ----------
    lattice
        Whose bins, the same for each tier that can pass a row on; thresholds are its edges.
    right
        Rows by bin of each such tier and by which tiers are right (tier j is bit j): shape
        ``(n_bins,) * (n_tiers - 1) + (2 ** n_tiers,)``.
    cost, latency
        For each tier the sum of nano-dollars, and of microseconds, by the bins of the tiers before it: shapes
        ``()``, ``(n_bins,)``, ``(n_bins, n_bins)``, …
    classes
        For macro-F1, with two tiers only; None otherwise.
    """

    lattice: Lattice
    right: Ints
    cost: tuple[Ints, ...]
    latency: tuple[Ints, ...]
    classes: ClassTally | None = None

    def __add__(self, other: Tally) -> Tally:
        if self.lattice != other.lattice or self.right.shape != other.right.shape:
            raise TierError("Only tallies of the same tiers on the same lattice can be added up.")
        classes = self.classes + other.classes if self.classes and other.classes else None
        return replace(
            self,
            right=self.right + other.right,
            cost=tuple(map(add, self.cost, other.cost)),
            latency=tuple(map(add, self.latency, other.latency)),
            classes=classes,
        )

    @property
    def n_rows(self) -> int:
        return int(self.right.sum())

    @property
    def n_tiers(self) -> int:
        return self.right.ndim

    def correct(self) -> Ints:
        """Return how many answers are right with the thresholds at edges, shape ``(n_bins,) * (n_tiers - 1)``."""
        gains = [self._is_right(0), *(self._is_right(j) - self._is_right(j - 1) for j in range(1, self.n_tiers))]
        return self._grid([self._over(j, gain) for j, gain in enumerate(gains)])

    def reached(self, tier: int) -> Ints:
        """Return how many rows a tier is asked about with the thresholds at edges."""
        return self._grid([self._over(tier, np.ones(self.right.shape[-1], dtype=np.int64))])

    def cost_grid(self) -> Floats:
        """Return USD with the thresholds at edges."""
        return self._grid(self.cost) / NANO

    def latency_grid(self) -> Floats:
        """Return seconds with the thresholds at edges."""
        return self._grid(self.latency) / MICRO

    def slack(self) -> Floats:
        """Return how far the accuracy at a threshold inside each bin can be from that at the bin's lower edge.

        A threshold between two edges passes on some of the rows of one bin more than the lower edge does. Each of
        them changes the number of right answers by at most 1, and by nothing where both tiers are right or wrong
        alike; so the accuracy rises by at most the bin's share of rows that only the second tier gets right, and falls
        by at most its share of rows that only the first does. Shape ``(n_bins,)``; two tiers only.
        """
        gained, lost = self.right[:, 0b10], self.right[:, 0b01]
        share: Floats = np.maximum(gained, lost) / self.n_rows
        return share

    def _is_right(self, tier: int) -> Ints:
        return np.arange(self.right.shape[-1], dtype=np.int64) >> tier & 1

    def _over(self, n_axes: int, weight: Ints) -> Ints:
        """Return weighted rows by the bins of the first tiers."""
        others = tuple(range(n_axes, self.right.ndim - 1))
        summed = self.right.sum(axis=others) if others else self.right
        if (weight == 1).all():
            return np.asarray(summed.sum(axis=-1))
        total = np.zeros(summed.shape[:-1], dtype=np.int64)
        for code in np.flatnonzero(weight):
            total += weight[code] * summed[..., code]
        return total

    def _grid(self, tables: Sequence[Ints]) -> Ints:
        """Return the sum over tables of what lies below each edge on all of a table's axes."""
        shape = (self.lattice.n_bins,) * (self.n_tiers - 1)
        total = np.zeros(shape, dtype=np.int64)
        for table in tables:
            total += below(table).reshape(table.shape + (1,) * (len(shape) - table.ndim))
        return total


@dataclass(frozen=True, slots=True, eq=False)
class ClassTally:
    """Rows by class, of two tiers: what macro-F1 needs.

    Parameters
    ----------
    true
        Rows of each class, shape ``(n_classes,)``.
    said, both
        Answers of each tier, and right ones, by class and bin of the first tier's confidence, shape
        ``(2, n_classes, n_bins)``.
    """

    true: Ints
    said: Ints
    both: Ints

    def __add__(self, other: ClassTally) -> ClassTally:
        return ClassTally(self.true + other.true, self.said + other.said, self.both + other.both)

    def macro_f1(self) -> Floats:
        """Return the macro-F1 with the threshold at each edge, shape ``(n_bins,)``."""
        said, both = (x[0].sum(axis=1)[:, None] + below(x[1] - x[0], axes=(1,)) for x in (self.said, self.both))
        occurrences = self.true[:, None] + said
        present = occurrences > 0
        f1: Floats = (2 * both / np.maximum(occurrences, 1)).sum(axis=0) / present.sum(axis=0)
        return f1


def tally(
    label: Sequence[Labels],
    right: Sequence[Bools],
    truth: Labels,
    confidence: Sequence[Floats],
    cost: Sequence[Floats | float],
    latency: Sequence[Floats | float],
    *,
    lattice: Lattice,
    n_classes: int | None = None,
) -> Tally:
    """Sum up a batch of rows.

    Parameters
    ----------
    label
        Of each tier of the chain, from first to last.
    right
        Whether each is right.
    confidence
        Of each tier but the last; in [0, 1], 0 where the label is unknown.
    cost, latency
        Of each tier, USD and seconds, an array or one number for all rows.
    n_classes
        Counts classes too, for the macro-F1 of two tiers.
    """
    k = len(label)
    bins = [lattice.bin(c) for c in confidence[: k - 1]]
    n_bins = lattice.n_bins
    counts = np.bincount(cells(bins, n_bins, bit_code(right), 1 << k), minlength=n_bins ** (k - 1) << k)
    shaped = counts.reshape((n_bins,) * (k - 1) + (1 << k,))
    rows = [shaped.sum(axis=-1)]
    for _ in range(k - 1):
        rows.insert(0, rows[0].sum(axis=-1))
    paid, waited = (
        tuple(_whole_sums(bins[:j], n_bins, rows[j], values, unit) for j, values in enumerate(columns))
        for unit, columns in ((NANO, cost), (MICRO, latency))
    )
    classes = None
    if n_classes is not None and k == 2:
        classes = _count_classes(label, right, truth, bins[0], n_classes, n_bins)
    return Tally(lattice, shaped, paid, waited, classes)


def total(tallies: Sequence[Tally]) -> Tally:
    """Add tallies up."""
    return reduce(add, tallies)


def below(table: Ints, axes: tuple[int, ...] | None = None) -> Ints:
    """Return the sums over all bins before each, along axes (all, unless given); shape as given."""
    for axis in range(table.ndim) if axes is None else axes:
        summed = np.cumsum(table, axis=axis)
        summed -= table
        table = summed
    return table


def bit_code(right: Sequence[Bools]) -> NDArray[np.uint8]:
    """Return which tiers are right as one number a row: tier j is bit j."""
    code = right[0].astype(np.uint8)
    for j, one in enumerate(right[1:], start=1):
        code |= one.view(np.uint8) << np.uint8(j)
    return code


def cells(bins: Sequence[NDArray[np.int16]], n_bins: int, code: NDArray[np.uint8], n_codes: int) -> Rows:
    """Return the number of each row's cell: its bins, most significant first, then its code."""
    out = np.zeros(len(code), dtype=np.intp)
    for start in range(0, len(out), CHUNK):
        part = out[start : start + CHUNK]
        for b in bins:
            part *= n_bins
            part += b[start : start + CHUNK]
        part *= n_codes
        part += code[start : start + CHUNK]
    return out


def _whole_sums(
    bins: Sequence[NDArray[np.int16]], n_bins: int, rows: Ints, values: Floats | float, unit: float
) -> Ints:
    if isinstance(values, float):
        return np.asarray(rows * np.int64(np.rint(values * unit)))
    whole = np.rint(values * unit)
    if not bins:
        return np.asarray(np.int64(whole.sum()))
    cell = cells(bins, n_bins, np.zeros(len(whole), dtype=np.uint8), 1)
    # whole numbers far below 2**53: a double adds them without rounding
    return np.bincount(cell, whole, minlength=n_bins ** len(bins)).astype(np.int64).reshape((n_bins,) * len(bins))


def _count_classes(
    label: Sequence[Labels], right: Sequence[Bools], truth: Labels, bins: NDArray[np.int16], n_classes: int, n_bins: int
) -> ClassTally:
    size = (n_classes + 1) * n_bins  # the first row takes unknown labels
    said = np.empty((2, n_classes, n_bins), dtype=np.int64)
    both = np.empty_like(said)
    for j, (one, hit) in enumerate(zip(label, right, strict=True)):
        cell = (one + 1) * n_bins + bins
        said[j] = np.bincount(cell, minlength=size).reshape(-1, n_bins)[1:]
        both[j] = np.bincount(cell[hit], minlength=size).reshape(-1, n_bins)[1:]
    return ClassTally(np.bincount(truth, minlength=n_classes), said, both)
