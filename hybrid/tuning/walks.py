"""Walks: fixed-sequence tests along policies, and the certificate that comes of them.

Policies stand in an order that is fixed before any label is looked at, from the safest to the cheapest. Each is tested
by an exact binomial p-value, and the first that fails ends the walk. Which policy a walk starts with may depend on
confidences, never on labels. Where several walks are made, δ is divided by their number.

The length of a fixed sequence costs nothing, so the walk of one threshold goes through every number from 1 down to 0
that a computer can hold. Between two confidences that occur all of them keep the same rows, hence have the same
p-value: one test at each that occurs is a test of them all, and what is certified is a range without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv

from hybrid.routing.engine import Policy
from hybrid.routing.table import Floats, Rows
from hybrid.tuning.certificates import binomial_p_values, fixed_sequence
from hybrid.tuning.sizes import rows_to_certify

SELECTIVE, SYSTEM = "selective", "system"
SELECTIVE_STARTS_UNTIL = 0.75  # of the rows kept; none for the selective risk starts beyond
SYSTEM_STARTS = (0.0, 0.25, 0.5, 0.75)  # shares kept at which a walk for the system risk starts
TRIED = 100  # places along a walk from which the rows that would certify are estimated


@dataclass(frozen=True, slots=True)
class Part:
    """One guarantee of a certificate: of a class, of a walk, or of the whole.

    Parameters
    ----------
    name
        What it covers.
    n, wrong
        Rows that it was tested on, and mistakes among them.
    bound
        Exact upper bound of the risk at this part's share of δ.
    delta
        That share.
    lowest, highest
        Of one threshold: it holds for all from `lowest` to `highest`, both included; None for others.
    of
        Code of the predicted class that it covers alone; None for anything else.
    """

    name: str
    n: int
    wrong: int
    bound: float
    delta: float
    lowest: float | None = None
    highest: float | None = None
    of: int | None = None

    def covers(self, threshold: float) -> bool:
        """Whether the guarantee holds at a threshold, too."""
        return self.lowest is not None and self.highest is not None and self.lowest <= threshold <= self.highest


@dataclass(frozen=True, slots=True)
class Certificate:
    """Risk ≤ α with probability ≥ 1 − δ over the draw of the labelled rows, or why not.

    Parameters
    ----------
    policy
        The cheapest certified policy; None: no threshold certifies.
    risk
        ``selective``: of what the cheap tiers answer; ``system``: of all final answers.
    parts
        What is guaranteed; all of it holds together with probability ≥ 1 − δ.
    left_out
        Names of classes for which nothing certifies: all their texts go to the strong tier.
    path
        Of several thresholds: all tuples of them that are certified along the same walk, the safest first.
    rows_needed
        Where nothing certifies: about how many labelled rows would, if the risk stays as seen; None where no number
        would, because that risk is not below α.
    n_rows
        Labelled rows that were used.
    """

    risk: str
    alpha: float
    delta: float
    policy: Policy | None
    parts: tuple[Part, ...]
    left_out: tuple[str, ...]
    rows_needed: int | None
    n_rows: int
    path: tuple[tuple[float, ...], ...] = ()
    per_class: bool = False

    @property
    def lowest(self) -> float | None:
        """Return the lowest certified threshold, where there is one threshold; None for others."""
        return None if self.per_class or not self.parts else self.parts[0].lowest

    @property
    def highest(self) -> float | None:
        """Return the highest certified threshold, where there is one threshold; None for others."""
        return None if self.per_class or not self.parts else self.parts[0].highest

    @property
    def words(self) -> str:
        """Return what is promised, or that nothing is, in a sentence."""
        cheap = "the cheap tier answers" if self.policy is None or len(self.policy.tiers) < 3 else _BEFORE_THE_LAST
        what = f"the risk of what {cheap}" if self.risk == SELECTIVE else "the system risk"
        if self.per_class:
            what += ", for each predicted class by itself,"
        if self.policy is None:
            more = (
                f"about {self.rows_needed:,} labelled rows would, if mistakes stay as rare as seen"
                if self.rows_needed is not None
                else "more rows would not either: mistakes are too frequent as seen"
            )
            return f"No threshold certifies that {what} is at most {self.alpha:.1%} on {self.n_rows:,} rows; {more}."
        return (
            f"With probability at least {1 - self.delta:.0%} over the draw of the {self.n_rows:,} labelled rows, "
            f"{what} is at most {self.alpha:.1%}."
        )


_BEFORE_THE_LAST = "is answered before the last tier"


def upper_bound(wrong: int, n: int, delta: float) -> float:
    """Return the exact (Clopper–Pearson) upper bound of a risk that holds with probability 1 − δ.

    Examples
    --------
    The rule of three: without a mistake in 100 rows, at most about 3 %.

    >>> round(upper_bound(0, 100, 0.05), 4)
    0.0295
    """
    return 1.0 if wrong >= n else float(betaincinv(wrong + 1, n - wrong, 1 - delta))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A certified policy: a place along a walk."""

    walk: int
    at: int  # index along it
    start: int


