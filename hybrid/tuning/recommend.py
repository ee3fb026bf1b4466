"""Recommend: the best policy for a goal, what limits it, and how much of that is luck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics.summary import Interval, PairedDifference, Summary, mean_interval, paired_difference, summarize
from hybrid.routing.engine import Policy, parameters, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Floats, Labels, Predictions
from hybrid.tuning.goals import LEAST_TOTAL, Goal, violation
from hybrid.tuning.search import MIN_CLASS_ROWS, Found, search, search_by_class, thresholds_of

RESAMPLES = 200
BAND = 0.9  # of the resamples lie within a stability band


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows that every tier in question has answered, and their classes."""

    predictions: Predictions
    truth: Labels

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best that one way of routing can do for a goal, on tune; `total` is USD per 1,000, where that is the aim."""

    policy: Policy
    feasible: bool
    tune: Summary
    method: str
    exact: bool
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What was found for a goal.

    Parameters
    ----------
    policy
        The best on tune; where no policy keeps the limits, the one that breaks them least.
    feasible
        Whether it keeps every limit on tune.
    binding
        The limits without which a better one would have been found; of an infeasible goal, those that are broken.
    method, exact
        How it was found, and whether it is proven best among all distinct thresholds.
    tune, test
        What it does where it was chosen, and on rows that had no part in that; `test` None where there are none.
    candidates
        The best of every way of routing, the best first.
    totals
        Inference cost plus the cost of wrong answers, USD per 1,000, on tune and on test; None where that is not the
        aim, or there are no test rows.
    """

    goal: Goal
    policy: Policy
    feasible: bool
    binding: tuple[str, ...]
    method: str
    exact: bool
    tune: Summary
    test: Summary | None
    candidates: tuple[Candidate, ...]
    totals: tuple[Interval | None, Interval | None] = (None, None)

    @property
    def optimism(self) -> float | None:
        """Accuracy on tune minus accuracy on test."""
        return None if self.test is None else self.tune.accuracy.value - self.test.accuracy.value


def recommend(
    policies: Sequence[Policy], tune: Labelled, goal: Goal, *, test: Labelled | None = None
) -> Recommendation:
    """Find the best thresholds over one policy, or over all of several.

    Parameters
    ----------
    policies
        Ways of routing; their thresholds are set by the search, and every choice of their other parameters
        (a vote's strategy, a judge or none) is tried.
    tune
        Where to choose.
    test
        Where to report.

    Raises
    ------
    TierError
        If there is nothing to choose from or no row to choose on.

    References
    ----------
    Chen, Zaharia & Zou 2020, FrugalML (thresholds per label under a budget); Everett 1963 (a price on a limit).

    Examples
    --------
    >>> from hybrid.routing.table import Tier
    >>> tiers = (Tier("classifier", "classifier"), Tier("llm", "recorded", price=0.003))
    >>> table = Predictions(
    ...     tiers, ("a", "b"), np.array([[0, 0], [1, 0], [1, 1]]), np.array([[0.9, 1], [0.4, 1], [0.7, 1]]),
    ...     np.array([[0, 0.003]] * 3), np.array([[0, 0.4]] * 3))
    >>> found = recommend([Policy(Triage(), tiers)], Labelled(table, np.array([0, 0, 1])), Goal("cheapest", floor=1.0))
    >>> found.policy.pattern.threshold, found.exact, found.binding
    (0.7, True, ('accuracy at least 100.0%',))
    """
    if not policies:
        raise TierError("There is no policy to choose from: pick a pattern and its tiers.")
    if not len(tune):
        raise TierError("There is no row to choose on: no row has an answer from every tier.")
    caps = goal.caps(len(tune))
    found = sorted((f for p in policies for f in _all_ways(p, tune, goal)), key=lambda f: f.key(caps))
    chosen = found[0]
    over = violation(chosen.totals[:, None], caps)[0]
    return Recommendation(
        goal,
        chosen.policy,
        not over,
        _binding(chosen, tune, goal, caps),
        chosen.method,
        chosen.exact,
        _measure(chosen.policy, tune),
        _measure(chosen.policy, test) if test is not None and len(test) else None,
        tuple(
            Candidate(
                f.policy,
                not f.key(caps)[0],
                _measure(f.policy, tune),
                f.method,
                f.exact,
                1000 * float(f.totals[0]) / len(tune) if goal.kind == LEAST_TOTAL else None,
            )
            for f in _best_of_each(found)
        ),
        (_total(chosen.policy, tune, goal), _total(chosen.policy, test, goal)),
    )


def _total(policy: Policy, on: Labelled | None, goal: Goal) -> Interval | None:
    if goal.kind != LEAST_TOTAL or on is None or not len(on):
        return None
    return mean_interval(1000 * goal.total_cost(replay(policy, on.predictions), on.truth))


def _best_of_each(found: Sequence[Found]) -> list[Found]:
    """Return the first of each pattern over the same tiers."""
    seen: dict[tuple[str, tuple[str, ...], bool], Found] = {}
    for f in found:
        seen.setdefault((f.policy.pattern.title, f.policy.names, _has_classes(f.policy)), f)
    return list(seen.values())


def _measure(policy: Policy, on: Labelled) -> Summary:
    return summarize(replay(policy, on.predictions), on.truth)


def _has_classes(policy: Policy) -> bool:
    return isinstance(policy.pattern, Triage) and bool(policy.pattern.by_class)


