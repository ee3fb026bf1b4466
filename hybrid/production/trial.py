"""Trial: two bundles on live traffic, compared by intervals that allow looking every day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybrid.errors import HybridError
from hybrid.metrics.intervals import Interval
from hybrid.metrics.sequential import asymptotic_sequence, mean_sequence
from hybrid.production.feedback import Correction
from hybrid.production.log import SECOND
from hybrid.production.watching import Decisions
from hybrid.routing.table import Floats


@dataclass(frozen=True, slots=True)
class Trial:
    """Bundle B minus bundle A; every interval holds at all times at once with 95 %.

    Parameters
    ----------
    a, b
        Names of the bundles.
    paired
        Whether both decided the same texts (shadow), or each its own share of them (live).
    n
        Texts of A, and of B.
    n_reviewed
        Of these, texts with a right label that were drawn for a review.
    accuracy, escalation
        Differences of shares.
    cost_per_1000
        USD.
    """

    a: str
    b: str
    paired: bool
    n: tuple[int, int]
    n_reviewed: tuple[int, int]
    accuracy: Interval
    escalation: Interval
    cost_per_1000: Interval

    @property
    def words(self) -> str:
        """Say what is known by now."""
        how = "both decided every text" if self.paired else f"{self.n[0]:,} and {self.n[1]:,} texts by hash"
        reviewed = f"{self.n_reviewed[0]:,} and {self.n_reviewed[1]:,} reviewed"
        more = "more often" if self.accuracy.value >= 0 else "less often"
        right = (
            f"is right {more} by {_points(self.accuracy)}"
            if min(self.n_reviewed)
            else "cannot be judged without reviews"
        )
        cost = self.cost_per_1000
        paid = (
            f"costs {cost.value:+.4g} USD per 1,000 ({cost.low:+.4g} to {cost.high:+.4g})"
            if np.isfinite(cost.low)
            else "has too few texts to tell its cost"
        )
        return f"B ({self.b}) against A ({self.a}), {how}, {reviewed}: B {right}; {paid}. {self.verdict}"

    @property
    def verdict(self) -> str:
        """Return which is better, where that is decided."""
        better, worse = self.accuracy.low > 0, self.accuracy.high < 0
        cheaper, dearer = self.cost_per_1000.high < 0, self.cost_per_1000.low > 0
        if better and not dearer:
            return "B is better." if not cheaper else "B is better and cheaper."
        if worse and not cheaper:
            return "A is better." if not dearer else "A is better and cheaper."
        if better or worse:
            return "The better one is the dearer one."
        if cheaper or dearer:
            least, which = self.accuracy.low if cheaper else -self.accuracy.high, "B" if cheaper else "A"
            if least >= 0:
                return f"{which} is cheaper, and no less often right."
            return f"{which} is cheaper; whether it is less often right, by up to {-100 * least:.1f} points, is open."
        return "Not decided yet; looking again later does no harm."

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""

        def of(i: Interval) -> dict[str, float | None]:
            return {k: getattr(i, k) if np.isfinite(getattr(i, k)) else None for k in ("value", "low", "high")}

        return {
            "a": self.a,
            "b": self.b,
            "paired": self.paired,
            "texts": list(self.n),
            "reviewed": list(self.n_reviewed),
            "accuracy": of(self.accuracy),
            "escalation": of(self.escalation),
            "cost_per_1000": of(self.cost_per_1000),
            "words": self.words,
        }


def _points(i: Interval) -> str:
    return f"{abs(100 * i.value):.1f} points ({100 * i.low:+.1f} to {100 * i.high:+.1f})"


def compare(
    a: Decisions, b: Decisions, corrections: Sequence[Correction], *, names: tuple[str, str], classes: Sequence[str]
) -> Trial:
    """Compare two bundles that one server decided with.

    In shadow mode both decided each text, so differences are taken text by text. Live, each text was decided by one of
    them, and the texts of either come in order: each of the rarer bundle's is set against the mean of as many of the
    other's as there are to one.

    Raises
    ------
    HybridError
        If nothing in the log can be compared.
    """
    code = {name: i for i, name in enumerate(classes)}
    truth = {c.id.removesuffix(SECOND): code.get(c.label, -2) for c in corrections if c.source == "review"}
    place = {id.removesuffix(SECOND): i for i, id in enumerate(b.ids)}
    both = [(i, place[base]) for i, id in enumerate(a.ids) if (base := id.removesuffix(SECOND)) in place]
    reviewed = [
        np.array(
            [i for i, id in enumerate(d.ids) if d.review[i] > 0 and id.removesuffix(SECOND) in truth], dtype=np.intp
        )
        for d in (a, b)
    ]
    right = [
        np.array([truth[d.ids[i].removesuffix(SECOND)] == d.label[i] for i in rows], dtype=np.float64)
        for d, rows in zip((a, b), reviewed, strict=True)
    ]
    sent = [d.said.asked[:, -1].astype(np.float64) for d in (a, b)]
    if both:
        rows_a, rows_b = (np.array(column, dtype=np.intp) for column in zip(*both, strict=True))
        known = np.array([a.review[i] > 0 and a.ids[i].removesuffix(SECOND) in truth for i in rows_a], dtype=bool)
        marks = np.array([truth.get(a.ids[i].removesuffix(SECOND), -3) for i in rows_a], dtype=np.int64)
        gain = (b.label[rows_b] == marks).astype(np.float64) - (a.label[rows_a] == marks)
        differences = gain[known], sent[1][rows_b] - sent[0][rows_a], b.cost[rows_b] - a.cost[rows_a]
        n = (len(both), len(both))
        n_reviewed = (int(known.sum()), int(known.sum()))
    else:
        shared = {*a.days} & {*b.days}
        if not shared:
            raise HybridError("The two bundles never decided on the same day, so they cannot be compared fairly.")
        within = [np.flatnonzero(np.array([day in shared for day in d.days])[d.day]) for d in (a, b)]
        marked = [np.isin(rows, some) for rows, some in zip(reviewed, within, strict=True)]
        right = [values[some] for values, some in zip(right, marked, strict=True)]
        differences = (
            _in_turn(*right),
            _in_turn(sent[0][within[0]], sent[1][within[1]]),
            _in_turn(a.cost[within[0]], b.cost[within[1]]),
        )
        n = (len(within[0]), len(within[1]))
        n_reviewed = (len(right[0]), len(right[1]))
    return Trial(
        *names,
        bool(both),
        n,
        n_reviewed,
        mean_sequence(differences[0], low=-1.0, high=1.0),
        mean_sequence(differences[1], low=-1.0, high=1.0),
        asymptotic_sequence(1000 * differences[2]),
    )


def _in_turn(a: Floats, b: Floats) -> Floats:
    """Return B minus A where neither has pairs: one of the rarer against the mean of as many others as come to one.

    Examples
    --------
    >>> _in_turn(np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 0.0])).tolist()
    [0.5, -1.0]
    """
    many, few = (a, b) if len(a) >= len(b) else (b, a)
    if not len(few):
        return np.zeros(0)
    each = len(many) // len(few)
    blocks: Floats = many[: each * len(few)].reshape(len(few), each).mean(axis=1)
    return few - blocks if len(a) >= len(b) else blocks - few
