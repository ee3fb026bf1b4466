"""Scope: what setting aside texts that are far from anything seen costs, and what it catches, at every threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import Interval, upper_bound
from hybrid.metrics.order import Order
from hybrid.metrics.summary import share
from hybrid.routing.table import Bools, Floats, Labels


@dataclass(frozen=True, slots=True)
class ScopeCurve:
    """Shares at every threshold at which anything changes, ascending; all arrays of shape ``(n_points,)``.

    Point ``i`` holds for thresholds in ``(threshold[i - 1], threshold[i]]``; the last sets nothing aside.

    Parameters
    ----------
    aside
        Of the rows in scope, those that are set aside.
    out
        Of the rows that are labelled as out of scope, those that are set aside; nan where there are none.
    rest
        Right answers among the rows that are not set aside; nan where all are.
    caught
        Of the mistakes that are made where nothing is set aside, those on rows that are; nan where there are none.
    """

    threshold: Floats
    aside: Floats
    out: Floats
    rest: Floats
    caught: Floats


def scope_curve(far: Floats, right: Bools, out: Bools) -> ScopeCurve:
    """Measure every threshold on a score of how far rows are: one sort.

    Parameters
    ----------
    far
        The score, in [0, 1]; shape ``(n_rows,)``, as the others.
    right
        Whether the policy's answer is right where nothing is set aside.
    out
        Whether the row is labelled as out of scope.

    Examples
    --------
    Setting aside the farthest of four rows catches the only mistake, and every row that is left is right:

    >>> curve = scope_curve(np.array([0.1, 0.3, 0.5, 0.9]), np.array([True, True, True, False]), np.zeros(4, bool))
    >>> curve.threshold.tolist(), curve.aside.tolist(), curve.rest[-2:].tolist(), curve.caught.tolist()
    ([0.1, 0.3, 0.5, 0.9, 1.0], [1.0, 0.75, 0.5, 0.25, 0.0], [1.0, 0.75], [1.0, 1.0, 1.0, 1.0, 0.0])
    """
    order = Order.of(far)

    def kept(rows: Bools) -> Floats:
        """Return how many of these rows are below each threshold."""
        return np.concatenate([[0.0], np.cumsum(rows[order.rows])])[order.below]

    def aside(rows: Bools) -> Floats:
        n = int(rows.sum())
        return 1 - kept(rows) / n if n else np.full(len(order.threshold), np.nan)

    n_kept = kept(np.ones(len(far), dtype=bool))
    rest = np.divide(kept(right), n_kept, out=np.full(len(n_kept), np.nan), where=n_kept > 0)
    return ScopeCurve(order.threshold, aside(~out), aside(out), rest, aside(~right))


@dataclass(frozen=True, slots=True)
class ScopeNumbers:
    """What one threshold does; intervals are Wilson's, by groups.

    Parameters
    ----------
    n_rows, n_out
        Rows, and those among them that are labelled as out of scope.
    aside, out, rest, caught
        As in `ScopeCurve`.
    before
        Right answers where nothing is set aside.
    bound
        With probability `level`, at most this share of texts in scope is set aside: exact, one draw a group.
    """

    n_rows: int
    n_out: int
    aside: Interval
    out: Interval
    rest: Interval
    caught: Interval
    before: Interval
    bound: float
    level: float


def scope_numbers(
    aside: Bools, right: Bools, out: Bools, *, groups: Labels | None = None, level: float = 0.9
) -> ScopeNumbers:
    """Measure what is set aside at one threshold.

    Parameters
    ----------
    aside
        Whether each row is set aside, shape ``(n_rows,)``; `right` and `out` as in `scope_curve`.
    groups
        Codes of what belongs together; None: every row is a group of its own.
    level
        Of `bound`.

    Notes
    -----
    The bound is Clopper and Pearson's, each group counting as its share of rows set aside. It holds of a threshold that
    was fixed before these rows were seen, and of the threshold that sets a stated number of them aside: what lies
    beyond a given rank of exchangeable rows has a beta distribution, whatever they are distributed like.

    Examples
    --------
    >>> one_in_hundred = np.arange(1000) % 100 == 0
    >>> found = scope_numbers(one_in_hundred, ~one_in_hundred, np.zeros(1000, dtype=bool))
    >>> found.aside.value, round(found.bound, 4), found.caught.value
    (0.01, 0.0154, 1.0)
    """
    together = Groups.of(groups)

    def of(hits: Bools, rows: Bools) -> Interval:
        return share(hits[rows], None if together is None else together.take(rows))

    inside = ~out
    if together is None:
        hits, n = float(aside[inside].sum()), int(inside.sum())
    else:
        code = together.code[inside]
        size = np.bincount(code, minlength=1)
        hits = float((np.bincount(code, aside[inside], minlength=1)[size > 0] / size[size > 0]).sum())
        n = int((size > 0).sum())
    return ScopeNumbers(
        len(aside),
        int(out.sum()),
        of(aside, inside),
        of(aside, out),
        of(right, ~aside),
        of(aside, ~right),
        of(right, np.ones(len(aside), dtype=bool)),
        upper_bound(hits, n, 1 - level),
        level,
    )