class Walks:
    """Fixed-sequence tests along one or more walks, and what came of them."""

    def __init__(self, alpha: float, delta: float, risk: str, n_rows: int) -> None:
        self.alpha, self.delta, self.risk, self.n_rows = alpha, delta, risk, n_rows
        self.tested: list[tuple[str, Rows, Rows, Floats, float]] = []
        self.passed: list[Chosen] = []

    def add(self, name: str, n: Rows, wrong: Rows, share: Floats, *, of: int = 1) -> None:
        """Walk along policies with these rows, mistakes and shares kept, from the safest to the cheapest."""
        starts = self._starts(n, share)
        each = self.delta / of / len(starts)
        self.tested.append((name, n, wrong, share, each))
        p_values = binomial_p_values(wrong, n, risk=self.alpha)
        for start in starts:
            passed = fixed_sequence(p_values, delta=each, start=start)
            if passed:
                self.passed.append(Chosen(len(self.tested) - 1, start + passed - 1, start))

    def _starts(self, n: Rows, share: Floats) -> list[int]:
        if self.risk == SYSTEM:
            return sorted({min(int(np.searchsorted(share, s)), len(n) - 1) for s in SYSTEM_STARTS})
        # one dip must not end everything: further walks start at twice as many rows, and twice that
        wanted = [enough_to_start(self.alpha, self.delta, self.n_rows)]
        while 2 * wanted[-1] <= SELECTIVE_STARTS_UNTIL * self.n_rows:
            wanted.append(2 * wanted[-1])
        return sorted({min(int(np.searchsorted(n, w)), len(n) - 1) for w in wanted})

    def cheapest(self) -> Chosen | None:
        """Return the certified policy that keeps most."""
        return max(self.passed, key=lambda c: float(self.tested[c.walk][3][c.at]), default=None)

    def part(self, chosen: Chosen, falling: Floats | None = None) -> Part:
        """Return the guarantee of a certified policy; `falling` are the thresholds along the walk, where it has one."""
        name, n, wrong, _, each = self.tested[chosen.walk]
        rows, mistakes = int(n[chosen.at]), int(wrong[chosen.at])
        ends = (None, None) if falling is None else (float(falling[chosen.at]), float(falling[chosen.start]))
        return Part(name, rows, mistakes, upper_bound(mistakes, rows, each), each, *ends)

    def rows_needed(self) -> int | None:
        """Return how many rows like these would certify the policy that is nearest to it."""
        found = []
        for _, n, wrong, _, each in self.tested:
            places = np.unique(np.linspace(0, len(n) - 1, TRIED).astype(np.intp))
            most = {int(wrong[i]): int(n[i]) for i in places[np.argsort(n[places], kind="stable")] if n[i]}
            for mistakes, rows in most.items():  # as many mistakes among more rows need fewer
                more = rows_to_certify(mistakes / rows, self.alpha, each)
                if more is not None:
                    found.append(max(more, 1) * self.n_rows / rows)
        return int(np.ceil(max(min(found), self.n_rows + 1))) if found else None

    def certificate(
        self, policy: Policy | None, part: Part | None, *, path: tuple[tuple[float, ...], ...] = ()
    ) -> Certificate:
        needed = self.rows_needed() if part is None else None
        parts = () if part is None else (part,)
        return Certificate(self.risk, self.alpha, self.delta, policy, parts, (), needed, self.n_rows, path)


def enough_to_start(alpha: float, delta: float, n_rows: int) -> int:
    """Return how many kept rows the first test of a selective risk needs: by numbers that do not depend on labels.

    So many that a true risk of half of α passes nine times in ten, at most half of the rows, and never fewer than let a
    spotless record pass.
    """
    spotless = int(np.ceil(np.log(delta) / np.log1p(-alpha)))
    n = spotless
    while n < n_rows // 2:
        allowed = np.arange(n + 1)
        passing = allowed[bdtr(allowed, n, alpha) <= delta]
        if passing.size and bdtr(passing[-1], n, alpha / 2) >= 0.9:
            break
        n = int(np.ceil(n * 1.1))
    return max(spotless, min(n, n_rows // 2))
