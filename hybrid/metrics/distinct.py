"""Distinct: the values of a column that has few of them, without sorting it."""

from __future__ import annotations

import numpy as np

from hybrid.routing.table import Floats, Rows

SAMPLE = 2_048


def few_values(values: Floats, *, most: int) -> tuple[Floats, Rows] | None:
    """Return the distinct values, ascending, and each row's place among them; None where there are more than `most`.

    Prices and latencies are mostly a handful of values over many rows. They are looked for in a sample, then among
    the rows that are none of those found so far, so that a column is read a few times and never sorted.

    Parameters
    ----------
    values
        Without nan, shape ``(n_rows,)``.

    Examples
    --------
    >>> found, place = few_values(np.array([3.0, 1.0, 3.0]), most=2)
    >>> found.tolist(), place.tolist()
    ([1.0, 3.0], [1, 0, 1])
    """
    known = np.unique(values[:: max(1, len(values) // SAMPLE)])
    while len(known) <= most:
        place = np.searchsorted(known, values)
        strange = values[known[np.minimum(place, len(known) - 1)] != values]
        if not len(strange):
            return known, place
        known = np.union1d(known, strange[:SAMPLE])
    return None


def counted(values: Floats, *, most: int) -> tuple[Floats, Rows] | None:
    """Return the distinct values and how many rows have each; None where there are more than `most`."""
    if len(values) <= SAMPLE:
        known, counts = np.unique(values, return_counts=True)
        return (known, counts) if len(known) <= most else None
    found = few_values(values, most=most)
    return None if found is None else (found[0], np.bincount(found[1], minlength=len(found[0])))
