"""Walks: fixed-sequence tests along policies, and the certificate that comes of them.

Policies stand in an order that is fixed before any label is looked at, from the safest to the cheapest. Each is tested
by an exact binomial p-value from several starts (`hybrid.tuning.certificates.fallback`). Where a walk starts depends on
how many rows a policy keeps, and on labels only of rows that no policy tested from there on keeps
(`hybrid.tuning.peeling`). Where several walks are made, δ is divided by their number.

The length of a fixed sequence costs nothing, so the walk of one threshold goes through every number from `NEVER` down
to 0 that a computer can hold. Between two confidences that occur all of them keep the same rows, hence have the same
p-value: one test at each that occurs is a test of them all, and what is certified is a range without gaps.

Rows that belong together (a customer's, a conversation's, copies of a text) are no independent trials: their group is
one. A group's share of mistakes lies between 0 and 1 and stands for it, so every row is used; each group counts once,
however many rows it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr

from hybrid.metrics.intervals import upper_bound
from hybrid.routing.engine import Policy
from hybrid.routing.table import Floats, Rows
from hybrid.tuning.certificates import Run, Start, fallback, least_trials, most_errors
from hybrid.tuning.peeling import peel

SELECTIVE, SYSTEM = "selective", "system"
# Shares of the rows that are kept where a walk starts, and of δ. Of thousands of allocations that certify three times
# in four on 500 rows of uniform confidence, these lost least, at worst, against a plain walk and against equal starts,
# in eleven worlds of 60 to 5,000 rows (`tests/benchmarks/power.py`).
SELECTIVE_STARTS = ((0.14, 0.65), (0.57, 0.3))
EARLY = 0.1  # of δ, taken from the first of them, at a quarter of its rows: only the very surest may be good enough
MOST_EARLY = 2  # of these, at a quarter of each other
KEEP_ALL = 0.05  # of δ, where all is kept: confidences may be worth nothing, and the tier be good
FEW = 4  # times the least number of rows that can certify: below, one start has all of δ
MANY = 40  # times that number: from there on each of several starts has power, and peeling costs more than it tells
PEELED = 0.75  # of δ: from the start that peeling finds
SUREST = 0.1  # of δ: from the surest rows; both are above what is peeled
SELECTIVE_LATE = ((0.75, 0.1),)  # beside these, of all rows
SYSTEM_STARTS = ((0.0, 0.82), (0.6, 0.18))
POWER = 0.8  # of what would certify
DRAWS = 40  # of the sample, by which that is estimated
MOST = 64  # times the sample: beyond, no number is named


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
        Exact upper bound of the risk at this part's share of δ; of groups, if rows belong together.
    delta
        That share.
    lowest, highest
        Of one threshold: it holds for all from `lowest` to `highest`, both included; None for others.
    of
        Code of the predicted class that it covers alone; None for anything else.
    groups
        Among how many groups those rows are; None where every row is one of its own.
    """

    name: str
    n: int
    wrong: int
    bound: float
    delta: float
    lowest: float | None = None
    highest: float | None = None
    of: int | None = None
    groups: int | None = None

    @property
    def bound_of_rows(self) -> float:
        """Return the bound that as many independent rows would give: what groups cost."""
        return upper_bound(self.wrong, self.n, self.delta)

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
        Where nothing certifies: how many labelled rows like these would, four times in five; None where no number
        would, because the risk is not below α.
    n_rows
        Labelled rows that were used.
    n_groups
        Groups that they form; None where every row is one of its own. Then risks are those of a group's rows, each
        group counting once.
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
    n_groups: int | None = None

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
        cheap = "the cheap tier answers" if self.policy is None or len(self.policy.own) < 3 else _BEFORE_THE_LAST
        what = f"the risk of what {cheap}" if self.risk == SELECTIVE else "the system risk"
        if self.per_class:
            what += ", for each predicted class by itself,"
        if self.policy is None:
            more = (
                f"about {self.rows_needed:,} labelled rows like these would"
                if self.rows_needed is not None
                else "more rows would not either: mistakes are too frequent as seen"
            )
            return f"No threshold certifies that {what} is at most {self.alpha:.1%} on {self._on}; {more}."
        return (
            f"With probability at least {1 - self.delta:.0%} over the draw of the {self._drawn}, "
            f"{what} is at most {self.alpha:.1%}."
        )

    @property
    def _on(self) -> str:
        return f"{self.n_rows:,} rows" + ("" if self.n_groups is None else f" of {self.n_groups:,} groups")

    @property
    def _drawn(self) -> str:
        if self.n_groups is None:
            return f"{self.n_rows:,} labelled rows"
        return f"{self.n_groups:,} groups with {self.n_rows:,} labelled rows, each group counting once"


