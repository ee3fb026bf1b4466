"""Search: the best thresholds of one policy for a goal, exact over all distinct values where the pattern allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hybrid.routing.engine import Policy, Threshold, parameters
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, Floats, Labels, Predictions
from hybrid.tuning.fronts import Group, merge_groups, pareto
from hybrid.tuning.goals import COST, WRONG, Goal, best, violation
from hybrid.tuning.pairs import PairSearch
from hybrid.tuning.states import States, of_replay, placed, scan, states_of

MIN_CLASS_ROWS = 50  # predicted rows below which a class shares the common threshold
ROUNDS = 20  # of the coordinate search
PRICES = 7  # of a wrong answer, that a front of three thresholds and more is made from
STARTS = (0.0, 0.5, 0.8, NEVER)  # of all thresholds alike


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A policy with its thresholds set, and how it was found.

    `sums` are of all of the goal's measures; `totals` of those that the choice is made by, as from `Goal.terms`.
    """

    policy: Policy
    sums: Floats
    totals: Floats
    method: str
    exact: bool

    def key(self, caps: Floats) -> tuple[float, float, float]:
        """Return what is compared between policies: limits first, then the aim, then the tie-break."""
        return key_of(self.totals, caps)


def key_of(totals: Floats, caps: Floats) -> tuple[float, float, float]:
    """Return what is compared between policies, of the sums that a choice is made by."""
    return (float(violation(totals[:, None], caps)[0]), float(totals[0]), float(totals[1]))


def search(
    policy: Policy, predictions: Predictions, truth: Labels, goal: Goal, *, weights: Floats | None = None
) -> Found:
    """Set a policy's thresholds for a goal; its other parameters stay.

    Parameters
    ----------
    predictions, truth
        Rows that every tier of the policy has answered.
    weights
        How often each row counts, shape ``(n_rows,)``; None: once. With weights, which resampling uses, thresholds
        that depend on each other are searched on a lattice and not refined.
    """
    policy = with_classes(policy, ())
    states = states_of(policy, predictions, truth, goal)
    caps = goal.caps(float(len(truth) if weights is None else weights.sum()))
    if states is None:
        replays = _Replays(policy, predictions, truth, goal, weights)
        return _descend(replays, goal, caps, [[s] * len(replays.lines) for s in STARTS])
    if weights is not None:
        states = states.weighted(weights)
    return best_of(states, goal, caps, refine=weights is None)


def best_of(
    states: States,
    goal: Goal,
    caps: Floats,
    *,
    refine: bool = True,
    beat: Floats | None = None,
    starts: Sequence[float] = STARTS,
) -> Found:
    """Set the thresholds of a policy whose states are known.

    Parameters
    ----------
    refine
        Whether two thresholds are searched exactly, or on a lattice only.
    beat
        Totals that are reached elsewhere: what cannot beat them need not be looked into; see `PairSearch.refined`.
    starts
        Of the search of three thresholds and more.
    """
    if not states.lines:
        sums = states.terms[0].sum(axis=1)
        return Found(states.policy, sums, sums[goal.rows], "nothing to search: no threshold", True)
    if len(states.lines) == 1:
        thresholds, totals = scan(states.gauges[0], states.terms[0], states.terms[1])
        i = best(totals[goal.rows], caps)
        method = f"exact over all {len(thresholds):,} distinct thresholds"
        return Found(states.placed([thresholds[i]]), totals[:, i], totals[goal.rows, i], method, True)
    if len(states.lines) == 2:
        return _two(states, goal, caps, refine=refine, beat=beat)
    return _descend(states, goal, caps, [[s] * len(states.lines) for s in starts])


def _two(states: States, goal: Goal, caps: Floats, *, refine: bool, beat: Floats | None) -> Found:
    pairs = PairSearch(states, goal.rows, caps)
    if not refine:
        axes, totals, exact = pairs.on_lattice()
        i, j = (int(x) for x in np.unravel_index(best(totals[goal.rows], caps), totals.shape[1:]))
        values, sums = (float(axes[0][i]), float(axes[1][j])), totals[:, i, j]
    else:
        values, sums, exact = pairs.refined(beat=beat)
    n = totals[0].size if not refine else pairs.n_pairs
    method = (
        f"exact over all {pairs.n_pairs:,} pairs of distinct thresholds"
        if exact
        else f"best of {n:,} pairs of thresholds, the most promising of the rest looked into; not proven best"
    )
    return Found(states.placed(values), sums, sums[goal.rows], method, exact)