def _all_ways(policy: Policy, on: Labelled, goal: Goal) -> Iterator[Found]:
    for way in ways(policy):
        yield search(way, on.predictions, on.truth, goal)
        if goal.by_class and isinstance(way.pattern, Triage):
            yield search_by_class(way, on.predictions, on.truth, goal)


def ways(policy: Policy) -> list[Policy]:
    """Return the policy with every choice of what is not a threshold, and every optional threshold off and on."""
    options: dict[str, tuple[object, ...]] = {}
    for p in policy.pattern.params():
        if p.choices:
            options[p.name] = p.choices
        elif p.threshold and p.optional:
            options[p.name] = (None, 1.0) if len(policy.tiers) > 2 else (None,)  # a judge needs two members
    found = []
    for values in product(*options.values()):
        chosen = dict(parameters(policy.pattern)) | dict(zip(options, values, strict=True))
        found.append(replace(policy, pattern=type(policy.pattern)(**chosen)))
    return found


def _binding(chosen: Found, on: Labelled, goal: Goal, caps: Floats) -> tuple[str, ...]:
    broken = chosen.totals[2:] > caps
    if broken.any():
        return tuple(words for words, over in zip(goal.limits, broken, strict=True) if over)
    found = []
    for free in (replace(goal, floor=None), replace(goal, budget=None), replace(goal, seconds=None)):
        if free == goal:
            continue
        without = _search_like(chosen.policy, on, free)
        if without.totals[0] < chosen.totals[0] * (1 - 1e-9) - 1e-12:
            found.append(next(w for w in goal.limits if w not in free.limits))
    return tuple(found)


def _search_like(policy: Policy, on: Labelled, goal: Goal, weights: Floats | None = None) -> Found:
    """Search again in the same way of routing: with thresholds per class where the policy has them."""
    find = search_by_class if _has_classes(policy) else search
    return find(policy, on.predictions, on.truth, goal, weights=weights)


@dataclass(frozen=True, slots=True)
class Stability:
    """Where a choice lands when the tune rows are drawn again.

    Parameters
    ----------
    thresholds
        For each threshold its name, its value as chosen, and the band that holds 90 % of the resamples.
    accuracy, escalation_rate, cost_per_1000
        Of the policies that the resamples chose, measured on the rows given: the 90 % band.
    n
        Resamples.
    """

    thresholds: tuple[tuple[str, float, float, float], ...]
    accuracy: tuple[float, float]
    escalation_rate: tuple[float, float]
    cost_per_1000: tuple[float, float]
    n: int


def stability(
    chosen: Recommendation, tune: Labelled, *, measured_on: Labelled, n: int = RESAMPLES, seed: int = 0
) -> Stability:
    """Choose again on `n` bootstrap resamples of the tune rows, in the same way of routing.

    Thresholds per class are priced rather than exact, and pairs taken from a lattice, in the resamples.
    """
    rng = np.random.default_rng(seed)
    values, outcomes = [], []
    now = thresholds_of(chosen.policy)
    for _ in range(n):
        counts = rng.multinomial(len(tune), np.full(len(tune), 1 / len(tune))).astype(np.float64)
        policy = _search_like(chosen.policy, tune, chosen.goal, counts).policy
        found = thresholds_of(policy)
        values.append([found.get(name, np.nan) for name in now])
        o = replay(policy, measured_on.predictions)
        outcomes.append((np.mean(o.label == measured_on.truth), np.mean(o.asked[:, -1]), 1000 * float(np.mean(o.cost))))
    ends = [(1 - BAND) / 2, (1 + BAND) / 2]
    bands = np.nanquantile(np.array(values).reshape(n, -1), ends, axis=0).T if now else []
    accuracy, escalation, cost = np.quantile(np.array(outcomes), ends, axis=0).T
    return Stability(
        tuple((name, now[name], float(low), float(high)) for name, (low, high) in zip(now, bands, strict=True)),
        (float(accuracy[0]), float(accuracy[1])),
        (float(escalation[0]), float(escalation[1])),
        (float(cost[0]), float(cost[1])),
        n,
    )


@dataclass(frozen=True, slots=True)
class ByClass:
    """Thresholds per predicted class beside one threshold for all, both the best for the same goal.

    `gain` is the former minus the latter, paired on the rows that are reported on.
    """

    by_class: Policy
    one: Policy
    gain: PairedDifference
    method: str
    exact: bool


def per_class_thresholds(
    policy: Policy, tune: Labelled, goal: Goal, *, report_on: Labelled, min_rows: int = MIN_CLASS_ROWS
) -> ByClass:
    """Choose a threshold for each predicted class of triage on tune, and report the gain over one threshold.

    Parameters
    ----------
    policy
        Triage over two tiers.
    report_on
        The test rows.
    min_rows
        Rows on which the cheap tier predicts a class, below which it shares the common threshold.

    Raises
    ------
    TierError
        If the policy is not triage.
    """
    if not isinstance(policy.pattern, Triage):
        raise TierError(f"Only triage has a threshold for each predicted class, {policy.pattern.title} has not.")
    one = search(policy, tune.predictions, tune.truth, goal)
    many = search_by_class(policy, tune.predictions, tune.truth, goal, min_rows=min_rows)
    a, b = (replay(f.policy, report_on.predictions) for f in (one, many))
    return ByClass(many.policy, one.policy, paired_difference(a, b, report_on.truth), many.method, many.exact)
