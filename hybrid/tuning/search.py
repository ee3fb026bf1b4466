"""Search: the best thresholds of one policy for a goal, exact over all distinct values where the pattern allows.

Everything is a sum over rows, and a row meets a threshold in one comparison, ``gauge >= threshold``: two replays per
threshold, one with every row kept and one with every row passed on, tell every sum at every threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.metrics.curve import with_threshold
from hybrid.metrics.flips import chain_of_three
from hybrid.metrics.order import above
from hybrid.routing.engine import Policy, Threshold, parameters, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, Floats, Labels, Predictions
from hybrid.tuning.fronts import Group, merge_groups
from hybrid.tuning.goals import CHEAPEST, MOST_ACCURATE, Goal, best, violation
from hybrid.tuning.pair_search import Goal as Wanted
from hybrid.tuning.pair_search import best_pair
from hybrid.tuning.pairs import PairSearch

MIN_CLASS_ROWS = 50  # predicted rows below which a class shares the common threshold
ROUNDS = 20  # of the coordinate search


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A policy with its thresholds set, and how it was found; `totals` as summed from `Goal.terms`."""

    policy: Policy
    totals: Floats
    method: str
    exact: bool

    def key(self, caps: Floats) -> tuple[float, float, float]:
        """Return what is compared between policies: limits first, then the aim, then the tie-break."""
        over = float(violation(self.totals[:, None], caps)[0])
        return (over, float(self.totals[0]), float(self.totals[1]))


def scan(gauge: Floats, kept: Floats, passed: Floats) -> tuple[Floats, Floats]:
    """Return every distinct threshold and the sums at it.

    Parameters
    ----------
    gauge
        What the threshold is compared with, shape ``(n_rows,)``.
    kept, passed
        Terms of each row if it is kept and if it is passed on, shape ``(n_terms, n_rows)``.

    Returns
    -------
    thresholds, totals
        Ascending, ending with one that passes all on (1 or `NEVER`); and shape ``(n_terms, n_thresholds)``.

    Examples
    --------
    >>> scan(np.array([0.5, 0.9]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    (array([0.5, 0.9, 1. ]), array([[1., 0., 1.]]))
    """
    order = np.argsort(gauge, kind="stable")
    ascending = gauge[order]
    thresholds = np.union1d(ascending, [above(float(ascending[-1]) if len(ascending) else 0.0)])
    below = np.searchsorted(ascending, thresholds, side="left")
    change = np.cumsum((passed - kept)[:, order], axis=1)
    moved = np.concatenate([np.zeros((len(kept), 1)), change], axis=1)
    return thresholds, kept.sum(axis=1)[:, None] + moved[:, below]


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
    lines = [line for line in policy.thresholds() if line.value is not None]
    counts = np.ones(len(truth)) if weights is None else weights
    caps = goal.caps(float(counts.sum()))
    if not lines:
        totals = (goal.terms(replay(policy, predictions), truth) * counts).sum(axis=1)
        return Found(policy, totals, "nothing to search: no threshold", True)
    policy = with_classes(policy, ())
    if len(lines) == 1:
        return _one(policy, lines[0], predictions, truth, goal, counts, caps)
    if len(lines) == 2:
        found = _best_cascade(policy, predictions, truth, goal) if weights is None else None
        if found is not None:
            return found
        return _two(policy, lines, predictions, truth, goal, counts, caps, refine=weights is None)
    return _many(policy, lines, predictions, truth, goal, counts, caps)


def search_by_class(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    goal: Goal,
    *,
    weights: Floats | None = None,
    min_rows: int = MIN_CLASS_ROWS,
) -> Found:
    """Set a threshold of triage for each predicted class; classes with too few rows share the common one.

    Parameters
    ----------
    min_rows
        Rows on which the cheap tier predicts a class, below which it shares.
    """
    counts = np.ones(len(truth)) if weights is None else weights
    caps = goal.caps(float(counts.sum()))
    policy = with_classes(policy, ())
    gauge, kept, passed = _sides(policy, policy.thresholds()[0], predictions, truth, goal, counts)
    predicted = predictions.label[:, predictions.index(policy.names[0])]
    sizes = np.bincount(predicted[predicted >= 0], minlength=len(predictions.classes))
    own = np.flatnonzero(sizes >= min_rows)
    shared = ~np.isin(predicted, own)
    members = [predicted == c for c in own] + ([shared] if shared.any() else [])
    groups = [Group(*scan(gauge[m], kept[:, m], passed[:, m])) for m in members]
    merged = merge_groups(groups, caps, exact=weights is None)
    values = [float(g.thresholds[i]) for g, i in zip(groups, merged.picked, strict=True)]
    common = values[-1] if shared.any() else NEVER
    by_class: list[float | None] = [None] * len(predictions.classes)
    for c, value in zip(own, values, strict=False):
        by_class[c] = value
    pooled = "" if not shared.any() else f"; {int((sizes < min_rows).sum())} classes with few rows share one"
    return Found(
        with_classes(with_threshold(policy, "threshold", None, common), tuple(by_class)),
        merged.totals,
        f"{merged.method} over all distinct thresholds of {len(own)} predicted classes{pooled}",
        merged.exact,
    )