class _Scanned(Protocol):
    """What tells the sums at every value of one threshold, the others held."""

    @property
    def policy(self) -> Policy: ...

    @property
    def lines(self) -> tuple[Threshold, ...]: ...

    def scan(self, line: int, values: Sequence[float]) -> tuple[Floats, Floats]: ...


class _Replays:
    """The sums of a pattern that does not say where rows can end: two replays for each line that is scanned."""

    def __init__(
        self, policy: Policy, predictions: Predictions, truth: Labels, goal: Goal, weights: Floats | None
    ) -> None:
        self.policy = policy
        self.lines = tuple(line for line in policy.thresholds() if line.value is not None)
        self._on = predictions, truth, goal
        self._counts = np.ones(len(truth)) if weights is None else weights

    def scan(self, line: int, values: Sequence[float]) -> tuple[Floats, Floats]:
        """Return every distinct value of one threshold and the sums there, the others held."""
        edges = []
        for edge in (0.0, NEVER):
            moved = [edge if k == line else v for k, v in enumerate(values)]
            edges.append(of_replay(placed(self.policy, self.lines, moved), *self._on) * self._counts)
        at = self.lines[line]
        now = placed(self.policy, self.lines, values)
        gauge = now.gauge(self._on[0].select(now.names), at.name, at.index)
        return scan(gauge, edges[0], edges[1])


def _descend(on: _Scanned, goal: Goal, caps: Floats, starts: Sequence[Sequence[float]]) -> Found:
    """Move one threshold after the other to its best, from several starts, until none moves."""
    found: list[tuple[tuple[float, float, float], list[float], Floats]] = []
    for start in starts:
        values, before = list(start), None
        for _ in range(ROUNDS):
            for k in range(len(values)):
                thresholds, totals = on.scan(k, values)
                i = best(totals[goal.rows], caps)
                values[k], sums = float(thresholds[i]), totals[:, i]
            now = key_of(sums[goal.rows], caps)
            if before is not None and now >= before:
                break
            before = now
        found.append((now, values, sums))
    _, values, sums = min(found, key=lambda f: f[0])
    begun = f"{len(found)} starts" if len(found) > 1 else "a point of the front"
    method = f"one threshold after the other over all distinct values, from {begun}; not proven best"
    return Found(placed(on.policy, on.lines, values), sums, sums[goal.rows], method, False)


def sketch(states: States, goal: Goal, caps: Floats) -> tuple[Found, Floats, Floats]:
    """Set the thresholds for a goal, quickly, and follow the front of cost and wrong answers on the way.

    Returns
    -------
    found
        As of `best_of`, two thresholds on a lattice.
    values, sums
        Thresholds from cheap to accurate, shape ``(n_points, n_lines)``, and the measures' sums there. Of one threshold
        every point of the front; of two the front of a lattice; of more the points that a rising price of a wrong
        answer leads to, each threshold in turn at its best.
    """
    if not states.lines:
        found = best_of(states, goal, caps)
        return found, np.zeros((1, 0)), found.sums[:, None]
    if len(states.lines) > 2:
        return _sketch_many(states, goal, caps)
    if len(states.lines) == 1:
        thresholds, sums = scan(states.gauges[0], states.terms[0], states.terms[1])
        values, exact = thresholds[:, None], True
        method = f"exact over all {len(thresholds):,} distinct thresholds"
    else:
        pairs = PairSearch(states, goal.rows, caps)
        axes, totals, exact = pairs.on_lattice()
        values = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        sums = totals.reshape(len(totals), -1)
        method = f"exact over all {pairs.n_pairs:,} pairs of distinct thresholds"
        if not exact:
            method = f"best of {len(values):,} pairs of thresholds; not proven best"
    at = best(sums[goal.rows], caps)
    found = Found(states.placed(values[at].tolist()), sums[:, at], sums[goal.rows, at], method, exact)
    kept = pareto(sums[COST], sums[WRONG])
    return found, values[kept], sums[:, kept]


def _sketch_many(states: States, goal: Goal, caps: Floats) -> tuple[Found, Floats, Floats]:
    dearest = float(states.terms[:, COST].max()) or 1.0
    values, found, sums = [0.0] * len(states.lines), [], []
    for price in dearest * np.geomspace(0.1, 50, PRICES):
        for k in range(len(values)):
            thresholds, totals = states.scan(k, values)
            at = int(np.argmin(totals[COST] + price * totals[WRONG]))
            values[k] = float(thresholds[at])
        found.append(list(values))
        sums.append(totals[:, at])
    along = np.stack(sums, axis=1)
    start = found[best(along[goal.rows], caps)]
    return _descend(states, goal, caps, [start]), np.array(found), along