_BEFORE_THE_LAST = "is answered before the last tier"


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What is tested along a walk, as events: from a point on, a row counts or no longer does, right or wrong.

    Parameters
    ----------
    unit, at
        Of each event: the code of the independent unit (a row, or a group), and the point from which on it holds.
    trials, errors
        What it adds to the number of units tested and to the sum of their shares of mistakes.
    rows, wrong
        Rows tested, and mistakes among them, at every point.
    share
        Of the rows that are kept at every point.
    n_units
        How many units there are.
    n_rows
        How many rows there are.
    threshold
        At every point, where what a threshold keeps is what is tested, and all rows of a unit at once; else None.
    """

    unit: Rows
    at: Rows
    trials: Floats
    errors: Floats
    rows: Rows
    wrong: Rows
    share: Floats
    n_units: int
    n_rows: int
    threshold: Floats | None = None

    @classmethod
    def of(
        cls,
        row: Rows,
        at: Rows,
        tested: Floats,
        wrong: Floats,
        *,
        share: Floats,
        groups: Rows | None,
        n_rows: int,
        threshold: Floats | None = None,
    ) -> Track:
        """Read what changes for rows, at points of a walk; at one point a row may change several times.

        Parameters
        ----------
        row, at
            Of each change, shape ``(n_changes,)``.
        tested, wrong
            What it adds to the row being tested, and a mistake, likewise.
        groups
            Codes by row; None where every row is independent of all others.
        """
        points = len(share)
        rows, mistakes = (np.round(_sums(at, values, points)).astype(np.intp) for values in (tested, wrong))
        if groups is None:
            return cls(row, at, tested, wrong, rows, mistakes, share, n_rows, n_rows, threshold)
        codes = np.unique(groups, return_inverse=True)[1]
        unit = codes[row]
        order = np.lexsort((at, unit))
        unit, at = unit[order], at[order]
        first = np.flatnonzero(np.diff(unit, prepend=-1))
        own = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(unit))))
        counts = []
        for values in (tested[order], wrong[order]):
            running = np.cumsum(values)
            counts.append(np.round(running - (running[first] - values[first])[own]))
        if (at != at[first][own]).any():  # rows of a unit are apart: what lies above a threshold is no draw of units
            threshold = None
        some = counts[0] > 0
        ratio = np.divide(counts[1], counts[0], out=np.zeros(len(unit)), where=some)

        def change(values: Floats) -> Floats:
            found = np.diff(values, prepend=0.0)
            found[first] = values[first]
            return found

        n_units = int(codes.max()) + 1 if len(codes) else 0
        trials, errors = change(some.astype(np.float64)), change(ratio)
        return cls(unit, at, trials, errors, rows, mistakes, share, n_units, n_rows, threshold)

    def counts(self, times: Rows | None = None) -> tuple[Floats, Floats]:
        """Return errors and trials at every point; `times`: how often each unit was drawn, None: once."""
        weight = 1.0 if times is None else times[self.unit]
        errors, trials = (_sums(self.at, values * weight, len(self.share)) for values in (self.errors, self.trials))
        return np.round(errors, 9), np.round(trials)


def run_along(errors: Floats, trials: Floats, plan: Sequence[Leg], *, risk: float, delta: float) -> list[Run]:
    """Test along each leg of a walk with its shares of δ; runs that meet are one, at the level of the one that ends it.

    All that the legs certify holds together; see `legs`.
    """
    found: list[Run] = []
    for run in sorted(
        run
        for begin, end in plan
        for run in fallback(errors[:end], trials[:end], [s for s in begin if s.at < end], risk=risk, delta=delta)
    ):
        if found and run.first <= found[-1].last + 1:
            before = found.pop()
            ends = max(before, run, key=lambda r: (r.last, r.level))
            found.append(Run(before.first, ends.last, ends.level))
        else:
            found.append(run)
    return found


def _sums(at: Rows, values: Floats, points: int) -> Floats:
    found: Floats = np.cumsum(np.bincount(at, values, minlength=points + 1)[:points])
    return found


class Leg(NamedTuple):
    """A part of a walk that is tested by itself: from where, and before which point it ends."""

    starts: list[Start]
    end: int


def legs(risk: str, track: Track, times: Rows | None = None, *, alpha: float, delta: float) -> list[Leg]:
    """Return how a walk is made, and the shares of δ; all of them come to at most 1.

    Parameters
    ----------
    times
        How often each unit was drawn; None: once.

    Notes
    -----
    A plain walk from the surest rows is best where the risk rises smoothly from them, a start at half of the rows where
    the surest are not much better than the rest, or worse. Which it is, the least sure rows tell: they are peeled off,
    and most of δ goes to a start among the others. Some is kept for starts among all rows, the peeled ones too. With
    few rows only the surest can pass: a plain walk. With many, or where what is kept are no independent rows, δ is
    shared out among fixed starts so that whatever is best loses little.
    """
    errors, trials = track.counts(times)
    last, n = len(track.share) - 1, int(trials[-1]) if len(trials) else 0
    least = least_trials(alpha, delta)
    if risk == SYSTEM:
        found = [Start(min(int(np.searchsorted(track.share, kept)), last), part) for kept, part in SYSTEM_STARTS]
        return [Leg(found, last + 1)]

    def at(wanted: Sequence[tuple[int, float]], rows: int = n) -> list[Start]:
        return sorted(Start(int(np.searchsorted(trials, min(k, rows))), part) for k, part in wanted)

    if n < FEW * least:
        return [Leg(at([(least, 1.0)]), last + 1)]
    found_above = (
        peel(errors, trials, track.threshold, alpha=alpha, level=PEELED * delta)
        if track.threshold is not None and n < MANY * least
        else None
    )
    if found_above is None:
        shares = [*_with_early(n, least_trials(alpha, delta * EARLY))]
        return [Leg(at([*_rounded(n, shares, alpha, delta), (n, KEEP_ALL)]), last + 1)]
    above = [(least_trials(alpha, delta * SUREST), SUREST), (found_above.start, PEELED)]
    return [
        Leg(at(above, found_above.left), int(np.searchsorted(trials, found_above.left, side="right"))),
        Leg(at([*_rounded(n, SELECTIVE_LATE, alpha, delta), (n, KEEP_ALL)]), last + 1),
    ]


def _rounded(n: int, shares: Sequence[tuple[float, float]], alpha: float, delta: float) -> list[tuple[int, float]]:
    """Return at how many rows to start, up to the least number that allows as many mistakes, which can only help."""
    found = []
    for kept, part in shares:
        depth = max(int(kept * n), least_trials(alpha, delta * part))
        allowed = most_errors(depth, alpha, delta * part)
        found.append((least_trials(alpha, delta * part, errors=allowed), part))
    return found


def _with_early(n: int, least: int) -> list[tuple[float, float]]:
    """Return shares of the rows and of δ, with early starts where many rows leave room for them."""
    (kept, part), *later = SELECTIVE_STARTS
    early: list[tuple[float, float]] = []
    before = kept * n
    while len(early) < MOST_EARLY and max(before / 4, least) <= before / 2:
        before = max(before / 4, least)
        early.append((before / n, EARLY))
    return [*early, (kept, part - EARLY * len(early)), *later]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A certified policy: a place along a walk."""

    walk: int
    run: Run

    @property
    def at(self) -> int:
        """Its index along the walk."""
        return self.run.last


