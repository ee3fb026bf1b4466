"""Order: rows sorted once by what a threshold is compared with; a metric at every threshold is then a running sum."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid.routing.table import CHUNK, NEVER, Bools, Floats, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Rows sorted by what a threshold is compared with, and every threshold at which anything changes.

    Parameters
    ----------
    rows
        From the lowest to the highest, shape ``(n_rows,)``.
    threshold
        The distinct values, ascending, and one that passes all on: 1, or `NEVER` where a value is 1.
    below
        How many rows each threshold passes on, shape of `threshold`.
    """

    rows: Rows
    threshold: Floats
    below: Rows

    @classmethod
    def of(cls, gauge: Floats) -> Order:
        """Sort rows by their gauge in [0, 1], shape ``(n_rows,)``."""
        n = len(gauge)
        for pack, unpack in ((_nine_decimals, _from_nine_decimals), (_single, _from_single)):
            key = _packed(gauge, pack) if 1 << 12 <= n < 1 << 32 else None
            if key is not None:
                key.sort()
                below, threshold = _steps(key.view(np.uint32)[_HIGH], unpack)
                np.bitwise_and(key, np.uint64(0xFFFFFFFF), out=key)
                return cls(key.view(np.intp), threshold, below)
        rows = np.argsort(gauge, kind="stable" if n < 1 << 12 else None)
        return cls._sorted(rows, gauge[rows])

    @classmethod
    def _sorted(cls, rows: Rows, ascending: Floats) -> Order:
        below, threshold = _steps(ascending, lambda values: values)
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

    def parts(self) -> Iterator[tuple[Rows, slice]]:
        """Yield some rows at a time, which stay in the processor's cache, and the thresholds that pass on up to them.

        The thresholds are those that pass on all rows that came before, and at least one of these.
        """
        starts = range(0, len(self.rows), CHUNK)
        ends = np.searchsorted(self.below, np.append(starts[1:], len(self.rows)), side="right")
        first = 0
        for start, last in zip(starts, ends.tolist(), strict=True):
            yield self.rows[start : start + CHUNK], slice(first, last)
            first = last


def above(most: float) -> float:
    """Return a threshold that passes on all rows whose greatest gauge is `most`: 1, or `NEVER` where that is 1."""
    return 1.0 if most < 1 else NEVER


def _steps(ascending: NDArray[Any], read: Callable[[NDArray[Any]], Floats]) -> tuple[Rows, Floats]:
    """Return where the distinct values start, and the values, and above them 1 or `NEVER`, which passes all on.

    Parameters
    ----------
    ascending
        Values, or what stands for them.
    read
        Tells the values that stand behind.
    """
    n = len(ascending)
    new = np.empty(n + 1, dtype=bool)
    new[0] = new[n] = True
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:n])
    starts = np.flatnonzero(new)
    values = np.full(len(starts), above(float(read(ascending[-1:])[0])))
    own = starts[:-1]
    for start in range(0, len(own), CHUNK):
        values[start : start + CHUNK][: len(own) - start] = read(ascending[own[start : start + CHUNK]])
    return starts, values


_Codes = NDArray[np.uint64]
_HIGH = np.s_[1::2] if sys.byteorder == "little" else np.s_[::2]  # the upper halves of 64 bits


def _packed(values: Floats, pack: Callable[[Floats], _Codes | None]) -> _Codes | None:
    """Return the value and the row's number as one integer, which sorts in a third of the time; None where one cannot.

    Values can be packed that have nine decimals, as the classifier's, or come from single precision.
    """
    key = np.empty(len(values), dtype=np.uint64)
    for start in range(0, len(values), CHUNK):
        codes = pack(values[start : start + CHUNK])
        if codes is None:
            return None
        np.left_shift(codes, np.uint64(32), out=codes)
        np.bitwise_or(codes, np.arange(start, start + len(codes), dtype=np.uint64), out=key[start : start + len(codes)])
    return key


def _nine_decimals(values: Floats) -> _Codes | None:
    whole = np.rint(values * 1e9)
    return whole.astype(np.uint64) if np.array_equal(whole / 1e9, values) else None


def _from_nine_decimals(codes: NDArray[np.uint32]) -> Floats:
    found: Floats = codes / 1e9
    return found


def _single(values: Floats) -> _Codes | None:
    single = values.astype(np.float32) + np.float32(0)  # no negative zero
    return single.view(np.uint32).astype(np.uint64) if np.array_equal(single, values) else None


def _from_single(codes: NDArray[np.uint32]) -> Floats:
    return codes.view(np.float32).astype(np.float64)
