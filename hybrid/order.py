"""Order: rows sorted once by what a threshold is compared with; a metric at every threshold is then a running sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.flips import Change
from hybrid.predictions import Bools, Floats, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Rows sorted by what a threshold is compared with, and every threshold at which anything changes.

    Parameters
    ----------
    rows
        From the lowest to the highest, shape ``(n_rows,)``.
    threshold
        The distinct values, ascending, and 1.
    below
        How many rows each threshold passes on, shape of `threshold`.
    """

    rows: Rows
    threshold: Floats
    below: Rows

    @classmethod
    def of(cls, gauge: Floats) -> Order:
        """Sort rows by their gauge in [0, 1], shape ``(n_rows,)``."""
        rows = _argsort(gauge)
        return cls._sorted(rows, gauge[rows])

    @classmethod
    def _sorted(cls, rows: Rows, ascending: Floats) -> Order:
        starts = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
        below = np.concatenate([np.zeros(1, dtype=np.intp), starts])
        threshold = ascending[below]
        if threshold[-1] < 1:
            threshold, below = np.append(threshold, 1.0), np.append(below, len(rows))
        return cls(rows, threshold, below)

    def take(self, kept: Bools, gauge: Floats) -> Order:
        """Return the order of some of the rows, without sorting.

        Parameters
        ----------
        kept
            Which rows, shape ``(n_rows,)``.
        gauge
            Of all the rows.
        """
        rows = self.rows[kept[self.rows]]
        number = np.cumsum(kept) - 1
        return self._sorted(number[rows], gauge[rows])

    def sums(self, change: Change) -> Floats:
        """Return what passing on the rows below adds to a metric's sum, at every threshold."""
        if isinstance(change, float):
            return change * self.below.astype(np.float64)
        wide = np.int64 if change.dtype == np.int8 else np.float64
        prefix = np.zeros(len(self.rows) + 1, dtype=wide)
        np.cumsum(change[self.rows], dtype=wide, out=prefix[1:])
        return prefix[self.below].astype(np.float64, copy=False)


def _argsort(values: Floats) -> Rows:
    """Return the order of values in [0, 1].

    Where they have nine decimals, as the classifier's, or come from single precision, the value and the row's number
    are sorted as one integer, which takes a third of the time of sorting row numbers by value.
    """
    n = len(values)
    if n < 1 << 12 or n >> 32:
        return np.argsort(values, kind="stable")
    decimals = np.rint(values * 1e9)
    if (decimals / 1e9 == values).all():
        key = decimals.astype(np.uint64)
    else:
        single = values.astype(np.float32) + np.float32(0)  # no negative zero
        if not (single == values).all():
            return np.argsort(values)
        key = single.view(np.uint32).astype(np.uint64)
    key = (key << np.uint64(32)) | np.arange(n, dtype=np.uint64)
    key.sort()
    return (key & np.uint64(0xFFFFFFFF)).astype(np.intp)