def search_by_class(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    goal: Goal,
    *,
    weights: Floats | None = None,
    min_rows: int = MIN_CLASS_ROWS,
    pull: float = 0.0,
) -> Found:
    """Set a threshold of triage for each predicted class; classes with too few rows share the common one.

    Parameters
    ----------
    min_rows
        Rows on which the cheap tier predicts a class, below which it shares.
    pull
        Rows of the pool that are added to each class, as it were, when its threshold is chosen: the fewer rows a class
        has of its own, the more its threshold is drawn to the pool's.
    """
    policy = with_classes(policy, ())
    states = states_of(policy, predictions, truth, goal)
    assert states is not None  # triage has one threshold
    caps = goal.caps(float(len(truth) if weights is None else weights.sum()))
    predicted = predictions.label[:, predictions.index(policy.own[0].name)]
    if weights is not None:
        states = states.weighted(weights)
    n_classes = len(predictions.classes)
    return by_class(states, predicted, n_classes, goal, caps, exact=weights is None, min_rows=min_rows, pull=pull)


def by_class(
    states: States,
    predicted: Labels,
    n_classes: int,
    goal: Goal,
    caps: Floats,
    *,
    exact: bool = True,
    min_rows: int = MIN_CLASS_ROWS,
    pull: float = 0.0,
) -> Found:
    """Set a threshold for each predicted class of a triage whose states are known; see `search_by_class`.

    Parameters
    ----------
    predicted
        Class codes of the first tier, shape ``(n_rows,)``.
    """
    gauge, (kept, passed) = states.gauges[0], states.terms[:, goal.rows]
    sizes = np.bincount(predicted[predicted >= 0], minlength=n_classes)
    own = np.flatnonzero(sizes >= min_rows)
    shared = ~np.isin(predicted, own)
    members = [predicted == c for c in own] + ([shared] if shared.any() else [])
    groups = [Group(*scan(gauge[m], kept[:, m], passed[:, m])) for m in members]
    if pull:
        pool, sums = scan(gauge, kept, passed)
        mean = sums / len(gauge)
        groups = [
            Group(g.thresholds, g.totals + pull * mean[:, np.searchsorted(pool, g.thresholds)], g.totals)
            for g in groups
        ]
    merged = merge_groups(groups, caps, exact=exact and not pull)
    values = [float(g.thresholds[i]) for g, i in zip(groups, merged.picked, strict=True)]
    common = values[-1] if shared.any() else NEVER
    found: list[float | None] = [None] * n_classes
    for c, value in zip(own, values, strict=False):
        found[c] = value
    pooled = "" if not shared.any() else f"; {int((sizes < min_rows).sum())} classes with few rows share one"
    drawn = f"; each drawn to the pool as by {pull:g} rows of it" if pull else ""
    policy = with_classes(states.placed([common]), tuple(found))
    return Found(
        policy,
        of_classes(states, policy, predicted).sum(axis=1),
        merged.totals,
        f"{merged.method} over all distinct thresholds of {len(own)} predicted classes{pooled}{drawn}",
        merged.exact and not pull,
    )


def of_classes(states: States, policy: Policy, predicted: Labels) -> Floats:
    """Return the measures of each row under a triage with a threshold for each predicted class."""
    assert isinstance(policy.pattern, Triage)
    kept = states.gauges[0] >= policy.pattern.threshold_of(predicted)
    found: Floats = np.where(kept, states.terms[0], states.terms[1])
    return found


def with_classes(policy: Policy, by_class: tuple[float | None, ...]) -> Policy:
    """Return triage with these thresholds of its predicted classes; other patterns as they are."""
    if not isinstance(policy.pattern, Triage) or policy.pattern.by_class == by_class:
        return policy
    return replace(policy, pattern=replace(policy.pattern, by_class=by_class))


def thresholds_of(policy: Policy) -> dict[str, float]:
    """Return all numbers that a search sets, by a name that tells them apart; a class under its code."""
    found = {line.title: line.value for line in policy.thresholds() if line.value is not None}
    own = parameters(policy.pattern).get("by_class") or ()
    return found | {f"class {code}": value for code, value in enumerate(own) if value is not None}