def _sides(
    policy: Policy, line: Threshold, predictions: Predictions, truth: Labels, goal: Goal, counts: Floats
) -> tuple[Floats, Floats, Floats]:
    kept, passed = (with_threshold(policy, line.name, line.index, edge) for edge in (0.0, NEVER))
    gauge = kept.pattern.gauge(predictions.select(policy.names), line.name, line.index)
    terms = [goal.terms(replay(p, predictions), truth) * counts for p in (kept, passed)]
    return gauge, terms[0], terms[1]


def _one(
    policy: Policy,
    line: Threshold,
    predictions: Predictions,
    truth: Labels,
    goal: Goal,
    counts: Floats,
    caps: Floats,
) -> Found:
    thresholds, totals = scan(*_sides(policy, line, predictions, truth, goal, counts))
    i = best(totals, caps)
    return Found(
        with_threshold(policy, line.name, line.index, float(thresholds[i])),
        totals[:, i],
        f"exact over all {len(thresholds):,} distinct thresholds",
        True,
    )


def _two(
    policy: Policy,
    lines: Sequence[Threshold],
    predictions: Predictions,
    truth: Labels,
    goal: Goal,
    counts: Floats,
    caps: Floats,
    *,
    refine: bool,
) -> Found:
    one, two = lines
    corners = np.stack(
        [
            np.stack(
                [
                    goal.terms(replay(_at(policy, lines, (a, b)), predictions), truth) * counts
                    for b in (0.0, NEVER)  # each row kept by the second threshold, then passed on
                ]
            )
            for a in (0.0, NEVER)
        ]
    )
    seen = predictions.select(policy.names)
    gauges = [policy.pattern.gauge(seen, line.name, line.index) for line in (one, two)]
    pair = PairSearch(gauges[0], gauges[1], corners, caps)
    thresholds, totals, exact = pair.refined() if refine else pair.on_lattice()
    method = (
        f"exact over all {pair.n_pairs:,} pairs of distinct thresholds"
        if exact
        else f"best of {pair.n_lattice:,} pairs of thresholds, the most promising of the rest looked into"
    )
    return Found(_at(policy, lines, thresholds), totals, method, exact)


def _best_cascade(policy: Policy, predictions: Predictions, truth: Labels, goal: Goal) -> Found | None:
    """Find the best pair of thresholds of a cascade for right answers at a price, the fastest way; None for others.

    Where no thresholds keep the limit, those are wanted that exceed it least: the most accurate, or the cheapest.
    """
    n = len(truth)
    if goal == replace(goal, kind=CHEAPEST, budget=None, seconds=None):
        floor = 0.0 if goal.floor is None else goal.floor
        wanted, fallback = Wanted(min_accuracy=floor), Wanted(max_cost_per_1000=np.inf)
    elif goal == replace(goal, kind=MOST_ACCURATE, floor=None, seconds=None):
        budget = np.inf if goal.budget is None else goal.budget
        wanted, fallback = Wanted(max_cost_per_1000=budget), Wanted(min_accuracy=0.0)
    else:
        return None
    chain = chain_of_three(policy, predictions, truth)
    if chain is None:
        return None
    found = best_pair(policy, chain, wanted) or best_pair(policy, chain, fallback)
    assert found is not None  # any thresholds meet the fallback
    wrong, cost = n - round(found.accuracy * n), found.cost_per_1000 / 1000 * n
    totals = (cost, wrong, wrong) if goal.kind == CHEAPEST else (wrong, cost, cost)
    method = "exact over all pairs of distinct thresholds"
    return Found(found.policy, np.array(totals[: 2 + len(goal.limits)], dtype=np.float64), method, True)


def _many(
    policy: Policy,
    lines: Sequence[Threshold],
    predictions: Predictions,
    truth: Labels,
    goal: Goal,
    counts: Floats,
    caps: Floats,
) -> Found:
    """Move one threshold after the other to its best, from several starts, until none moves."""
    found: list[Found] = []
    for start in (0.0, 0.5, 0.8, NEVER):
        now = _one(_at(policy, lines, (start,) * len(lines)), lines[0], predictions, truth, goal, counts, caps)
        for _ in range(ROUNDS):
            before = now.key(caps)
            for line in lines:
                now = _one(now.policy, line, predictions, truth, goal, counts, caps)
            if now.key(caps) >= before:
                break
        found.append(now)
    chosen = min(found, key=lambda f: f.key(caps))
    method = f"one threshold after the other over all distinct values, from {len(found)} starts; not proven best"
    return replace(chosen, method=method, exact=False)


def with_classes(policy: Policy, by_class: tuple[float | None, ...]) -> Policy:
    """Return triage with these thresholds of its predicted classes; other patterns as they are."""
    if not isinstance(policy.pattern, Triage) or policy.pattern.by_class == by_class:
        return policy
    return replace(policy, pattern=replace(policy.pattern, by_class=by_class))


def _at(policy: Policy, lines: Sequence[Threshold], values: Sequence[float]) -> Policy:
    for line, value in zip(lines, values, strict=True):
        policy = with_threshold(policy, line.name, line.index, float(value))
    return policy


def thresholds_of(policy: Policy) -> dict[str, float]:
    """Return all numbers that a search sets, by a name that tells them apart; a class under its code."""
    found = {line.title: line.value for line in policy.thresholds() if line.value is not None}
    own = parameters(policy.pattern).get("by_class") or ()
    return found | {f"class {code}": value for code, value in enumerate(own) if value is not None}
