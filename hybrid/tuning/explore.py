"""Explore: every way of routing that the patterns declare, tried within a time, or dropped where a bound says so.

Ways come by how many tiers they have, few first. Each is tried on all rows, or where there are many first on a sample
of them; the most promising are then searched on all rows. A way is dropped where no thresholds at all could add a point
to the front of its pattern. Where the ways of one size are too many, only those are tried that become one of the best
of the size before when a tier is taken away; and the answer says that it is not proven best.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import product

import numpy as np

from hybrid.metrics.tally import bit_code
from hybrid.routing.engine import Policy, answering, defaults, parameters
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import Bools, Floats, Labels, Predictions, Rows, Tier
from hybrid.tuning.fronts import Front
from hybrid.tuning.goals import COST, WRONG, Goal
from hybrid.tuning.pairs import PairSearch
from hybrid.tuning.search import Found, best_of, key_of, search, sketch
from hybrid.tuning.states import placed, states_of

MOST, SAMPLE = 4_000, 2_000  # rows up to which ways are tried on all, and of the sample that they are tried on first
SKETCH, WHOLE, PROOF = 0.55, 0.8, 0.9  # shares of the time until which ways are tried, searched on all rows, and proven
LEAST_WHOLE = 6  # ways that are searched on all rows even when the time is over
FULL = 40  # ways that are searched on all rows where there are more, beside those on a front of the sample
BEAM = 12  # ways of a size that larger ones are made from
MANY = 150  # ways of a pattern and size up to which all are tried
FREE = 3  # tiers up to which all ways are tried, however many


@dataclass(frozen=True, slots=True)
class Effort:
    """What a search looked at.

    Parameters
    ----------
    ways
        How many the patterns declare.
    tried
        How many were searched.
    dropped
        How many a bound showed to add nothing.
    left
        How many were left out: there were too many of that size, the time was over, or it was broken off.
    sketched
        Of those tried, how many on a sample of the rows only.
    """

    ways: int
    tried: int
    dropped: int
    left: int
    sketched: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class RowSet:
    """The rows that the same tiers answered.

    Parameters
    ----------
    rows
        Their places in the whole table.
    sample
        Some of them, where they are many, else all: places in `rows`.
    """

    rows: Rows
    predictions: Predictions
    truth: Labels
    sample: Rows
    codes: Rows  # how many rows have each set of tiers that are right, tier j as bit j
    mean: Floats  # USD of each tier
    least: Floats  # USD of each tier on the row where it is cheapest

    @classmethod
    def of(cls, rows: Rows, predictions: Predictions, truth: Labels, seed: int) -> RowSet:
        """Take some rows of a table."""
        part, true = predictions.take(rows), truth[rows]
        n = len(rows)
        sample = np.arange(n)
        if n > MOST:
            sample = np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False))
        right = [part.label[:, j] == true for j in range(len(part.tiers))]
        code = np.zeros(n, dtype=np.int64)
        for start in range(0, len(right), 8):
            code |= bit_code(right[start : start + 8]).astype(np.int64) << start
        found, counts = np.unique(code, return_counts=True)
        paid = part.cost if n else np.zeros((1, len(right)))  # of tiers that nobody asked about the same row
        return cls(rows, part, true, sample, np.stack([found, counts]), paid.mean(axis=0), paid.min(axis=0))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sampled(self) -> bool:
        """Whether the sample is only a part."""
        return len(self.sample) < len(self.rows)

    def right(self, columns: Sequence[int]) -> float:
        """Return the share of rows on which any of these tiers is right."""
        mask = sum(1 << j for j in columns)
        return float(self.codes[1][(self.codes[0] & mask) != 0].sum() / max(1, len(self)))


@dataclass(slots=True, eq=False)
class Try:
    """A way that was tried, with its best thresholds for the goal.

    Parameters
    ----------
    on
        The rows that its tiers answered.
    n_rows
        How many of them it was tried on.
    settled
        Whether no other thresholds of this way are better than the best of all ways: they were found exactly, or shown
        by a bound.
    """

    policy: Policy
    pattern: str
    on: RowSet
    found: Found
    key: tuple[float, float, float]
    n_rows: int
    settled: bool

    @property
    def whole(self) -> bool:
        """Whether it was tried on all of its rows."""
        return self.n_rows == len(self.on)

    @property
    def mean(self) -> Floats:
        """The goal's measures a row: cost, wrong, and the rest."""
        mean: Floats = self.found.sums / self.n_rows
        return mean

    def placed(self, values: Floats) -> Policy:
        """Return the policy at a point of its front; without values, at its best for the goal."""
        lines = [line for line in self.policy.thresholds() if line.value is not None]
        return placed(self.policy, lines, values.tolist()) if len(values) == len(lines) else self.found.policy


