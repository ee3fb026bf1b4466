"""Tally: what curves need of any number of rows, as sums: batches are tallied apart and added up, in any order.

All sums are whole numbers (rows, nano-dollars), so that the same rows give the same bits however they
were cut into batches and on whichever machine each batch was tallied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from math import prod
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.metrics.flips import Chain
from hybrid.metrics.lattice import Lattice
from hybrid.routing.table import CHUNK, Bools, Floats, Labels, Rows

NANO = 1e9  # per USD
PART = 1 << 17  # rows

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over rows that went through a chain of tiers, by the bins of their confidences.

    Parameters
    ----------
    lattice
        Whose bins, the same for each tier that can pass a row on; thresholds are its edges.
    right
        Rows by which tiers are right (tier j is bit j) and by bin of each such tier: shape
        ``(2 ** n_tiers,) + (n_bins,) * (n_tiers - 1)``.
    cost
        For each tier the sum of nano-dollars by the bins of the tiers before it: shapes ``()``, ``(n_bins,)``,
        ``(n_bins, n_bins)``, …
    """

    lattice: Lattice
    right: Ints
    cost: tuple[Ints, ...]

    def __add__(self, other: Tally) -> Tally:
        if self.lattice != other.lattice or self.right.shape != other.right.shape:
            raise TierError("Only tallies of the same tiers on the same lattice can be added up.")
        return replace(self, right=self.right + other.right, cost=tuple(map(add, self.cost, other.cost)))

    @property
    def n_rows(self) -> int:
        return int(self.right.sum())

    @property
    def n_tiers(self) -> int:
        return self.right.ndim

    def correct(self) -> Ints:
        """Return how many answers are right with the thresholds at edges, shape ``(n_bins,) * (n_tiers - 1)``."""
        codes = np.arange(len(self.right))
        is_right = [codes >> j & 1 for j in range(self.n_tiers)]
        gains = [is_right[0], *(b - a for a, b in pairwise(is_right))]
        return self._grid([self._over(j, gain) for j, gain in enumerate(gains)])

    def cost_grid(self) -> Floats:
        """Return USD with the thresholds at edges."""
        return self._grid(self.cost) / NANO

    def _over(self, n_axes: int, weight: Ints) -> Ints:
        """Return rows, weighted by which tiers are right, by the bins of the first tiers."""
        summed = self.right.sum(axis=tuple(range(1 + n_axes, self.right.ndim)))
        return np.asarray(sum(w * summed[code] for code, w in enumerate(weight) if w))

    def _grid(self, tables: Sequence[Ints]) -> Ints:
        """Return the sum over tables of what lies below each edge on all of a table's axes."""
        shape = (self.lattice.n_bins,) * (self.n_tiers - 1)
        total = np.zeros(shape, dtype=np.int64)
        for table in tables:
            total += below(table).reshape(table.shape + (1,) * (len(shape) - table.ndim))
        return total


def tally_by(
    group: NDArray[np.uint8], n_groups: int, chain: Chain, truth: Labels, *, lattice: Lattice
) -> tuple[Tally, ...]:
    """Sum up each of up to 16 groups of a batch of rows, of chains of up to 4 tiers.

    Parameters
    ----------
    group
        Of each row, shape ``(n_rows,)``.
    chain
        What each tier said.
    """
    k, n, n_bins = len(chain.label), len(truth), lattice.n_bins
    shapes = [(n_groups, *[n_bins] * j) for j in range(k)]
    # a part at a time, which stays in the processor's cache, but not so small that adding tables up takes longer
    step = max(PART, prod(shapes[-1]) << k)
    if n > step:
        parts = [
            tally_by(group[rows], n_groups, chain.take(rows), truth[rows], lattice=lattice)
            for rows in (slice(start, start + step) for start in range(0, n, step))
        ]
        return tuple(total(of_group) for of_group in zip(*parts, strict=True))
    bins = [lattice.bin(c) for c in chain.confidence[: k - 1]]
    code = bit_code(chain.right)
    code |= group << np.uint8(k)
    right = counted([code, *bins], (n_groups << k, *[n_bins] * (k - 1))).reshape(n_groups, 1 << k, *shapes[-1][1:])
    rows = [right.sum(axis=1)]
    for _ in range(k - 1):
        rows.insert(0, rows[0].sum(axis=-1))
    paid = [_nano_dollars([group, *bins[:j]], shapes[j], rows[j], values) for j, values in enumerate(chain.cost)]
    return tuple(Tally(lattice, right[g], tuple(x[g] for x in paid)) for g in range(n_groups))


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


def cells(digits: Sequence[NDArray[Any]], shape: Sequence[int], *, first: int = 0) -> Rows:
    """Return the number of each row's cell in a table.

    Parameters
    ----------
    digits
        The row's place along each axis, shape ``(n_rows,)`` each.
    shape
        Of the table.
    first
        Added to every number.
    """
    dtype = np.int32 if prod(shape) < 1 << 31 else np.int64
    out = np.empty(len(digits[0]), dtype=np.intp)
    for start in range(0, len(out), CHUNK):
        rows = slice(start, start + CHUNK)
        part: NDArray[Any] = digits[0][rows].astype(dtype)
        for digit, size in zip(digits[1:], shape[1:], strict=True):
            part *= size
            part += digit[rows].astype(dtype)  # a cast of its own is faster than one on the way
        np.add(part, first, out=out[rows])
    return out


def counted(digits: Sequence[NDArray[Any]], shape: Sequence[int], *, first: int = 0) -> Ints:
    """Return how many rows are in each cell of a table; see `cells`."""
    size, n = prod(shape), len(digits[0])
    # as many rows at a time as there are cells: adding tables up costs little, and memory for all rows' cells more
    step = max(CHUNK, size)
    found = np.bincount(cells([d[:step] for d in digits], shape, first=first), minlength=size)
    for start in range(step, n, step):
        found += np.bincount(cells([d[start : start + step] for d in digits], shape, first=first), minlength=size)
    return found.reshape(shape)


def _nano_dollars(digits: Sequence[NDArray[Any]], shape: tuple[int, ...], rows: Ints, values: Floats | float) -> Ints:
    if isinstance(values, float):
        return np.asarray(rows * np.int64(np.rint(values * NANO)))
    # whole numbers far below 2**53: a double adds them without rounding
    whole = np.rint(values * NANO)
    return np.bincount(cells(digits, shape), whole, minlength=prod(shape)).astype(np.int64).reshape(shape)