class Walks:
    """Tests along one or more walks, and what came of them.

    Parameters
    ----------
    of
        Among how many walks δ is divided; their starts do not move when a walk comes to have more of it.
    """

    def __init__(self, alpha: float, delta: float, risk: str, *, of: int = 1) -> None:
        self.alpha, self.delta, self.risk, self.each = alpha, delta, risk, delta / of
        self.tested: list[tuple[str, Track, list[Leg]]] = []
        self.passed: list[Chosen] = []

    def add(self, name: str, track: Track) -> None:
        """Walk along policies, from the safest to the cheapest."""
        self.tested.append((name, track, legs(self.risk, track, alpha=self.alpha, delta=self.each)))
        self._walk(len(self.tested) - 1, self.each)

    def _walk(self, walk: int, delta: float) -> None:
        _, track, plan = self.tested[walk]
        runs = run_along(*track.counts(), plan, risk=self.alpha, delta=delta)
        self.passed = [c for c in self.passed if c.walk != walk] + [Chosen(walk, run) for run in runs]

    def _finished(self, walk: int) -> bool:
        """Whether all that was to be tested along a walk is certified: then it holds no mistake that could be made."""
        _, track, plan = self.tested[walk]
        whole = (min(leg.starts[0].at for leg in plan), len(track.share) - 1)
        return any(c.walk == walk and (c.run.first, c.run.last) == whole for c in self.passed)

    def share_out(self) -> None:
        """Give the δ of walks that are finished to the others in equal parts, until no further one is."""
        open_ = {i for i in range(len(self.tested)) if not self._finished(i)}
        before = len(self.tested)
        while 0 < len(open_) < before:
            before = len(open_)
            for walk in open_:
                self._walk(walk, self.each * len(self.tested) / before)
            open_ = {i for i in open_ if not self._finished(i)}

    def cheapest(self, walk: int | None = None) -> Chosen | None:
        """Return the certified policy that keeps most, along one of the walks or of all."""
        passed = [c for c in self.passed if walk is None or c.walk == walk]
        return max(passed, key=lambda c: float(self.tested[c.walk][1].share[c.at]), default=None)

    def part(self, chosen: Chosen, falling: Floats | None = None) -> Part:
        """Return the guarantee of a certified policy; `falling` are the thresholds along the walk, where it has one."""
        name, track, _ = self.tested[chosen.walk]
        errors, trials = (float(x[chosen.at]) for x in track.counts())
        rows, mistakes = int(track.rows[chosen.at]), int(track.wrong[chosen.at])
        low, high = (None, None) if falling is None else (float(falling[i]) for i in (chosen.at, chosen.run.first))
        grouped = None if track.n_units == track.n_rows else int(trials)
        bound = upper_bound(errors, trials, chosen.run.level)
        return Part(name, rows, mistakes, bound, chosen.run.level, low, high, groups=grouped)

    def rows_needed(self, walk: int | None = None, *, n_rows: int | None = None, seed: int = 0) -> int | None:
        """Return how many rows like these would certify something four times in five; None where no number would.

        The sample's units are drawn again, as many as are asked about, and walked along as the sample itself.

        Parameters
        ----------
        walk
            The one that is to certify; None: any.
        n_rows
            Of the whole sample, where walks are along parts of it.
        """
        rng = np.random.default_rng(seed)
        walks = [track for _, track, _ in self.tested] if walk is None else [self.tested[walk][1]]
        units, n_rows = walks[0].n_units, walks[0].n_rows if n_rows is None else n_rows

        def enough(n: int) -> bool:
            certified = 0
            for left in range(DRAWS, 0, -1):
                times = rng.multinomial(n, np.full(units, 1 / units))
                certified += any(self._certifies(track, times) for track in walks)
                if certified >= POWER * DRAWS or certified + left - 1 < POWER * DRAWS:
                    break  # it is decided
            return certified >= POWER * DRAWS

        low, high = units, units
        while not units or not enough(high):
            low, high = high, 2 * high
            if high > MOST * units:
                return None
        while high > 1.1 * low:
            middle = int(np.sqrt(low * high))
            low, high = (low, middle) if enough(middle) else (middle, high)
        return max(n_rows + 1, int(np.ceil(high * n_rows / units)))

    def _certifies(self, track: Track, times: Rows) -> bool:
        plan = legs(self.risk, track, times, alpha=self.alpha, delta=self.each)
        return bool(run_along(*track.counts(times), plan, risk=self.alpha, delta=self.each))

    def certificate(
        self, policy: Policy | None, part: Part | None, *, path: tuple[tuple[float, ...], ...] = ()
    ) -> Certificate:
        needed = self.rows_needed() if part is None else None
        track = self.tested[0][1]
        grouped = None if track.n_units == track.n_rows else track.n_units
        parts = () if part is None else (part,)
        return Certificate(
            self.risk, self.alpha, self.delta, policy, parts, (), needed, track.n_rows, path, n_groups=grouped
        )


def least_class_rows(sizes: Sequence[int] | Rows, *, alpha: float, delta: float) -> int:
    """Return how many rows a predicted class needs for a threshold of its own, when the classes that have it share δ.

    So many that a true risk of half of α is certified four times in five. Fewer rows would spend δ for nothing:
    such classes share one threshold. It depends on how many rows are predicted as each class, not on labels.

    Parameters
    ----------
    sizes
        Rows that each class is predicted on.
    """
    falling = sorted((int(n) for n in sizes), reverse=True)

    def needed(among: int) -> int:
        each, n = delta / among * (1 - KEEP_ALL), 1
        while True:
            n = max(least_trials(alpha, each), int(n * 1.05) + 1)
            if bdtr(most_errors(n, alpha, each), n, alpha / 2) >= POWER:
                return n

    for own in range(len(falling), 0, -1):
        least = needed(own + (own < len(falling)))
        if falling[own - 1] >= least:
            return least
    return needed(1)