@dataclass(slots=True, eq=False)
class Explorer:
    """A search over ways; `run` it once.

    Parameters
    ----------
    table, truth
        Every tier; a cell that was not asked is nan.
    order
        Names of the tiers from cheap to dear; None: by what they cost on these rows.
    """

    table: Predictions
    truth: Labels
    goal: Goal
    seconds: float
    progress: Callable[[Explorer], None] | None = None
    cancel: Callable[[], bool] | None = None
    seed: int = 0
    tries: list[Try] = field(default_factory=list)
    fronts: dict[tuple[str, int], Front] = field(default_factory=dict)
    ways: int = 0
    dropped: int = 0
    left: int = 0
    _known: dict[_Way, Try] = field(default_factory=dict)
    _sets: dict[bytes, RowSet] = field(default_factory=dict)
    _start: float = field(default_factory=time.perf_counter)

    @property
    def effort(self) -> Effort:
        """What was looked at so far."""
        sketched = sum(not t.whole for t in self.tries)
        return Effort(self.ways, len(self.tries), self.dropped, self.left, sketched, self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def over(self, share: float = 1.0) -> bool:
        """Whether to stop: this share of the time is over, or somebody wants it."""
        return self.elapsed > share * self.seconds or (self.cancel is not None and self.cancel())

    def run(self, ways: Iterable[Policy], *, known: Iterable[Policy] = ()) -> None:
        """Try the ways, then settle the most promising.

        Parameters
        ----------
        known
            What was found before: tried first, so that no lack of time loses it.
        """
        self._know(known)
        by_size: dict[tuple[str, int], list[Policy]] = {}
        size = 0
        for way in ways:
            self.ways += 1
            if size_of(way) != size:
                self._try_all(by_size)
                by_size, size = {}, size_of(way)
            by_size.setdefault((name_of(way), size), []).append(way)
        self._try_all(by_size)
        for t in self._known.values():  # there was no time to come to them
            self.tries.append(t)
            if self.left:
                self.left -= 1
            else:  # its pattern does not declare it
                self.ways += 1
        self._settle()

    def _know(self, known: Iterable[Policy]) -> None:
        """Try what was found before; each then waits for its turn, so that with time enough nothing depends on it."""
        for policy in known:
            way, on = way_of(policy), self.rows_of(policy)
            if len(on) and _key_of(way) not in self._known and not (self._known and self.over(SKETCH)):
                self._search(way, name_of(way), on, sample=on.sampled)
                self._known[_key_of(way)] = self.tries.pop()

    def rows_of(self, policy: Policy) -> RowSet:
        """Return the rows that all tiers of a policy answered."""
        asked: Bools = np.ones(self.table.n_rows, dtype=bool)
        for name in policy.names:
            asked &= ~np.isnan(self.table.confidence[:, self.table.index(name)])
        key = asked.tobytes()
        if key not in self._sets:
            self._sets[key] = RowSet.of(np.flatnonzero(asked), self.table, self.truth, self.seed)
        return self._sets[key]

    def best(self) -> Try | None:
        """Return the best of those tried so far, those on all rows first."""
        whole = [t for t in self.tries if t.whole] or self.tries
        return min(whole, key=lambda t: t.key) if whole else None

    def _try_all(self, by_size: dict[tuple[str, int], list[Policy]]) -> None:
        chosen = [(name, way) for (name, size), ways in by_size.items() for way in self._beam(name, size, ways)]
        if len(chosen) > MANY:  # the time may not do for all: those first that the best of fewer tiers are in
            best: dict[frozenset[Tier], tuple[float, float, float]] = {}
            for t in sorted(self.tries, key=_key):
                best.setdefault(frozenset(answering(t.policy.tiers)), t.key)
            chosen.sort(key=lambda way: _promise(way[1], best))
            nth: Counter[str] = Counter()

            def can_wait(way: tuple[str, Policy]) -> bool:
                nth[way[0]] += 1
                return nth[way[0]] > BEAM

            chosen.sort(key=can_wait)  # no pattern goes without
        for name, way in chosen:
            if self.tries and self.over(SKETCH):
                self.left += 1
                continue
            self._sketch(way, name)
            if self.progress is not None:
                self.progress(self)

    def _beam(self, name: str, size: int, ways: list[Policy]) -> list[Policy]:
        """Return the ways of a size that are tried; the others are counted as left out."""
        if size <= FREE or len(ways) <= MANY:
            return ways
        before = sorted((t for t in self.tries if t.pattern == name and size_of(t.policy) == size - 1), key=_key)
        parents = {frozenset(answering(t.policy.tiers)) for t in before[:BEAM]}
        chosen = [w for w in ways if any(frozenset(answering(w.tiers)) - {t} in parents for t in w.tiers)]
        self.left += len(ways) - len(chosen)
        return chosen

    def _sketch(self, way: Policy, name: str) -> None:
        """Try a way on its rows, or on a sample of them."""
        known = self._known.pop(_key_of(way), None) if self._known else None
        if known is not None:
            self.tries.append(known)
            return
        on = self.rows_of(way)
        if not len(on):
            self.dropped += 1
            return
        front = self.fronts.setdefault((name, id(on)), Front())
        if not on.sampled and not self._may_add(way, on, front):
            self.dropped += 1
            return
        self._search(way, name, on, sample=on.sampled)

    def _may_add(self, way: Policy, on: RowSet, front: Front) -> bool:
        """Whether some thresholds of a way may lie before a front.

        What is asked of every row is paid for on every row; each further right answer costs at least what the cheapest
        of the other tiers costs on its cheapest row; and where no tier is right nothing is.
        """
        if not self.goal.by_cost_and_wrong:
            return True  # a point behind the front may be quicker, or make cheaper mistakes
        if way.scope is not None:
            return True  # what is set aside may be right without a tier that is
        unasked = Predictions.unasked(way.tiers, (), 1)
        first = way.wants(unasked)[0]
        columns = [on.predictions.index(n) for n in way.names]
        now = [j for j, asked in zip(columns, first, strict=True) if asked]
        gates = [t.kind == "gate" for t in way.tiers]  # that are asked later gain nothing by themselves
        later = [j for j, asked, gate in zip(columns, first, gates, strict=True) if not asked and not gate]
        price = float(on.least[later].min()) if later else 0.0
        return front.may_take(float(on.mean[now].sum()), on.right(now), price, on.right(columns))

    def _search(self, way: Policy, name: str, on: RowSet, *, sample: bool) -> None:
        """Search a way and put its points on the front of its pattern."""
        table, truth = on.predictions, on.truth
        if sample:
            table, truth = table.take(on.sample), truth[on.sample]
        n = len(truth)
        caps = self.goal.caps(n)
        states = states_of(way, table, truth, self.goal)
        if states is None:
            found = search(way, table, truth, self.goal)
            self.tries.append(Try(way, name, on, found, self._key(found, n), n, False))
            return
        found, values, sums = sketch(states, self.goal, caps)
        done = Try(way, name, on, found, self._key(found, n), n, found.exact)
        self.tries.append(done)
        self.fronts.setdefault((name, id(on)), Front()).add(sums[COST] / n, sums[WRONG] / n, done, values)

    def _key(self, found: Found, n_rows: int) -> tuple[float, float, float]:
        """Return what is compared between ways, whatever number of rows they were tried on."""
        return key_of(found.totals / n_rows, self.goal.caps(n_rows) / n_rows)

    def _settle(self) -> None:
        """Search the most promising ways on all rows and to the end."""
        sketched = [t for t in self.tries if not t.whole]
        if sketched:
            on_front = {id(t) for f in self.fronts.values() for t in f.owners()}
            for key in [k for k, f in self.fronts.items() if any(not t.whole for t in f.owners())]:
                del self.fronts[key]
            sketched.sort(key=_key)
            first = sketched[:FULL] + [t for t in sketched[FULL:] if id(t) in on_front]
            for k, t in enumerate(first):
                if k >= LEAST_WHOLE and self.over(WHOLE):
                    break
                self.tries.remove(t)
                self._search(t.policy, t.pattern, t.on, sample=False)
                if self.progress is not None:
                    self.progress(self)
        best: dict[int, Try] = {}
        for t in sorted((t for t in self.tries if t.whole), key=_key):
            best.setdefault(id(t.on), t)
        for t in sorted((t for t in self.tries if t.whole and not t.settled), key=_key):
            if self.over(PROOF):
                break
            self._prove(t, best[id(t.on)].found.totals)
            best[id(t.on)] = min(best[id(t.on)], t, key=_key)
            if self.progress is not None:
                self.progress(self)

    def _prove(self, t: Try, rival: Floats) -> None:
        """Find the best of a way exactly, or show that it cannot beat the best way so far."""
        on, goal = t.on, self.goal
        caps = goal.caps(len(on))
        states = states_of(t.policy, on.predictions, on.truth, goal)
        if states is None:
            return
        how = "exact: a bound shows that no other thresholds are better"
        if len(states.lines) == 2:
            found = best_of(states, goal, caps, beat=rival)
            t.settled, how = found.exact, found.method
            self._improve(t, found)
        else:
            # after two thresholds a row ends where each measure by itself is least: none of the rest can beat that
            rest = states.terms[2:].min(axis=0)
            relaxed = replace(
                states, lines=states.lines[:2], gauges=states.gauges[:2], terms=np.stack([*states.terms[:2], rest])
            )
            _, sums, proven = PairSearch(relaxed, goal.rows, caps).refined(beat=rival)
            t.settled = proven and not key_of(sums[goal.rows], caps) < key_of(rival, caps)
            if not t.settled:
                self._improve(t, best_of(states, goal, caps))
        if t.settled and t.key <= key_of(rival / len(on), caps / len(on)):
            t.found = replace(t.found, exact=True, method=how)
        elif t.found.exact:  # it does not beat the best way, but may have better thresholds of its own
            t.found = replace(t.found, exact=False, method="the best pair of thresholds looked into; not proven best")

    def _improve(self, t: Try, found: Found) -> None:
        """Take thresholds that were found where they are better."""
        key = self._key(found, len(t.on))
        if key < t.key:
            t.found, t.key = found, key


def _promise(way: Policy, best: dict[frozenset[Tier], tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Return what the best ways of one tier less do, the best first; less is better."""
    tiers = frozenset(answering(way.tiers))
    never = (np.inf, np.inf, np.inf)
    return sorted(best.get(tiers - {t}, never) for t in tiers)


def _key(t: Try) -> tuple[float, float, float]:
    return t.key


def name_of(policy: Policy) -> str:
    """Return a pattern's name in the registry."""
    return next(name for name, kind in PATTERNS.items() if kind is type(policy.pattern))


_Way = tuple[str, tuple[str, ...], tuple[object, ...]]


def way_of(policy: Policy) -> Policy:
    """Return a policy with its thresholds at the defaults, as its pattern declares the way."""
    values = parameters(policy.pattern)
    kept = {p.name: values[p.name] for p in policy.pattern.params() if p.choices or (p.threshold and p.optional)}
    return replace(policy, pattern=defaults(type(policy.pattern), policy.own, **kept))


def _key_of(way: Policy) -> _Way:
    """Return what is the same of a way whatever its thresholds are: pattern, tiers, and what else is chosen."""
    values = parameters(way.pattern)
    fixed = (values[p.name] if p.choices else values[p.name] is None for p in way.pattern.params() if not p.per_class)
    return name_of(way), way.names, tuple(fixed)


def size_of(policy: Policy) -> int:
    """Return how many tiers a policy has, its gates counted as one, and what scores the scope not at all."""
    return sum(not t.scores for t in policy.tiers) + policy.pattern.gate_first


def from_cheap(table: Predictions, order: Sequence[str] | None) -> tuple[Tier, ...]:
    """Return the tiers that answered some row from cheap to dear, by what they cost there; or in the order given."""
    asked = table.asked
    cost = [float(table.cost[asked[:, j], j].mean()) if asked[:, j].any() else np.nan for j in range(len(table.tiers))]
    there = [j for j in range(len(cost)) if not np.isnan(cost[j])]
    if order is None:
        there.sort(key=lambda j: cost[j])
    else:
        place = {name: k for k, name in enumerate(order)}
        there.sort(key=lambda j: place.get(table.tiers[j].name, len(place)))
    return tuple(table.tiers[j] for j in there)


def every_way(tiers: Sequence[Tier]) -> Iterator[Policy]:
    """Yield every way of routing that the patterns declare for these tiers, those of few tiers first.

    Parameters
    ----------
    tiers
        From cheap to dear, gates among them.
    """
    yield from merge(*(kind.ways(tiers) for kind in PATTERNS.values()), key=size_of)


def one_way(policy: Policy) -> Iterator[Policy]:
    """Yield a policy with every choice of what is not a threshold, and every optional threshold off and on."""
    options: dict[str, tuple[object, ...]] = {}
    for p in policy.pattern.params():
        if p.choices:
            options[p.name] = p.choices
        elif p.threshold and p.optional:
            options[p.name] = (None, 1.0) if len(policy.own) > 2 else (None,)  # a judge needs two members
    for values in product(*options.values()):
        chosen = dict(parameters(policy.pattern)) | dict(zip(options, values, strict=True))
        yield replace(policy, pattern=type(policy.pattern)(**chosen))
