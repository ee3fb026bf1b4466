"""Gains: what routing between a weak and a strong tier recovers of the gap between them, and what it saves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.metrics.intervals import LEVEL, expanded_tail
from hybrid.metrics.summary import Interval
from hybrid.routing.table import Bools, Floats, Rows


def performance_gap_recovered(accuracy: Floats, *, weak: float, strong: float) -> Floats | None:
    """Return PGR = (accuracy − weak) / (strong − weak); None where the strong tier is not more accurate.

    References
    ----------
    Ong et al. 2024, RouteLLM.
    """
    if strong <= weak:
        return None
    found: Floats = (np.asarray(accuracy, dtype=np.float64) - weak) / (strong - weak)
    return found


@dataclass(frozen=True, slots=True)
class RoutingGain:
    """A curve of policies between a weak and a strong tier, in the numbers of the field.

    Parameters
    ----------
    apgr
        Mean PGR over the share of strong calls, 0 to 1; random routing has 0.5. None where PGR is undefined.
    cpt
        (x, share) pairs: the least share of strong calls of a policy on the curve that recovers x of the gap.
        Empty where PGR is undefined.
    cost_save
        The largest relative cut of cost that keeps the best single tier's accuracy; None where no policy keeps it
        or that tier costs nothing.
    """

    apgr: float | None
    cpt: tuple[tuple[float, float], ...]
    cost_save: float | None


CPT_LEVELS = (0.5, 0.8, 0.95)


def routing_gain(
    share: Floats, accuracy: Floats, cost: Floats, *, weak: tuple[float, float], strong: tuple[float, float]
) -> RoutingGain:
    """Measure a curve of policies from the weak tier alone to the strong tier alone.

    Parameters
    ----------
    share, accuracy, cost
        Of strong calls, of right answers, and any unit of cost; shape ``(n_points,)``.
    weak, strong
        (cost, accuracy) of each tier alone.

    References
    ----------
    Ong et al. 2024, RouteLLM (PGR, APGR, CPT); LLMRouterBench (CostSave).

    Examples
    --------
    Two policies: at 20 % of strong calls four fifths of the gap are recovered.

    >>> routing_gain(np.array([0.0, 0.2]), np.array([0.8, 0.88]), np.array([0.0, 0.6]),
    ...              weak=(0.0, 0.8), strong=(3.0, 0.9)).cpt
    ((0.5, 0.2), (0.8, 0.2), (0.95, 1.0))
    """
    # the strong tier alone is always to be had
    share, accuracy = np.append(share, 1.0), np.append(accuracy, strong[1])
    cost = np.append(cost, strong[0])
    best_cost, best_accuracy = max((weak, strong), key=lambda t: (t[1], -t[0]))
    keeps = accuracy >= best_accuracy - 1e-12
    save = float(1 - cost[keeps].min() / best_cost) if best_cost > 0 and keeps.any() else None
    gap = performance_gap_recovered(accuracy, weak=weak[1], strong=strong[1])
    if gap is None:
        return RoutingGain(None, (), save)
    cpt = tuple((x, float(share[gap >= x - 1e-12].min())) for x in CPT_LEVELS)  # never read between two points
    order = np.argsort(share, kind="stable")
    x, y = np.concatenate([[0.0], share[order]]), np.concatenate([[0.0], gap[order]])
    return RoutingGain(float(np.trapezoid(y, x)), cpt, save)


def break_even_price(rest_a: float, calls_a: float, rest_b: float, calls_b: float) -> float | None:
    """Return the price of a call at which two policies cost the same, per row.

    Parameters
    ----------
    rest_a, rest_b
        USD per row that the other tiers cost.
    calls_a, calls_b
        Calls per row of the tier whose price is asked for.

    Returns
    -------
    float or None
        None where no price does: both call as often, or one is dearer at any price.
    """
    if calls_a == calls_b:
        return None
    price = (rest_b - rest_a) / (calls_a - calls_b)
    return price if price >= 0 else None


GAP_REPLICATES = 1_000
MAX_STEPS = 1_000  # of a confidence that the bootstrap keeps apart


def gap_intervals(
    confidence: Floats, weak: Bools, strong: Bools, policy: Bools, *, n: int = GAP_REPLICATES, seed: int = 0
) -> tuple[Interval, Interval] | None:
    """Return PGR of a policy and APGR of triage between two tiers, with their bootstrap intervals.

    A resample of rows is a multinomial draw over what occurs: a confidence, and who is right at it. Percentiles are
    expanded as those of a mean are, over the rows on which the two tiers differ. CPT and CostSave get no interval: they
    are the best of all thresholds on the very rows, and resampling these repeats the luck of that choice.

    Parameters
    ----------
    confidence
        Of the weak tier, shape ``(n_rows,)``.
    weak, strong, policy
        Whether each tier alone, and the policy whose PGR is asked for, is right; same shape.

    Returns
    -------
    pgr, apgr
        None where more than 2.5 % of the resamples have no gap to divide by: it cannot be told from 0.

    References
    ----------
    Hesterberg 2015, What Teachers Should Know About the Bootstrap (expanded percentiles).
    """
    steps = np.unique(confidence, return_inverse=True)[1]
    if steps.max(initial=0) >= MAX_STEPS:
        steps = steps * MAX_STEPS // (int(steps.max()) + 1)
    cells, size = np.unique(((steps * 2 + weak) * 2 + strong) * 2 + policy, return_counts=True)
    seen = size / len(steps)
    drawn = np.random.default_rng(seed).multinomial(len(steps), seen, size=n) / len(steps)
    values, gap = _recovered(np.vstack([seen, drawn]), cells)
    tail, differ = (1 - LEVEL) / 2, int(np.sum(weak != strong))
    if gap[0] <= 0 or np.mean(gap[1:] <= 0) > tail or differ < 2:
        return None
    tail = expanded_tail(differ, differ - 1, level=LEVEL)
    low, high = np.quantile(values[1:][gap[1:] > 0], [tail, 1 - tail], axis=0)
    pgr, apgr = (Interval(float(values[0, k]), float(low[k]), float(high[k])) for k in (0, 1))
    return pgr, apgr


def _recovered(share: Floats, cells: Rows) -> tuple[Floats, Floats]:
    """Return PGR and APGR for each way to weigh the cells, shape ``(n, 2)``, and the gap that they divide by."""
    rest, policy = np.divmod(cells, 2)
    rest, strong = np.divmod(rest, 2)
    step, weak = np.divmod(rest, 2)
    ends = np.append(np.flatnonzero(np.diff(step)), len(step) - 1)
    base, none = share @ weak, np.zeros((len(share), 1))
    calls = np.concatenate([none, np.cumsum(share, axis=1)[:, ends]], axis=1)
    gained = np.concatenate([none, np.cumsum(share * (strong - weak), axis=1)[:, ends]], axis=1)
    gap = share @ strong - base
    area = np.sum(np.diff(calls, axis=1) * (gained[:, 1:] + gained[:, :-1]) / 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.column_stack([share @ policy - base, area]) / gap[:, None]
    return found, gap
