"""Stability: where a choice lands when its rows are drawn again, and what thresholds per class gain over one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics.summary import PairedDifference, paired_difference
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.tuning.goals import Goal
from hybrid.tuning.recommend import Labelled, Recommendation, search_like
from hybrid.tuning.search import MIN_CLASS_ROWS, search, search_by_class, thresholds_of

RESAMPLES = 200
BAND = 0.9  # of the resamples lie within a stability band


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
    """Choose again on `n` bootstrap resamples of the tune rows, or of their groups, in the same way of routing.

    Thresholds per class are priced rather than exact, and pairs taken from a lattice, in the resamples.
    """
    rng = np.random.default_rng(seed)
    codes = np.arange(len(tune)) if tune.groups is None else np.unique(tune.groups, return_inverse=True)[1]
    units = int(codes.max()) + 1
    values, outcomes = [], []
    now = thresholds_of(chosen.policy)
    for _ in range(n):
        counts = rng.multinomial(units, np.full(units, 1 / units)).astype(np.float64)[codes]
        policy = search_like(chosen.policy, tune, chosen.goal, counts, pull=chosen.pull).policy
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
    gain = paired_difference(a, b, report_on.truth, groups=report_on.groups)
    return ByClass(many.policy, one.policy, gain, many.method, many.exact)
