"""Goals: what a policy is to be good at, as sums over rows that a search can minimise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.errors import TierError
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import Floats, Labels

CHEAPEST, MOST_ACCURATE, LEAST_TOTAL = "cheapest", "most_accurate", "least_total"
AIMS = {  # the measure that is to be least, and the one that decides between equals
    CHEAPEST: ("cost", "wrong"),
    MOST_ACCURATE: ("wrong", "cost"),
    LEAST_TOTAL: ("total", "wrong"),
}
COST, WRONG = 0, 1  # the first two measures of every goal
SLOW_SHARE = 0.05  # of the texts may take longer than a latency cap
TOLERANCE = 1e-9  # relative: sums in another order differ in the last bits


def _usd(value: float) -> str:
    """Return an amount with four digits that mean something, written out: 0.00002, never 2e-05."""
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


@dataclass(frozen=True, slots=True)
class Goal:
    """What to look for, and within which limits.

    Parameters
    ----------
    kind
        ``cheapest``, ``most_accurate``, or ``least_total``: inference cost plus the cost of wrong answers.
    floor
        System accuracy must be at least this; None: no such limit.
    budget
        USD per 1,000 texts, at most.
    seconds
        95 % of the texts are answered within this.
    wrong
        USD that a wrong answer costs: one figure, or a table by true class (rows) and predicted class.
        Where no tier knows an answer, the dearest mistake of its row counts.
    by_class
        Whether triage may have a threshold for each predicted class.

    Raises
    ------
    TierError
        If a limit makes no sense.
    """

    kind: str
    floor: float | None = None
    budget: float | None = None
    seconds: float | None = None
    wrong: float | tuple[tuple[float, ...], ...] = 0.0
    by_class: bool = True

    def __post_init__(self) -> None:
        if self.kind not in AIMS:
            raise TierError(f"A goal is one of {', '.join(AIMS)}, not {self.kind!r}.")
        if self.floor is not None and not 0 <= self.floor <= 1:
            raise TierError(f"The accuracy floor is {self.floor}: must be in [0, 1]. Percentages? Divide by 100.")
        for what, value in (("budget", self.budget), ("latency cap", self.seconds)):
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise TierError(f"The {what} is {value}: must be 0 or more.")
        losses = np.asarray(self.wrong, dtype=np.float64)
        if losses.ndim not in (0, 2) or (losses.ndim == 2 and losses.shape[0] != losses.shape[1]):
            raise TierError(
                "The cost of a wrong answer is one figure, or a table with a row and a column for each class."
            )
        if not (np.isfinite(losses).all() and (losses >= 0).all()):
            raise TierError("The cost of a wrong answer must be 0 or more, in USD.")

    @property
    def limits(self) -> tuple[str, ...]:
        """Return the limits that are set, in words."""
        said = []
        if self.floor is not None:
            said.append(f"accuracy at least {self.floor:.1%}")
        if self.budget is not None:
            said.append(f"at most ${_usd(self.budget)} per 1,000")
        if self.seconds is not None:
            said.append(f"95% of texts within {self.seconds:g} s")
        return tuple(said)

    @property
    def words(self) -> str:
        """Return the goal in a line."""
        what = {
            CHEAPEST: "cheapest",
            MOST_ACCURATE: "most accurate",
            LEAST_TOTAL: "least total cost"
            + (f" at ${_usd(self.wrong)} per wrong answer" if isinstance(self.wrong, int | float) else ", by a table"),
        }[self.kind]
        return ", ".join([what, *self.limits])

    def measures(self, label: Labels, cost: Floats, latency: Floats, truth: Labels) -> Floats:
        """Return what is summed over rows, shape ``(n_measures, n_rows)``: cost, wrong, and what this goal asks for."""

        def of(name: str) -> Floats:
            match name:
                case "cost":
                    return cost
                case "wrong":
                    wrong: Floats = (label != truth).astype(np.float64)
                    return wrong
                case "total":
                    total: Floats = cost + self._losses(label, truth)
                    return total
                case "slow" if self.seconds is not None:
                    return (latency > self.seconds).astype(np.float64)
            raise ValueError(name)

        return np.stack([of(name) for name in self._summed])

    @property
    def _summed(self) -> tuple[str, ...]:
        aim = AIMS[self.kind][0]
        return "cost", "wrong", *((aim,) if self.own_aim else ()), *(("slow",) if self.seconds is not None else ())

    @property
    def own_aim(self) -> bool:
        """Whether what is to be least is neither the cost alone nor the wrong answers: it is the third measure."""
        return AIMS[self.kind][0] not in ("cost", "wrong")

    @property
    def timed(self) -> bool:
        """Whether latencies count."""
        return not set(self._summed) <= {"cost", "wrong", "total"}

    @property
    def by_cost_and_wrong(self) -> bool:
        """Whether what costs no less and is right no more often is never better: a search may then drop it unseen."""
        flat = self.kind == LEAST_TOTAL and isinstance(self.wrong, int | float)
        return not self.timed and (flat or not self.own_aim)

    @property
    def rows(self) -> list[int]:
        """Return which measures a choice is made by: the aim, the tie-break, and one for each limit."""
        limits = (("wrong", self.floor), ("cost", self.budget), ("slow", self.seconds))
        names = (*AIMS[self.kind], *(name for name, limit in limits if limit is not None))
        return [self._summed.index(name) for name in names]

    def terms(self, outcomes: Outcomes, truth: Labels) -> Floats:
        """Return what a choice is made by on each row, shape ``(2 + n_limits, n_rows)``; see `rows`."""
        terms: Floats = self.measures(outcomes.label, outcomes.cost, outcomes.latency, truth)[self.rows]
        return terms

    def caps(self, n_rows: float) -> Floats:
        """Return what each limit's sum over this many rows must not exceed, shape ``(n_limits,)``."""
        caps = []
        if self.floor is not None:
            caps.append((1 - self.floor) * n_rows)
        if self.budget is not None:
            caps.append(self.budget / 1000 * n_rows)
        if self.seconds is not None:
            caps.append(SLOW_SHARE * n_rows)
        return np.array(caps, dtype=np.float64) * (1 + TOLERANCE) + TOLERANCE * 1e-3

    def total_cost(self, outcomes: Outcomes, truth: Labels) -> Floats:
        """Return inference cost plus the cost of a wrong answer of each row, USD, shape ``(n_rows,)``."""
        total: Floats = outcomes.cost + self._losses(outcomes.label, truth)
        return total

    @property
    def dearest_mistake(self) -> float:
        """Return what a wrong answer costs at most, USD."""
        table = np.array(self.wrong, dtype=np.float64)
        if table.ndim:
            np.fill_diagonal(table, 0.0)
        return float(table.max(initial=0.0))

    def _losses(self, label: Labels, truth: Labels) -> Floats:
        if isinstance(self.wrong, int | float):
            flat: Floats = float(self.wrong) * (label != truth)
            return flat
        table = np.array(self.wrong, dtype=np.float64)
        if truth.size and int(max(truth.max(), label.max())) >= len(table):
            raise TierError(f"The table of costs has {len(table)} classes, the data have more: give one row for each.")
        np.fill_diagonal(table, 0.0)
        by_answer = np.column_stack([table, table.max(axis=1)])  # the last column, which −1 reads, is "no answer"
        losses: Floats = by_answer[truth, label]
        return losses


def best(totals: Floats, caps: Floats) -> int:
    """Return the flat index of the best point: least over the limits, then the aim, then the tie-break.

    Parameters
    ----------
    totals
        Shape ``(2 + n_limits, …)``, as summed from `Goal.terms`.
    """
    flat = totals.reshape(len(totals), -1)
    over = violation(flat, caps)
    left = np.flatnonzero(over <= over.min() * (1 + TOLERANCE))
    for row in flat[:2]:
        least = row[left].min()
        left = left[row[left] <= least + TOLERANCE * max(1e-6, abs(least))]
    return int(left[0])


def violation(totals: Floats, caps: Floats) -> Floats:
    """Return by how much points exceed their limits, as shares of these; 0 where all are kept."""
    over = np.zeros(totals.shape[1:])
    for row, cap in zip(totals[2:], caps, strict=True):
        over += np.maximum(row - cap, 0.0) / max(abs(cap), 1e-6)
    return over
